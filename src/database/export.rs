//! A day's databases as one stream of SQL for `psql -f - postgres` on an empty server, as pg_dumpall would write it.
//!
//! Globals come first, then each database: its creation and properties, pre-data, the rows from `load.txt` and its
//! segments, and pg_restore's data and post-data of what is in `rest.dump`. Every file is held against its digest
//! before the first byte of it goes out. Each table is loaded in a transaction of its own: should the stream break off
//! in the middle of a table (which psql takes for the end of its rows), the table stays empty instead of half full.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use tokio::io::AsyncReadExt as _;

use super::archive;
use super::decode::{self, DecodeError};
use crate::event::Context;
use crate::fs::{self, OnPath as _};
use crate::manifest::{DatabaseEntry, Manifest};
use crate::postgres::{self, Programs};
use crate::process;

/// How much is moved at once.
const CHUNK: usize = 128 * 1024;

/// A day could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The day has no database.
    #[error("the day {day} holds no database")]
    NoDatabase {
        /// Its name.
        day: String,
    },
    /// A database that was asked for is not in it.
    #[error("the day {day} holds no database {name:?}; it holds {}", held.join(", "))]
    NoSuchDatabase {
        /// The day.
        day: String,
        /// What was asked for.
        name: String,
        /// What there is.
        held: Vec<String>,
    },
    /// A file cannot be read.
    #[error("{0}: {cause}", cause = .0.source)]
    File(#[from] fs::Error),
    /// A file is not what was written.
    #[error("{} is damaged: {problem}; see `daykeep verify`", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A segment of a table's rows is not what was written.
    #[error("{} is damaged: {problem}; it holds rows of {table}; see `daykeep verify`", path.display())]
    DamagedRows {
        /// The file.
        path: PathBuf,
        /// Its table, as in SQL.
        table: String,
        /// What is wrong with it.
        problem: String,
    },
    /// pg_restore is not there or too old.
    #[error(transparent)]
    Programs(Box<postgres::Error>),
    /// pg_restore failed.
    #[error("cannot read {}: {source}", path.display())]
    Restore {
        /// The archive.
        path: PathBuf,
        /// What happened.
        source: process::Error,
    },
    /// Nobody reads the stream any more.
    #[error("cannot write the stream: {0}")]
    Out(#[source] io::Error),
    /// The caller wants no more.
    #[error("the export was cancelled")]
    Cancelled,
}

/// Writes the databases of the day in `day` to `out`. `databases` chooses some of them, which then come without the
/// globals (as `pg_dump --create` would write them). `bin_dir` is where pg_restore is looked for; None: the newest of this
/// machine.
///
/// # Errors
/// Something of the day cannot be read or is damaged, pg_restore fails, `out` takes no more, or the run is cancelled. What
/// was written until then ends before or inside a table, never behind rows that are not those of the day.
pub async fn export(
    day: &Path,
    manifest: &Manifest,
    bin_dir: Option<&Path>,
    databases: Option<&[String]>,
    out: &mut (dyn Write + Send),
    context: &Context,
) -> Result<(), ExportError> {
    let record =
        manifest.database.as_ref().ok_or_else(|| ExportError::NoDatabase { day: manifest.day.clone() })?;
    let chosen = choose(manifest, &record.databases, databases)?;
    let major = archive::major_of(&record.pg_dump_version).unwrap_or(0).max(record.server_version / 10_000);
    let programs = postgres::find_programs(bin_dir, major).await;
    let programs = programs.map_err(|error| ExportError::Programs(Box::new(error)))?;
    let mut stream = Stream { day, manifest, programs, out, context };
    stream.text(&format!(
        "-- {} of {}, exported by daykeep {}\n\n",
        manifest.day,
        one_line(&manifest.repository),
        env!("CARGO_PKG_VERSION")
    ))?;
    if databases.is_none() {
        stream.globals()?;
    }
    for entry in chosen {
        stream.database(entry).await?;
    }
    stream.out.flush().map_err(ExportError::Out)
}

/// The databases to write: template1 first, as pg_dumpall does, so that what follows is made on top of it.
fn choose<'a>(
    manifest: &Manifest,
    entries: &'a [DatabaseEntry],
    wanted: Option<&[String]>,
) -> Result<Vec<&'a DatabaseEntry>, ExportError> {
    let mut chosen: Vec<&DatabaseEntry> = match wanted {
        None => entries.iter().collect(),
        Some(names) => names
            .iter()
            .map(|name| {
                entries.iter().find(|entry| entry.name == *name).ok_or_else(|| ExportError::NoSuchDatabase {
                    day: manifest.day.clone(),
                    name: name.clone(),
                    held: entries.iter().map(|entry| format!("{:?}", entry.name)).collect(),
                })
            })
            .collect::<Result<_, _>>()?,
    };
    chosen.sort_by_key(|entry| entry.name != "template1");
    Ok(chosen)
}

fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Databases that every cluster has from the start: filled, not created.
fn is_initial(database: &str) -> bool {
    matches!(database, "postgres" | "template1")
}

struct Stream<'a> {
    day: &'a Path,
    manifest: &'a Manifest,
    programs: Programs,
    out: &'a mut (dyn Write + Send),
    context: &'a Context,
}

impl Stream<'_> {
    fn text(&mut self, text: &str) -> Result<(), ExportError> {
        self.out.write_all(text.as_bytes()).map_err(ExportError::Out)
    }

    fn cancelled(&self) -> Result<(), ExportError> {
        if self.context.cancel.is_cancelled() { Err(ExportError::Cancelled) } else { Ok(()) }
    }

    fn globals(&mut self) -> Result<(), ExportError> {
        let path = self.day.join("database/globals.sql");
        // A day may be configured to hold none.
        if !fs::exists(&path)? && !self.manifest.digests.contains_key("database/globals.sql") {
            return Ok(());
        }
        self.check(&path)?;
        let mut file = fs::open_regular(&path)?;
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = file.read(&mut chunk).on("read", &path)?;
            if count == 0 {
                return self.text("\n");
            }
            self.out.write_all(&chunk[..count]).map_err(ExportError::Out)?;
        }
    }

    /// Holds a file of the day against the digest that the manifest has of it.
    fn check(&self, path: &Path) -> Result<(), ExportError> {
        let name = path.strip_prefix(self.day).unwrap_or(path).to_string_lossy();
        let mut hasher = blake3::Hasher::new();
        let mut file = fs::open_regular(path)?;
        let mut chunk = vec![0; CHUNK];
        loop {
            self.cancelled()?;
            let count = file.read(&mut chunk).on("read", path)?;
            if count == 0 {
                break;
            }
            hasher.update(&chunk[..count]);
        }
        match self.manifest.digests.get(name.as_ref()) {
            Some(digest) if *digest != hasher.finalize().to_hex().as_str() => Err(ExportError::Damaged {
                path: path.to_owned(),
                problem: "its BLAKE3 digest is not the one in manifest.json".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    async fn database(&mut self, entry: &DatabaseEntry) -> Result<(), ExportError> {
        let dir = self.day.join("database").join(&entry.directory);
        let archive = dir.join("rest.dump");
        self.check(&archive)?;
        self.create(entry, &archive).await?;
        self.section(&archive, "pre-data").await?;
        self.rows(entry, &dir)?;
        self.section(&archive, "data").await?;
        self.section(&archive, "post-data").await
    }

    /// Makes the database and what belongs to it as a whole (owner, ACL, comment, settings), and connects to it.
    async fn create(&mut self, entry: &DatabaseEntry, archive: &Path) -> Result<(), ExportError> {
        let failed = |source| ExportError::Restore { path: archive.to_owned(), source };
        let cancel = &self.context.cancel;
        let list = archive::list(&self.programs, archive, cancel).await.map_err(failed)?;
        let made = archive::creation(&self.programs, archive, &list, cancel).await.map_err(failed)?;
        // What a setting of the database forbids to its users must not stop its restore.
        // A name means the same bytes only in databases of one encoding: it is made from the one where the globals were.
        self.text("\\setenv PGOPTIONS '-c default_transaction_read_only=off'\n\\connect postgres\n")?;
        let statement = format!("CREATE DATABASE {} ", entry.name);
        let mut is_there = is_initial(&entry.name);
        for line in made.split_inclusive(|byte| *byte == b'\n') {
            if is_there && line.starts_with(statement.as_bytes()) {
                is_there = false;
                continue;
            }
            self.out.write_all(line).map_err(ExportError::Out)?;
        }
        Ok(())
    }

    /// One section of the archive, but for what [`Self::create`] has written.
    async fn section(&mut self, archive: &Path, section: &str) -> Result<(), ExportError> {
        let failed = |source| ExportError::Restore { path: archive.to_owned(), source };
        let section = format!("--section={section}");
        let mut running =
            archive::command(&self.programs, archive, &["--file=-", &section]).start().map_err(failed)?;
        if let Some(mut stdout) = running.take_stdout() {
            let mut chunk = vec![0; CHUNK];
            loop {
                let read = tokio::select! {
                    read = stdout.read(&mut chunk) => read,
                    () = self.context.cancel.cancelled() => return Err(ExportError::Cancelled),
                };
                let count = read.on("read what pg_restore makes of", archive)?;
                if count == 0 {
                    break;
                }
                self.out.write_all(&chunk[..count]).map_err(ExportError::Out)?;
            }
        }
        running.finish().await.map_err(failed)
    }

    /// The tables that `load.txt` lists, in its order.
    fn rows(&mut self, entry: &DatabaseEntry, dir: &Path) -> Result<(), ExportError> {
        let path = dir.join("load.txt");
        self.check(&path)?;
        let tables = dir.join("tables");
        let mut table = String::new();
        // Names are in UTF-8 in every database's list, rows in the database's own encoding.
        self.text("\nSET client_encoding = 'UTF8';\n\n")?;
        for line in BufReader::new(fs::open_regular(&path)?).lines() {
            self.cancelled()?;
            let line = line.on("read", &path)?;
            let step = Step::parse(&line).ok_or_else(|| ExportError::Damaged {
                path: path.clone(),
                problem: format!("it holds the line {line:?}"),
            })?;
            match step {
                Step::Table(copy) => {
                    copy.clone_into(&mut table);
                    let encoding = postgres::literal(&entry.encoding);
                    self.text(&format!("BEGIN;\nCOPY {copy} FROM stdin WITH (ENCODING {encoding});\n"))?;
                }
                Step::Segment { digest, base } => self.segment(&tables, &table, digest, base)?,
                Step::End => self.text("\\.\nCOMMIT;\n\n")?,
            }
        }
        Ok(())
    }

    /// One segment's text: first to its digest alone, then, when that is right, to the stream.
    fn segment(
        &mut self,
        tables: &Path,
        table: &str,
        digest: &str,
        base: Option<&str>,
    ) -> Result<(), ExportError> {
        let rows_of = |error: DecodeError| match error {
            DecodeError::File(error) => ExportError::File(error),
            DecodeError::Damaged { path, problem } => {
                ExportError::DamagedRows { path, table: table.to_owned(), problem }
            }
            DecodeError::Out(error) => ExportError::Out(error),
        };
        let base = decode::base_text(tables, base).map_err(rows_of)?;
        decode::decode(tables, digest, base.as_deref(), &mut io::sink()).map_err(rows_of)?;
        decode::decode(tables, digest, base.as_deref(), self.out).map_err(rows_of)
    }
}

/// A line of `load.txt`.
enum Step<'a> {
    /// `T COPY "public"."t" ("a", "b") FROM stdin;`: the rows that follow are this table's (and columns').
    Table(&'a str),
    /// `F <blake3>` and `P <blake3> <base blake3>`: a stretch of them, whole or as a patch against the base's text.
    Segment { digest: &'a str, base: Option<&'a str> },
    /// `E`: they end.
    End,
}

impl<'a> Step<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        if line == "E" {
            return Some(Self::End);
        }
        let (kind, rest) = line.split_once(' ')?;
        match kind {
            "T" => rest.strip_prefix("COPY ")?.strip_suffix(" FROM stdin;").map(Self::Table),
            "F" => digest(rest).map(|digest| Self::Segment { digest, base: None }),
            "P" => {
                let (text, base) = rest.split_once(' ')?;
                Some(Self::Segment { digest: digest(text)?, base: Some(digest(base)?) })
            }
            _ => None,
        }
    }
}

/// A BLAKE3 digest in hex; nothing else becomes part of a path.
fn digest(text: &str) -> Option<&str> {
    (text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::Step;

    #[test]
    fn the_lines_of_a_load_list() {
        let a = "a".repeat(64);
        assert!(matches!(
            Step::parse(r#"T COPY "s"."t" ("a") FROM stdin;"#),
            Some(Step::Table(r#""s"."t" ("a")"#))
        ));
        assert!(matches!(Step::parse(&format!("F {a}")), Some(Step::Segment { base: None, .. })));
        assert!(matches!(Step::parse(&format!("P {a} {a}")), Some(Step::Segment { base: Some(_), .. })));
        assert!(matches!(Step::parse("E"), Some(Step::End)));
        for wrong in ["", "E ", "F", "F ../../etc/passwd", "T DROP TABLE t;", "P aa bb", "X 1"] {
            assert!(Step::parse(wrong).is_none(), "{wrong}");
        }
    }
}

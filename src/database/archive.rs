//! `rest.dump`, read by pg_restore.

use std::ffi::OsString;
use std::path::Path;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio_util::sync::CancellationToken;

use crate::postgres::Programs;
use crate::process::{self, Program};

/// Has pg_restore restore what a list on its stdin names.
pub const USE_LIST: &str = "--use-list=/dev/stdin";

/// What pg_restore says to `input`; for what is small.
///
/// # Errors
/// pg_restore fails, or the run is cancelled.
pub async fn ask(
    programs: &Programs,
    archive: &Path,
    args: &[&str],
    input: &[u8],
    cancel: &CancellationToken,
) -> Result<Vec<u8>, process::Error> {
    answer(&command(programs, archive, args), input, cancel).await
}

/// What a program says to `input`; for what is small.
///
/// # Errors
/// It fails, or the run is cancelled.
pub async fn answer(
    program: &Program,
    input: &[u8],
    cancel: &CancellationToken,
) -> Result<Vec<u8>, process::Error> {
    let mut running = program.start_with_stdin()?;
    if let Some(mut stdin) = running.take_stdin() {
        // One that reads no further tells why by its status.
        let _ = stdin.write_all(input).await;
    }
    let mut said = Vec::new();
    let pipe = running.take_stdout();
    let work = async {
        if let Some(mut stdout) = pipe {
            let read = stdout.read_to_end(&mut said).await;
            read.map_err(|source| process::Error::Read { program: program.name(), source })?;
        }
        running.finish().await
    };
    let ended = tokio::select! {
        ended = work => ended,
        () = cancel.cancelled() => Err(process::Error::Cancelled { program: program.name() }),
    };
    ended.map(|()| said)
}

/// pg_restore on an archive.
pub fn command(programs: &Programs, archive: &Path, args: &[&str]) -> Program {
    let program = Program::new([programs.path("pg_restore")]);
    args.iter().fold(program, |program, arg| program.arg(*arg)).arg(archive)
}

/// The list of what is in an archive.
///
/// # Errors
/// pg_restore fails, or the run is cancelled.
pub async fn list(
    programs: &Programs,
    archive: &Path,
    cancel: &CancellationToken,
) -> Result<String, process::Error> {
    let listed = ask(programs, archive, &["--list", "--create"], &[], cancel).await?;
    Ok(String::from_utf8_lossy(&listed).into_owned())
}

/// The script that makes the database and what belongs to it as a whole: owner, ACL, comment, settings. `list` is the archive's.
///
/// # Errors
/// pg_restore fails, or the run is cancelled.
pub async fn creation(
    programs: &Programs,
    archive: &Path,
    list: &str,
    cancel: &CancellationToken,
) -> Result<Vec<u8>, process::Error> {
    // pg_restore --create writes DATABASE and its properties whatever the list says; the list adds the rest.
    let create = ["--create", "--file=-", USE_LIST];
    ask(programs, archive, &create, database_entries(list).as_bytes(), cancel).await
}

/// Sections of an archive as a script for psql.
#[derive(Debug)]
pub struct Script<'a> {
    /// Where pg_restore and psql are.
    pub programs: &'a Programs,
    /// The archive.
    pub archive: &'a Path,
    /// `--section=...`
    pub sections: &'a [&'a str],
    /// The list of what is restored of them; None: all.
    pub list: Option<&'a str>,
    /// How psql reaches the server.
    pub environment: Vec<(OsString, Option<OsString>)>,
}

/// Restores through psql: pg_restore since 17 sets a parameter that older servers do not have.
///
/// # Errors
/// A program fails, or the run is cancelled.
pub async fn through_psql(
    script: Script<'_>,
    dbname: &str,
    cancel: &CancellationToken,
) -> Result<(), process::Error> {
    let mut args: Vec<&str> = [&["--file=-"], script.sections].concat();
    args.extend(script.list.map(|_| USE_LIST));
    let writer = command(script.programs, script.archive, &args);
    let mut reader = Program::new([script.programs.path("psql")]);
    for arg in ["-X", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f", "-"] {
        reader = reader.arg(arg);
    }
    for (name, value) in script.environment {
        reader = reader.env(name, value);
    }
    reader = reader.env("PGDATABASE", Some(dbname.into()));
    let mut writing = writer.start_with_stdin()?;
    if let Some(mut stdin) = writing.take_stdin() {
        // One that reads no further tells why by its status.
        let _ = stdin.write_all(script.list.unwrap_or_default().as_bytes()).await;
    }
    let mut reading = reader.start_with_stdin()?;
    let (out, input) = (writing.take_stdout(), reading.take_stdin());
    let work = async {
        if let (Some(out), Some(input)) = (out, input) {
            // Who reads no further tells why by its status.
            let _ = without_newer_settings(out, input).await;
        }
        reading.finish().await?;
        writing.finish().await
    };
    tokio::select! {
        ended = work => ended,
        () = cancel.cancelled() => Err(process::Error::Cancelled { program: reader.name() }),
    }
}

async fn without_newer_settings(
    out: impl tokio::io::AsyncRead + Unpin,
    mut input: impl tokio::io::AsyncWrite + Unpin,
) -> std::io::Result<()> {
    let mut out = BufReader::new(out);
    let mut line = Vec::new();
    // It stands in the script's head.
    for _ in 0..40 {
        line.clear();
        if out.read_until(b'\n', &mut line).await? == 0 {
            break;
        }
        if line != b"SET transaction_timeout = 0;\n" {
            input.write_all(&line).await?;
        }
    }
    tokio::io::copy_buf(&mut out, &mut input).await?;
    input.shutdown().await
}

/// 15 of `pg_dump (PostgreSQL) 15.18 (Debian ...)` or `15.18 (Debian ...)`: an archive is read by no older pg_restore.
pub fn major_of(version: &str) -> Option<u32> {
    let number = version.split(|c: char| !c.is_ascii_digit()).find(|part| !part.is_empty())?;
    number.parse().ok()
}

/// Of pg_restore's list, what belongs to the database as a whole.
pub(super) fn database_entries(list: &str) -> String {
    let belongs = |line: &&str| {
        // `4212; 0 0 ACL - DATABASE name owner`; a schema `-` is none.
        let kind = line.splitn(4, ' ').nth(3).unwrap_or("");
        ["ACL", "COMMENT", "SECURITY LABEL"]
            .iter()
            .any(|kind_of| kind.strip_prefix(kind_of).is_some_and(|rest| rest.starts_with(" - DATABASE ")))
    };
    list.lines().filter(belongs).fold(String::new(), |kept, line| kept + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::{database_entries, major_of};

    #[test]
    fn what_belongs_to_the_database_as_a_whole() {
        let list = ";\n; Selected TOC Entries:\n;\n3338; 1262 16388 DATABASE - shop postgres\n\
                    3339; 0 0 COMMENT - DATABASE shop postgres\n3340; 0 0 ACL - DATABASE shop postgres\n\
                    3341; 0 0 COMMENT public TABLE DATABASE postgres\n9; 0 0 SECURITY LABEL - DATABASE shop postgres\n\
                    3342; 0 0 ACL - SCHEMA public pg_database_owner\n";
        let kept = database_entries(list);
        let numbers: Vec<_> = kept.lines().filter_map(|line| line.split(';').next()).collect();
        assert_eq!(numbers, ["3339", "3340", "9"]);
    }

    #[test]
    fn the_major_version_of_a_program() {
        assert_eq!(major_of("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(major_of("18.6"), Some(18));
        assert_eq!(major_of(""), None);
    }
}

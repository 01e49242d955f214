//! Whose gold a damaged file is.
//!
//! FOSSology keeps an upload as it came under a name that says nothing to people. The day's own rows say which uploads it is: `pfile` has the
//! name, `upload` the upload. Both are read from the segments, row by row, and only when gold is damaged: that costs no more than the verify of these
//! tables itself. Files that were unpacked are in `uploadtree`, the largest table of all, and can be unpacked again: they are not asked for.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use super::report::{Damage, Report, shown};
use crate::config::{self, Check, CheckQuery, fossology_paths};
use crate::database::write_rows;
use crate::event::Context;
use crate::manifest::{PathBytes, TableReader, TableRecord};
use crate::vault::Day;

/// So many uploads are named; the same content may have been uploaded many times.
const NAMED: usize = 3;

/// Adds to the damage of every gold file which uploads it is. What cannot be told is a note.
pub(super) fn name(day: &Day, report: &mut Report, context: &Context) {
    for (check, damaged) in gold(day, &report.damages) {
        match uploads_of(day, &check, &damaged, context) {
            Ok(uploads) => {
                for (name, places) in damaged {
                    let Some(uploads) = uploads.get(&name) else { continue };
                    let whose = sentence(uploads);
                    for place in places {
                        report.damages[place].means.push_str(&whose);
                    }
                }
            }
            Err(problem) => {
                let tree = &check.tree;
                report.notes.push(format!(
                    "tree {tree}: which uploads have the damaged gold cannot be told: {problem}"
                ));
            }
        }
    }
}

/// Whether there is anything to be told.
pub(super) fn is_asked_for(day: &Day, report: &Report) -> bool {
    !gold(day, &report.damages).is_empty()
}

/// The damages of gold files by name, for each check that knows where gold lies.
fn gold(day: &Day, damages: &[Damage]) -> Vec<(Check, BTreeMap<String, Vec<usize>>)> {
    let of_trees =
        || damages.iter().enumerate().filter_map(|(at, damage)| Some((at, damage, damage.record.as_ref()?)));
    if of_trees().next().is_none() {
        return Vec::new();
    }
    let manifest = day.manifest();
    // A configuration that cannot be read says of no tree that it is FOSSology's.
    let config = config::parse(&day.path().join("manifest.json"), &manifest.configuration);
    let repository = config.ok().and_then(|mut config| config.repositories.remove(&manifest.repository));
    let mut found = Vec::new();
    for check in repository.into_iter().flat_map(|repository| repository.checks.into_values()) {
        let CheckQuery::Fossology { depth, hosts, .. } = &check.query else { continue };
        let mut damaged: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, damage, record) in of_trees() {
            let Some(path) = record.path.as_path().to_str().filter(|_| record.tree == check.tree) else {
                continue;
            };
            let name = path.rsplit('/').next().unwrap_or_default();
            let is =
                |kind: &str| fossology_paths(hosts, kind, *depth, name).iter().any(|known| known == path);
            // What came as an upload and is a file too has one inode with both names, and its damage is told under the first.
            let may_be_gold = is("gold") || (record.link_group.is_some() && is("files"));
            if damage.fault.is_loss() && may_be_gold {
                damaged.entry(name.to_owned()).or_default().push(at);
            }
        }
        if !damaged.is_empty() {
            found.push((check, damaged));
        }
    }
    found
}

fn sentence(uploads: &[String]) -> String {
    let more = uploads.len().saturating_sub(NAMED);
    let named = uploads[..uploads.len() - more].join(", ");
    match more {
        0 => format!("; it is the gold of {named}, which cannot be unpacked again from this day"),
        more => {
            format!(
                "; it is the gold of {named} and {more} more uploads, which cannot be unpacked again from this day"
            )
        }
    }
}

/// The uploads of each of these names: `upload 7 (linux.tar.xz)`.
fn uploads_of(
    day: &Day,
    check: &Check,
    damaged: &BTreeMap<String, Vec<usize>>,
    context: &Context,
) -> Result<HashMap<String, Vec<String>>, String> {
    let databases = day.manifest().database.iter().flat_map(|database| &database.databases);
    let entry = databases.into_iter().find(|entry| entry.name == check.database);
    let entry = entry.ok_or_else(|| format!("the day does not hold the database {}", check.database))?;
    let home = day.database().join(&entry.directory);
    let records =
        TableReader::open(&home.join("tables.jsonl")).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let records: Vec<TableRecord> = records.map_err(|error| error.to_string())?;
    let read = |table: &str, columns: &[&str], row: &mut dyn FnMut(&[&[u8]])| {
        let record = records.iter().find(|record| record.name == table);
        let record = record.ok_or_else(|| format!("{table} is not among the tables that daykeep copied"))?;
        let place = |column: &&str| record.columns.iter().position(|name| name == column);
        let places: Option<Vec<usize>> = columns.iter().map(place).collect();
        let places = places.ok_or_else(|| format!("{table} has not the columns {}", columns.join(", ")))?;
        let mut lines = Lines { partial: Vec::new(), places, row, context };
        write_rows(&home.join("tables"), record, &mut lines).map_err(|error| error.to_string())
    };
    let mut names: HashMap<Vec<u8>, String> = HashMap::new();
    read("pfile", &["pfile_pk", "pfile_sha1", "pfile_md5", "pfile_size"], &mut |fields| {
        let name = String::from_utf8_lossy(&fields[1..].join(&b'.')).to_lowercase();
        if damaged.contains_key(&name) {
            names.insert(fields[0].to_vec(), name);
        }
    })?;
    let mut uploads: HashMap<String, Vec<String>> = HashMap::new();
    read("upload", &["pfile_fk", "upload_pk", "upload_filename"], &mut |fields| {
        if let Some(name) = names.get(fields[0]) {
            let text = |field: &[u8]| shown(&PathBytes(field.to_vec()));
            let upload = format!("upload {} ({})", text(fields[1]), text(fields[2]));
            uploads.entry(name.clone()).or_default().push(upload);
        }
    })?;
    Ok(uploads)
}

/// Takes COPY text and gives of each row the columns at these places, as they are written.
struct Lines<'a> {
    partial: Vec<u8>,
    places: Vec<usize>,
    row: &'a mut dyn FnMut(&[&[u8]]),
    context: &'a Context,
}

impl Lines<'_> {
    fn take(&mut self, line: &[u8]) {
        // A tab in a value is written as `\t`.
        let all: Vec<&[u8]> = line.split(|byte| *byte == b'\t').collect();
        let chosen: Option<Vec<&[u8]>> = self.places.iter().map(|place| all.get(*place).copied()).collect();
        if let Some(chosen) = chosen {
            (self.row)(&chosen);
        }
    }
}

impl Write for Lines<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if self.context.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        let mut rest = text;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            if self.partial.is_empty() {
                self.take(&rest[..end]);
            } else {
                let mut line = std::mem::take(&mut self.partial);
                line.extend_from_slice(&rest[..end]);
                self.take(&line);
            }
            rest = &rest[end + 1..];
        }
        self.partial.extend_from_slice(rest);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;

    use tokio_util::sync::CancellationToken;

    use super::{Lines, sentence};
    use crate::clock::SystemClock;
    use crate::event::{Context, Silent};

    #[test]
    fn rows_come_whole_whatever_the_pieces() {
        let context = Context {
            observer: Arc::new(Silent),
            cancel: CancellationToken::new(),
            clock: Arc::new(SystemClock::new()),
        };
        let mut found = Vec::new();
        let mut row = |fields: &[&[u8]]| found.push(fields.concat());
        let mut lines = Lines { partial: Vec::new(), places: vec![2, 0], row: &mut row, context: &context };
        for piece in [&b"1\ta\tx\n2\t"[..], b"b\\tc", b"\ty\n3\n4\td\tz\n"] {
            lines.write_all(piece).unwrap();
        }
        assert_eq!(found, [b"x1", b"y2", b"z4"], "a row that is too short is none");
    }

    #[test]
    fn not_all_of_many_uploads_are_named() {
        let uploads: Vec<String> = (1..=5).map(|number| format!("upload {number} (a)")).collect();
        assert_eq!(
            sentence(&uploads[..1]),
            "; it is the gold of upload 1 (a), which cannot be unpacked again from this day"
        );
        assert!(
            sentence(&uploads).contains("upload 3 (a) and 2 more uploads, which"),
            "{}",
            sentence(&uploads)
        );
    }
}

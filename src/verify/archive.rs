//! `rest.dump`, read by the program that will restore it.

use std::path::Path;

use super::gather::Gather;
use super::own;
use super::report::{Damage, Fault};
use super::{Error, rows};
use crate::database::{Archive, ArchiveError, archive_programs, read_archive};
use crate::fs;
use crate::manifest::DatabaseEntry;
use crate::vault::Day;

/// Lists every chosen archive and, unless a sample or single tables are asked for, reads all of it.
pub(super) async fn check(day: &Day, gather: &Gather) -> Result<(), Error> {
    let Some(record) = &day.manifest().database else { return Ok(()) };
    let chosen: Vec<&DatabaseEntry> =
        record.databases.iter().filter(|entry| gather.choice.databases.has(&entry.name)).collect();
    if chosen.is_empty() {
        return Ok(());
    }
    let programs = match archive_programs(record, gather.choice.bin_dir.as_deref()).await {
        Ok(programs) => programs,
        Err(error) => {
            gather.note(format!("{error}; every rest.dump is held against its digest only"));
            return Ok(());
        }
    };
    for entry in chosen {
        // Of single tables the archive has no rows, and it is held against its digest.
        let whole = gather.choice.sample.is_none() && !gather.choice.tables.contains_key(&entry.name);
        let file = Path::new("database").join(&entry.directory).join("rest.dump");
        let path = day.path().join(&file);
        if !fs::look_at(&path).is_ok_and(|meta| meta.is_file()) {
            // Told with the other files. pg_restore would wait for a named pipe.
            continue;
        }
        let damage = |fault, problem| own::damage(day.manifest(), &file, fault, problem);
        match read_archive(&programs, &path, whole, &gather.context.cancel).await {
            Ok(archive) => compare(day, entry, &archive, &damage, gather)?,
            Err(ArchiveError::Cancelled) => return Err(Error::Cancelled),
            Err(error) => gather.add(damage(Fault::Unreadable, error.to_string())),
        }
    }
    Ok(())
}

/// The rows of a table are in the segments or in the archive, which makes every table.
fn compare(
    day: &Day,
    entry: &DatabaseEntry,
    archive: &Archive,
    damage: &dyn Fn(Fault, String) -> Damage,
    gather: &Gather,
) -> Result<(), Error> {
    let has = archive.data.len() as u64;
    if has != entry.rest_tables {
        let says = entry.rest_tables;
        let problem =
            format!("manifest.json says that the rows of {says} tables are in it, and it has those of {has}");
        gather.add(damage(Fault::Numbers, problem));
    }
    // A list that cannot be read is told where its rows are looked for.
    for (oid, table) in rows::tables(day, entry).unwrap_or_default() {
        gather.check()?;
        if !archive.tables.contains(&oid) {
            gather.add(damage(
                Fault::Numbers,
                format!("it does not make {table}, whose rows are in the segments"),
            ));
        } else if archive.data.contains(&oid) {
            gather.add(damage(
                Fault::Numbers,
                format!("it has the rows of {table}, which are in the segments too"),
            ));
        }
    }
    Ok(())
}

//! The rows of a day: every segment against its digest, its rows and its base.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::gather::Gather;
use super::lists::{Lists, NAMED, shown_table};
use super::own::{self, Found};
use super::report::{Damage, Fault, Part, relative};
use crate::database::{Text, reread};
use crate::fs;
use crate::manifest::{DatabaseEntry, DatabaseSeal, PathBytes, Rows, Segment, TableReader, TableRecord};
use crate::vault::Day;

/// The segments of one database, by the files that hold them.
pub(super) struct Shelf<'a> {
    day: &'a Day,
    entry: &'a DatabaseEntry,
    /// What is to be found in each text, by its digest.
    texts: BTreeMap<String, Wanted>,
    /// Digests of the texts that are patches against this base, by the base.
    pub bases: BTreeMap<String, Vec<String>>,
    /// Digests of the texts that are whole and no base.
    pub wholes: Vec<String>,
}

/// What a text must be.
#[derive(Default)]
struct Wanted {
    /// None for a base that is itself in no table.
    content: Option<(u64, Rows)>,
    uses: Vec<Stretch>,
    base: Option<String>,
}

/// Rows of a table, counted from 1 in the order in which they are loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stretch {
    table: String,
    first: u64,
    last: u64,
}

/// Reads the lists of a database, holds them against each other and the seal, and gives its segments. None: they cannot be told.
pub(super) fn read_lists<'a>(
    day: &'a Day,
    entry: &'a DatabaseEntry,
    seal: Option<&DatabaseSeal>,
    found: &Found,
    gather: &Gather,
) -> Option<Shelf<'a>> {
    let lists = Lists::of(day, entry);
    let records = lists.records(found, gather)?;
    lists.compare_numbers(&records, gather);
    lists.compare_recipe(&records, found, gather);
    if let Some(seal) = seal {
        lists.compare_seal(&records, seal, gather);
    }
    let mut shelf = Shelf { day, entry, texts: BTreeMap::new(), bases: BTreeMap::new(), wholes: Vec::new() };
    let tables = gather.choice.tables.get(&entry.name);
    let is_chosen = |record: &&TableRecord| {
        tables.is_none_or(|tables| tables.contains(&(record.schema.clone(), record.name.clone())))
    };
    for record in records.iter().filter(is_chosen) {
        shelf.place(record);
    }
    shelf.sort();
    Some(shelf)
}

impl Shelf<'_> {
    fn place(&mut self, record: &TableRecord) {
        let table = shown_table(record);
        let mut before = 0;
        for Segment { blake3, bytes, rows, base, .. } in &record.segments {
            let stretch = Stretch { table: table.clone(), first: before + 1, last: before + rows.count };
            before += rows.count;
            let wanted = self.texts.entry(blake3.clone()).or_default();
            wanted.content = Some((*bytes, *rows));
            wanted.uses.push(stretch);
            wanted.base.clone_from(base);
            if let Some(base) = base {
                self.texts.entry(base.clone()).or_default();
            }
        }
    }

    fn sort(&mut self) {
        for (digest, wanted) in &self.texts {
            if let Some(base) = &wanted.base {
                self.bases.entry(base.clone()).or_default().push(digest.clone());
            }
        }
        for (digest, wanted) in &self.texts {
            if wanted.base.is_none() && !self.bases.contains_key(digest) {
                self.wholes.push(digest.clone());
            }
        }
    }

    /// The files that some segment needs, by path relative to the day.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        let patches = self.texts.iter().filter(|(_, wanted)| wanted.base.is_some());
        let patches = patches.map(|(digest, _)| self.patch_path(digest));
        let wholes = self.wholes.iter().chain(self.bases.keys()).map(|digest| self.whole_path(digest));
        patches.chain(wholes)
    }

    fn tables(&self) -> PathBuf {
        Path::new("database").join(&self.entry.directory).join("tables")
    }

    fn whole_path(&self, digest: &str) -> PathBuf {
        self.tables().join(format!("{digest}.zst"))
    }

    fn patch_path(&self, digest: &str) -> PathBuf {
        self.tables().join(format!("{digest}.patch.zst"))
    }

    /// A text that is whole.
    pub fn read_whole(&self, digest: &str, found: &Found, gather: &Gather) {
        let path = self.whole_path(digest);
        if gather.is_chosen(path.as_os_str().as_encoded_bytes()) {
            self.read(digest, &path, None, None, found, gather);
        } else {
            self.is_there(digest, &path, found, gather);
        }
    }

    /// A base and the patches against it. The base is read when it or one of its patches is chosen.
    pub fn read_base(&self, base: &str, found: &Found, gather: &Gather) {
        let chosen = |path: &Path| gather.is_chosen(path.as_os_str().as_encoded_bytes());
        let path = self.whole_path(base);
        let patches = self.bases.get(base).into_iter().flatten();
        let patches: Vec<_> = patches.map(|digest| (digest, self.patch_path(digest))).collect();
        if !chosen(&path) && !patches.iter().any(|(_, path)| chosen(path)) {
            self.is_there(base, &path, found, gather);
            for (digest, path) in patches {
                self.is_there(digest, &path, found, gather);
            }
            return;
        }
        let mut text = Vec::new();
        let is_whole = self.read(base, &path, None, Some(&mut text), found, gather);
        for (digest, path) in patches {
            if gather.check().is_err() {
                return;
            }
            if is_whole && chosen(&path) {
                self.read(digest, &path, Some(&text), None, found, gather);
            } else if self.is_there(digest, &path, found, gather) && !is_whole {
                // Its text is lost with its base, which tells that; the file itself may be whole.
                own::read(self.day, &path, gather);
            }
        }
    }

    fn is_there(&self, digest: &str, path: &Path, found: &Found, gather: &Gather) -> bool {
        let is_there = found.contains_key(path);
        if !is_there {
            self.add(digest, path, Fault::Missing, "it is not there".to_owned(), gather);
        }
        is_there
    }

    /// True: the text is the one that is wanted.
    fn read(
        &self,
        digest: &str,
        path: &Path,
        base: Option<&[u8]>,
        keep: Option<&mut Vec<u8>>,
        found: &Found,
        gather: &Gather,
    ) -> bool {
        if !self.is_there(digest, path, found, gather) {
            return false;
        }
        let file = match fs::open_regular(&self.day.path().join(path)) {
            Ok(file) => file,
            Err(error) => {
                self.add(digest, path, Fault::Unreadable, format!("{error}: {}", error.source), gather);
                return false;
            }
        };
        let seen = reread(file, base, keep, &mut |bytes| gather.read(bytes));
        if gather.check().is_err() {
            return false;
        }
        gather.read_whole();
        let text = match seen.text {
            Ok(text) if text.blake3 == digest => text,
            Ok(_) => {
                let problem = "its text does not have the digest that is its name".to_owned();
                self.add(digest, path, Fault::Content, problem, gather);
                return false;
            }
            Err(problem) => {
                let fault = if seen.file.is_ok() { Fault::Content } else { Fault::Unreadable };
                self.add(digest, path, fault, problem, gather);
                return false;
            }
        };
        self.compare(digest, &text, gather);
        let sealed = path.to_str().and_then(|name| self.day.manifest().digests.get(name));
        if seen.file.ok().as_ref() != sealed {
            let problem = "it does not have the digest in manifest.json".to_owned();
            let means = "its rows are still right, and would be restored".to_owned();
            let (part, file, also) = (self.part(), relative(path), Vec::new());
            gather.add(Damage { part, file, fault: Fault::Content, also, problem, means, record: None });
        }
        true
    }

    /// The text is right; what `tables.jsonl` says of it may be wrong.
    fn compare(&self, digest: &str, text: &Text, gather: &Gather) {
        let Some(wanted) = self.texts.get(digest) else { return };
        if wanted.content.is_some_and(|content| content != (text.bytes, text.rows)) {
            let path = Path::new("database").join(&self.entry.directory).join("tables.jsonl");
            let problem = format!(
                "it says other rows or bytes of the segment {digest} than that has ({} rows in {} bytes)",
                text.rows.count, text.bytes
            );
            let means = format!("{} may not be those of the day", rows_of(&wanted.uses));
            let damage = own::damage(self.day.manifest(), &path, Fault::Numbers, problem);
            gather.add(Damage { means, ..damage });
        }
    }

    fn part(&self) -> Part {
        Part::Database { name: self.entry.name.clone() }
    }

    /// The loss of a text: its own rows, and those of the patches against it.
    fn add(&self, digest: &str, path: &Path, fault: Fault, problem: String, gather: &Gather) {
        let is_whole = path == self.whole_path(digest);
        let patches = self.bases.get(digest).filter(|_| is_whole).into_iter().flatten();
        let uses = std::iter::once(digest).chain(patches.map(String::as_str));
        let lost: Vec<Stretch> =
            uses.filter_map(|digest| self.texts.get(digest)).flat_map(|wanted| wanted.uses.clone()).collect();
        let means = format!("{} of the database {} cannot be restored", rows_of(&lost), self.entry.name);
        let (part, file, also) = (self.part(), PathBytes::from(path), Vec::new());
        gather.add(Damage { part, file, fault, also, problem, means, record: None });
    }
}

/// `rows 1 to 500 of "public"."item"`.
fn rows_of(stretches: &[Stretch]) -> String {
    let shown: Vec<String> = stretches
        .iter()
        .map(|Stretch { table, first, last }| match last.checked_sub(*first) {
            None => format!("none of the rows of {table}"),
            Some(0) => format!("row {first} of {table}"),
            Some(_) => format!("rows {first} to {last} of {table}"),
        })
        .collect();
    match shown.len().checked_sub(NAMED) {
        Some(more @ 1..) => format!("{} and {more} more stretches of rows", shown[..NAMED].join(", ")),
        _ if shown.is_empty() => "no rows".to_owned(),
        _ => shown.join(", "),
    }
}

/// The tables of a database by OID, as people see their names. None: the list cannot be read.
pub(super) fn tables(day: &Day, entry: &DatabaseEntry) -> Option<Vec<(u32, String)>> {
    let path = day.database().join(&entry.directory).join("tables.jsonl");
    let records = TableReader::open(&path).ok()?;
    records.map(|record| record.ok().map(|record| (record.oid, shown_table(&record)))).collect()
}

#[cfg(test)]
mod tests {
    use super::{Stretch, rows_of};

    #[test]
    fn rows_are_named_in_short() {
        let stretch = |first, last| Stretch { table: "t".into(), first, last };
        assert_eq!(rows_of(&[stretch(1, 1), stretch(2, 9)]), "row 1 of t, rows 2 to 9 of t");
        assert_eq!(rows_of(&[stretch(3, 2)]), "none of the rows of t");
        let many: Vec<Stretch> = (1..=5).map(|row| stretch(row, row)).collect();
        assert_eq!(rows_of(&many), "row 1 of t, row 2 of t, row 3 of t and 2 more stretches of rows");
    }
}

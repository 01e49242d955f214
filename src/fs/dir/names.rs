//! The names in a directory.

use std::io;

use super::Kind;

/// The names of one directory, sorted by bytes, packed: a million names take what their letters take.
#[derive(Debug, Default)]
pub struct Names {
    letters: Vec<u8>,
    entries: Vec<(u32, u16, Option<Kind>)>,
}

impl Names {
    pub(super) fn push(&mut self, name: &[u8], kind: Option<Kind>) -> io::Result<()> {
        let start = u32::try_from(self.letters.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let length = u16::try_from(name.len()).map_err(|_| io::ErrorKind::InvalidFilename)?;
        self.letters.extend_from_slice(name);
        self.entries.push((start, length, kind));
        Ok(())
    }

    pub(super) fn sort(&mut self) {
        let letters = &self.letters;
        self.entries.sort_unstable_by(|a, b| name_of(letters, *a).cmp(name_of(letters, *b)));
        self.entries.dedup_by(|a, b| name_of(letters, *a) == name_of(letters, *b));
        self.letters.shrink_to_fit();
        self.entries.shrink_to_fit();
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// None at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The name at `index`, and its kind if the directory tells it.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<(&[u8], Option<Kind>)> {
        self.entries.get(index).map(|entry| (name_of(&self.letters, *entry), entry.2))
    }

    /// Forgets those for which `keep` says no.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], Option<Kind>) -> bool) {
        let letters = &self.letters;
        self.entries.retain(|entry| keep(name_of(letters, *entry), entry.2));
    }

    /// Whether `name` is one of them.
    #[must_use]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.entries.binary_search_by(|entry| name_of(&self.letters, *entry).cmp(name)).is_ok()
    }
}

fn name_of(letters: &[u8], entry: (u32, u16, Option<Kind>)) -> &[u8] {
    &letters[entry.0 as usize..][..usize::from(entry.1)]
}

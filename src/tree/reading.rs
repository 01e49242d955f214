//! A file that is read, and copied into the day, while others may be changing it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::fs::attributes::{self, Attributes, Lacking};
use crate::fs::dir::{Dir, Kind, Stat, is_gone, stat_file};
use crate::fs::{OnPath as _, copy};
use crate::manifest::FileRecord;
use crate::tree::Error;
use crate::tree::judge;
use crate::tree::site::{Place, Site};

/// The coarsest step of the kernel's clock for file times: a change within the step in which a file was read does not move its ctime.
const CLOCK_STEP: Duration = Duration::from_millis(12);

pub(crate) type Xattrs = BTreeMap<String, Vec<u8>>;

/// A file being read that others may be changing.
pub(crate) struct Reading<'a> {
    pub site: &'a Site,
    pub dir: &'a Dir,
    pub name: &'a [u8],
    pub file: &'a File,
    /// What the name was before the file was opened.
    pub before: &'a Stat,
    /// What the day shows: the same, but for a file held open since the freeze point.
    pub as_of: &'a Stat,
    /// It is held open since the freeze point, and may have lost its name.
    pub held: bool,
}

impl Reading<'_> {
    /// The digest of the content. None: it changed meanwhile.
    pub(crate) fn digest(&self) -> Result<Option<blake3::Hash>, Error> {
        self.read(None)
    }

    fn read(&self, target: Option<&File>) -> Result<Option<blake3::Hash>, Error> {
        let path = self.dir.path_of(self.name);
        if !self.is_settled(&stat_file(self.file, &path)?) {
            return Ok(None);
        }
        let_clock_step(self.site, self.before);
        let size = self.before.size;
        let digest = copy::content_sized(self.file, target, size, &mut |bytes| self.watch(bytes));
        self.site.check()?;
        let digest = digest.on(if target.is_some() { "copy" } else { "read" }, &path)?;
        Ok(self.is_settled(&stat_file(self.file, &path)?).then_some(digest))
    }

    /// After every chunk: keeps to the rate, and stops when the run is cancelled.
    fn watch(&self, bytes: u64) -> io::Result<()> {
        self.site.pace(bytes);
        if self.site.stop.is_cancelled() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }

    fn is_settled(&self, now: &Stat) -> bool {
        let before = self.before;
        now.is_same_inode(before)
            && now.kind == before.kind
            && (now.size, now.mtime, now.ctime) == (before.size, before.mtime, before.ctime)
            // A file held open may lose its name after the release.
            && (self.held || now.nlink == before.nlink)
    }

    /// What an interrupted run had copied already, if it is the source's content and attributes to the last bit. The digest of both
    /// is read: after a power cut a file may have its name and size and still not its content.
    fn keep_copied(&self, place: &Place) -> Result<Option<FileRecord>, Error> {
        let Some(there) = place.target.stat_if_exists(self.name)? else { return Ok(None) };
        let alike = there.kind == Kind::File
            && there.nlink == 1
            && self.before.nlink == 1
            && (there.size, there.mtime, there.mode)
                == (self.before.size, self.before.mtime, self.before.mode)
            && (there.uid, there.gid) == (self.before.uid, self.before.gid);
        let xattrs = if alike { xattrs_of(&place.source, self.name)? } else { return Ok(None) };
        if xattrs_of(&place.target, self.name)? != xattrs {
            return Ok(None);
        }
        let file = place.target.open_file(self.name)?;
        let path = place.target.path_of(self.name);
        let kept = copy::content(&file, None, &mut |bytes| self.watch(bytes));
        self.site.check()?;
        let kept = kept.on("read", &path)?;
        if self.digest()? != Some(kept) {
            return Ok(None);
        }
        let mut record = judge::record(&self.site.tree.name, &place.path_of(self.name), self.before, &xattrs);
        record.blake3 = Some(kept.to_hex().to_string());
        Ok(Some(record))
    }

    /// Copies the file and gives it its name in the day. None: it changed meanwhile.
    pub(crate) fn copy(&self, place: &Place) -> Result<Option<FileRecord>, Error> {
        let site = self.site;
        // Of the open file: its name may be another file's by now.
        let xattrs = attributes::read_open_xattrs(self.file, &self.dir.path_of(self.name))?;
        // Where nothing has the name, the file is made under it: a rename from elsewhere costs a lock of the whole file system.
        let here = place.target.create_file_if_new(self.name)?;
        if here.is_none()
            && !self.held
            && let Some(record) = self.keep_copied(place)?
        {
            return Ok(Some(record));
        }
        let wanted = judge::attributes(self.as_of, xattrs.clone());
        let copied = match here {
            Some(made) => self.copy_here(&place.target, self.name, &made, &wanted)?,
            None => {
                let new = site.new_name();
                let made = site.staging.create_file(&new)?;
                let copied = self.copy_here(&site.staging, &new, &made, &wanted)?;
                if copied.is_some() {
                    name_it(site, place, self.name, &new)?;
                }
                copied
            }
        };
        let Some(digest) = copied else { return Ok(None) };
        site.counts.copied_files.fetch_add(1, Ordering::Relaxed);
        site.counts.copied_bytes.fetch_add(self.as_of.size, Ordering::Relaxed);
        let mut record = judge::record(&site.tree.name, &place.path_of(self.name), self.as_of, &xattrs);
        record.blake3 = Some(digest.to_hex().to_string());
        Ok(Some(record))
    }

    /// Fills a file that was just made, and gives it its attributes. None: the source changed meanwhile, and it is removed.
    fn copy_here(
        &self,
        dir: &Dir,
        name: &[u8],
        made: &File,
        wanted: &Attributes,
    ) -> Result<Option<blake3::Hash>, Error> {
        let read = self.read(Some(made)).map_err(|error| match error {
            Error::File(error) => error.of_copy_to(|| dir.path_of(name)).into(),
            other => other,
        });
        let copied = read.and_then(|digest| {
            if digest.is_some() {
                note(self.site, attributes::apply_made(made, dir, name, wanted)?);
            }
            Ok(digest)
        });
        if !matches!(copied, Ok(Some(_))) {
            // Half a file must not be met by a later look. What kept it from being whole matters more than this.
            let removed = dir.unlink(name);
            if copied.is_ok() {
                removed?;
            }
        }
        copied
    }
}

/// The extended attributes of a name; none when it has gone.
pub(crate) fn xattrs_of(dir: &Dir, name: &[u8]) -> Result<Xattrs, Error> {
    match attributes::read_xattrs(dir, name) {
        Ok(xattrs) => Ok(xattrs),
        Err(error) if is_gone(&error) => Ok(Xattrs::new()),
        Err(error) => Err(error.into()),
    }
}

/// What was changed in this very step of the clock could be changed once more with the same ctime: wait until a later change must show.
pub(crate) fn let_clock_step(site: &Site, stat: &Stat) {
    let now = site.context.clock.now().as_nanosecond();
    let (seconds, nanos) = stat.ctime;
    let changed = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    if (now - changed).unsigned_abs() < CLOCK_STEP.as_nanos() {
        std::thread::sleep(CLOCK_STEP);
    }
}

/// Counts what could not be set.
pub(crate) fn note(site: &Site, lacking: Lacking) {
    site.counts.lacking_owner.fetch_add(lacking.owner.into(), Ordering::Relaxed);
    site.counts.lacking_xattr.fetch_add(lacking.xattr.into(), Ordering::Relaxed);
}

/// Gives what was made in the staging directory its name.
pub(crate) fn name_it(site: &Site, place: &Place, name: &[u8], new: &[u8]) -> Result<(), Error> {
    if place.target.stat_if_exists(name)?.is_some_and(|there| there.kind == Kind::Directory) {
        place.target.remove_all(name)?;
    }
    Ok(site.staging.rename(new, &place.target, name)?)
}

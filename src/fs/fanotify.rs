//! What changes on a file system, as the kernel tells it (fanotify(7), `FAN_REPORT_DFID_NAME`, Linux 5.9; needs `CAP_SYS_ADMIN` and
//! `CAP_DAC_READ_SEARCH`).
//!
//! nix opens the group and sets the mark, but does not read events that carry names, so these are taken apart here, without unsafe code.
//! The one call that no crate offers is `open_by_handle_at`, which finds the directory of an event.

use std::fs::File;
use std::io::{self, PipeReader};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};

use crate::fs::dir::Dir;
use crate::fs::{Error, OnPath as _};

/// `struct fanotify_event_metadata`: length, version, reserved, metadata length, mask, descriptor, process.
const METADATA: usize = 24;
/// `FAN_EVENT_INFO_TYPE_DFID_NAME`: the directory's handle, then the name.
const DFID_NAME: u8 = 2;
/// `struct fanotify_event_info_header` and the file system's id.
const INFO_HEADER: usize = 4 + 8;
/// `MAX_HANDLE_SZ`
const LONGEST_HANDLE: usize = 128;

/// `FAN_MARK_EVICTABLE` and `FAN_MARK_IGNORE` of `linux/fanotify.h`, which libc does not name.
const MARK_EVICTABLE: u32 = 0x200;
const MARK_IGNORE: u32 = 0x400;
/// What is asked for.
const WATCHED: MaskFlags = MaskFlags::FAN_CREATE
    .union(MaskFlags::FAN_DELETE)
    .union(MaskFlags::FAN_MOVE)
    .union(MaskFlags::FAN_MODIFY)
    .union(MaskFlags::FAN_ATTRIB)
    .union(MaskFlags::FAN_CLOSE_WRITE)
    .union(MaskFlags::FAN_ONDIR);

/// A directory, as the file system knows it; stays the same when it is renamed and is never used again for another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Handle {
    kind: i32,
    bytes: Vec<u8>,
}

/// Something happened to a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// The directory that holds the name.
    pub dir: Handle,
    /// The name; `.` for the directory itself.
    pub name: Vec<u8>,
    /// What.
    pub what: MaskFlags,
}

/// What was read from the kernel.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Something happened to a name.
    Name(Happened),
    /// Events were lost, or one came that names nothing: what happened is not known any more.
    Lost,
}

/// A watch over a whole file system.
#[derive(Debug)]
pub struct Group {
    fanotify: Fanotify,
}

impl Group {
    /// Watches the file system that `dir` is on.
    ///
    /// # Errors
    /// The kernel, the file system or the rights do not allow it.
    pub fn watch(dir: &Dir) -> Result<Self, Error> {
        Self::with_queue(dir, InitFlags::FAN_UNLIMITED_QUEUE)
    }

    fn with_queue(dir: &Dir, queue: InitFlags) -> Result<Self, Error> {
        let path = dir.path();
        // FAN_REPORT_DIR_FID | FAN_REPORT_NAME, which nix does not name.
        let names = InitFlags::from_bits_retain(libc::FAN_REPORT_DIR_FID | libc::FAN_REPORT_NAME);
        let flags =
            InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK | queue | names;
        let fanotify = Fanotify::init(flags, EventFFlags::O_RDONLY).on("watch", path)?;
        let add = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM;
        fanotify.mark(add, WATCHED, dir, None::<&Path>).on("watch", path)?;
        Ok(Self { fanotify })
    }

    /// Tells nothing more of what happens to the names in `dir` and to itself: for a directory in which the caller alone works. The kernel
    /// may forget it (`FAN_MARK_EVICTABLE`), then that is told again. False: this kernel cannot, or has marks enough (Linux 6.0,
    /// `FAN_MARK_IGNORE` of `fanotify_mark(2)`).
    #[must_use]
    pub fn ignore(&self, dir: &Dir) -> bool {
        let how = libc::FAN_MARK_ADD | libc::FAN_MARK_IGNORED_SURV_MODIFY | MARK_EVICTABLE | MARK_IGNORE;
        let what = WATCHED | MaskFlags::FAN_EVENT_ON_CHILD;
        self.fanotify.mark(MarkFlags::from_bits_retain(how), what, dir, None::<&Path>).is_ok()
    }

    /// Waits until there is something to read, or the other end of `stop` is closed: then false.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn wait(&self, stop: &PipeReader) -> io::Result<bool> {
        let mut watched = [
            PollFd::new(self.fanotify.as_fd(), PollFlags::POLLIN),
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut watched, PollTimeout::NONE) {
            Ok(_) => Ok(!is_told(&watched[1])),
            Err(Errno::EINTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// What has happened until this call and has not been told yet; `tell` is called in order.
    ///
    /// It does not wait for the queue to be empty: others may write to the file system faster than it is read. What is in
    /// the queue at the call is counted by FIONREAD, which fanotify answers with the bytes of that many bare events.
    ///
    /// # Errors
    /// Reading fails.
    pub fn drain(&self, tell: &mut dyn FnMut(Event)) -> io::Result<()> {
        let queued = rustix::io::ioctl_fionread(&self.fanotify)?;
        let mut left = usize::try_from(queued).unwrap_or(usize::MAX) / METADATA;
        let mut buffer = vec![0; 64 * 1024];
        while left > 0 {
            match nix::unistd::read(&self.fanotify, &mut buffer) {
                Ok(0) | Err(Errno::EAGAIN) => return Ok(()),
                Ok(length) => {
                    take_apart(&buffer[..length], &mut |event| {
                        left = left.saturating_sub(1);
                        tell(event);
                    });
                }
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Waits so long, or until the other end of `stop` is closed: then true.
#[must_use]
pub fn stops_within(stop: &PipeReader, longest: Duration) -> bool {
    let mut watched = [PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
    // A wait that is cut short only makes the next batch smaller.
    let waited = poll(&mut watched, PollTimeout::try_from(longest).unwrap_or(PollTimeout::ZERO));
    waited.is_ok() && is_told(&watched[0])
}

fn is_told(watched: &PollFd<'_>) -> bool {
    watched.revents().is_some_and(|events| !events.is_empty())
}

fn take_apart(mut bytes: &[u8], tell: &mut dyn FnMut(Event)) {
    while !bytes.is_empty() {
        let length = number(bytes, 0).map_or(0, |length| length as usize);
        let Some(event) = bytes.get(..length).filter(|event| event.len() >= METADATA) else {
            return tell(Event::Lost);
        };
        bytes = &bytes[length..];
        tell(one(event).map_or(Event::Lost, Event::Name));
    }
}

fn one(event: &[u8]) -> Option<Happened> {
    let mask = u64::from_ne_bytes(event.get(8..16)?.try_into().ok()?);
    if event.get(4) != Some(&libc::FANOTIFY_METADATA_VERSION) || mask & libc::FAN_Q_OVERFLOW != 0 {
        return None;
    }
    let mut infos = event.get(METADATA..)?;
    while !infos.is_empty() {
        let length = usize::from(u16::from_ne_bytes(infos.get(2..4)?.try_into().ok()?));
        let info = infos.get(..length).filter(|info| info.len() > INFO_HEADER)?;
        if info[0] == DFID_NAME {
            let size = number(info, INFO_HEADER)? as usize;
            let kind = i32::from_ne_bytes(info.get(INFO_HEADER + 4..INFO_HEADER + 8)?.try_into().ok()?);
            let (handle, name) = info.get(INFO_HEADER + 8..)?.split_at_checked(size)?;
            let name = name.split(|byte| *byte == 0).next()?.to_vec();
            let what = MaskFlags::from_bits_retain(mask);
            return Some(Happened { dir: Handle { kind, bytes: handle.to_vec() }, name, what });
        }
        infos = &infos[length..];
    }
    None
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// `struct file_handle` with room for the longest handle.
#[repr(C)]
struct RawHandle {
    length: u32,
    kind: i32,
    bytes: [u8; LONGEST_HANDLE],
}

/// Opens the directory of an event, on the file system of `mount`. None: it is not there any more.
///
/// # Errors
/// The right (`CAP_DAC_READ_SEARCH`) is missing.
pub fn open_handle(mount: &Dir, handle: &Handle) -> Result<Option<OwnedFd>, Error> {
    let mut raw = RawHandle {
        length: u32::try_from(handle.bytes.len()).unwrap_or(u32::MAX),
        kind: handle.kind,
        bytes: [0; LONGEST_HANDLE],
    };
    let Some(room) = raw.bytes.get_mut(..handle.bytes.len()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidData))
            .on("find a changed directory below", mount.path());
    };
    room.copy_from_slice(&handle.bytes);
    match open_raw(mount, &mut raw) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ESTALE | Errno::ENOENT) => Ok(None),
        Err(error) => Err(error).on("find a changed directory below", mount.path()),
    }
}

#[expect(unsafe_code, reason = "no crate wraps open_by_handle_at")]
fn open_raw(mount: &Dir, raw: &mut RawHandle) -> nix::Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let handle = std::ptr::from_mut(raw).cast::<libc::file_handle>();
    // SAFETY: `handle` points to a `struct file_handle` whose `handle_bytes` is at most the length of the array behind it, and which
    // outlives the call; the kernel only reads it.
    let fd = Errno::result(unsafe { libc::open_by_handle_at(mount.as_fd().as_raw_fd(), handle, flags) })?;
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Where an open directory is, as the kernel says; None when it was removed.
///
/// # Errors
/// `/proc` is not there, or the path is too long for it.
pub fn path_of(fd: OwnedFd, shown: &Path) -> Result<Option<Vec<u8>>, Error> {
    let file = File::from(fd);
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let removed = file.metadata().map(|meta| std::os::unix::fs::MetadataExt::nlink(&meta) == 0);
    if removed.on("look at a changed directory below", shown)? {
        return Ok(None);
    }
    let path =
        rustix::fs::readlink(link, Vec::new()).on("find the path of a changed directory below", shown)?;
    Ok(Some(path.into_bytes()))
}

/// Whether every change of this file system is made on this machine, so that the kernel sees it: not so for network file systems.
///
/// # Errors
/// The file system fails.
pub fn is_local(dir: &Dir) -> Result<bool, Error> {
    /// ext2 to ext4, XFS, btrfs, tmpfs, F2FS: `linux/magic.h`.
    const LOCAL: [i64; 5] = [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0xF2F5_2010];
    let info = rustix::fs::fstatfs(dir).on("look at the file system of", dir.path())?;
    #[expect(clippy::useless_conversion, reason = "the type differs between machines")]
    Ok(LOCAL.contains(&i64::from(info.f_type)))
}

#[cfg(test)]
mod tests {
    use super::{Event, Group, take_apart};
    use crate::fs::dir::Dir;
    use nix::sys::fanotify::InitFlags;

    fn parse(bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        take_apart(bytes, &mut |event| events.push(event));
        events
    }

    #[test]
    fn a_queue_that_overflows_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let watched = Dir::open(dir.path()).unwrap();
        // Without the right to watch there is nothing to overflow.
        let Ok(group) = Group::with_queue(&watched, InitFlags::empty()) else { return };
        let limit = std::fs::read_to_string("/proc/sys/fs/fanotify/max_queued_events").unwrap();
        let limit: u32 = limit.trim().parse().unwrap();
        for number in 0..=limit.min(100_000) {
            std::fs::File::create(dir.path().join(number.to_string())).unwrap();
        }
        let mut lost = false;
        group.drain(&mut |event| lost |= event == Event::Lost).unwrap();
        assert!(lost);
    }

    fn event(mask: u64, name: &[u8]) -> Vec<u8> {
        let mut info = vec![2, 0, 0, 0];
        info.extend([0; 8]);
        info.extend(8_u32.to_ne_bytes());
        info.extend(1_i32.to_ne_bytes());
        info.extend([7; 8]);
        info.extend(name);
        info.push(0);
        let length = u16::try_from(info.len()).unwrap().to_ne_bytes();
        info[2..4].copy_from_slice(&length);
        let mut bytes = u32::try_from(24 + info.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend([3, 0, 24, 0]);
        bytes.extend(mask.to_ne_bytes());
        bytes.extend([0xff; 4]);
        bytes.extend([0; 4]);
        bytes.extend(info);
        bytes
    }

    #[test]
    fn events_are_taken_apart_and_what_is_cut_short_is_lost() {
        let both = [event(0x100, b"a"), event(0x2, b"caf\xe9")].concat();
        let names: Vec<_> = parse(&both)
            .into_iter()
            .map(|event| if let Event::Name(name) = event { name.name } else { panic!() })
            .collect();
        assert_eq!(names, [&b"a"[..], b"caf\xe9"]);
        for cut in 1..event(0x100, b"a").len() {
            assert_eq!(parse(&both[..cut]), [Event::Lost], "{cut}");
        }
        assert_eq!(parse(&event(0x4000, b"a")), [Event::Lost], "overflow");
    }

    /// What is read is told again by writing as much in the course of it: a queue that is read until it is empty is read
    /// for ever.
    #[test]
    fn draining_ends_although_the_file_system_is_written_to_meanwhile() {
        let place = tempfile::tempdir().unwrap();
        let dir = Dir::open(place.path()).unwrap();
        let Ok(group) = Group::watch(&dir) else { return };
        let mut made = 0_u64;
        let mut create = |count: u64| {
            for _ in 0..count {
                std::fs::File::create_new(place.path().join(format!("{made}"))).unwrap();
                made += 1;
            }
        };
        create(100);
        let mut own = 0;
        group
            .drain(&mut |event| {
                if matches!(event, Event::Name(happened) if happened.name.iter().all(u8::is_ascii_digit)) {
                    own += 1;
                    create(2);
                }
            })
            .unwrap();
        assert!((100..1_000).contains(&own), "{own}");
    }

    #[test]
    fn what_happens_in_a_directory_that_is_ignored_is_not_told() {
        let place = tempfile::tempdir().unwrap();
        let [own, other] = ["own", "other"].map(|name| place.path().join(name));
        for path in [&own, &other] {
            std::fs::create_dir(path).unwrap();
        }
        let dir = Dir::open(place.path()).unwrap();
        let Ok(group) = Group::watch(&dir) else { return };
        // A kernel before 6.0 tells everything.
        if !group.ignore(&dir.dir(b"own").unwrap()) {
            return;
        }
        for directory in [&own, &other] {
            let (first, second) = (directory.join("ahead-first"), directory.join("ahead-second"));
            std::fs::write(&first, "content").unwrap();
            std::fs::hard_link(&first, &second).unwrap();
            std::fs::create_dir(directory.join("ahead-below")).unwrap();
            std::fs::remove_file(&first).unwrap();
        }
        std::fs::write(own.join("ahead-below/within"), "a directory in it is not ignored with it").unwrap();
        let mut told = Vec::new();
        group
            .drain(&mut |event| match event {
                Event::Name(happened) => told.push((happened.dir, happened.name)),
                Event::Lost => panic!("events were lost"),
            })
            .unwrap();
        let dirs_of = |name: &[u8]| -> std::collections::HashSet<_> {
            told.iter().filter(|(_, told)| told == name).map(|(dir, _)| dir.clone()).collect()
        };
        for name in [&b"ahead-first"[..], b"ahead-second", b"ahead-below"] {
            assert_eq!(dirs_of(name).len(), 1, "told in one directory only: {}", name.escape_ascii());
        }
        assert_eq!(dirs_of(b"within").len(), 1);
    }
}

//! A disk in memory that remembers every write and every flush, so that a power cut can be played at any point of them.
//!
//! It is served as a file by FUSE; a loop device on that file passes on what a file system sends: writes, and `fsync` for each flush. (The
//! loop device knows no FUA: such a write arrives with a flush before and after it.) One thread serves, so the log is one order of
//! all that happened. After a cut there is what was flushed, and any of the writes since: a disk keeps and drops
//! them as it likes, in pieces of four kilobytes.
#![allow(dead_code, reason = "every test program uses another part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::support::random::Random;

/// What a disk keeps or drops as one.
const BLOCK: usize = 4096;
const NAME: &str = "disk";
const FILE: INodeNo = INodeNo(2);
const FOREVER: Duration = Duration::from_secs(3600);

/// The content of a disk. A copy shares what does not change.
#[derive(Clone)]
pub struct Image {
    /// None: zeros.
    blocks: Vec<Option<Arc<[u8; BLOCK]>>>,
}

impl Image {
    /// Of zeros.
    pub fn new(bytes: u64) -> Self {
        Self { blocks: vec![None; usize::try_from(bytes).expect("it fits into memory") / BLOCK] }
    }

    fn bytes(&self) -> u64 {
        (self.blocks.len() * BLOCK) as u64
    }

    /// Block by block: its number, where it begins in it, and the part of `length` bytes that is in it.
    fn parts(offset: u64, length: usize) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
        let mut at = usize::try_from(offset).expect("it fits into memory");
        let (begin, end) = (at, at + length);
        std::iter::from_fn(move || {
            let (block, within) = (at / BLOCK, at % BLOCK);
            let next = end.min((block + 1) * BLOCK);
            let part = (block, within, at - begin..next - begin);
            at = next;
            (!part.2.is_empty()).then_some(part)
        })
    }

    fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        for (block, within, part) in Self::parts(offset, length) {
            if let Some(content) = &self.blocks[block] {
                let part = &mut bytes[part];
                part.copy_from_slice(&content[within..within + part.len()]);
            }
        }
        bytes
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (block, within, part) in Self::parts(offset, bytes.len()) {
            let part = &bytes[part];
            let there = &mut self.blocks[block];
            if there.is_none() && part.iter().all(|byte| *byte == 0) {
                continue;
            }
            let content = Arc::make_mut(there.get_or_insert_with(|| Arc::new([0; BLOCK])));
            content[within..within + part.len()].copy_from_slice(part);
        }
    }
}

/// What a disk was sent.
#[derive(Clone)]
enum Sent {
    Write(u64, Arc<[u8]>),
    Flush,
}

/// What a disk was, and all that it was sent since then.
#[derive(Clone)]
pub struct Log {
    before: Image,
    sent: Vec<Sent>,
}

/// A place in a log: so many writes and flushes.
pub type Position = usize;

impl Log {
    /// How many writes and flushes it has.
    pub fn len(&self) -> Position {
        self.sent.len()
    }

    /// How many flushes, and how many bytes of writes.
    pub fn tell(&self) -> (usize, usize) {
        let written = |sent: &Sent| if let Sent::Write(_, bytes) = sent { bytes.len() } else { 0 };
        let flushes = self.sent.iter().filter(|sent| matches!(sent, Sent::Flush)).count();
        (flushes, self.sent.iter().map(written).sum())
    }

    /// What is on the disk when the power goes before the write or flush at `cut`: all that was flushed, and by chance none, some or all
    /// of what was not.
    pub fn cut(&self, cut: Position, random: &mut Random) -> Image {
        let flushed = self.sent[..cut].iter().rposition(|sent| matches!(sent, Sent::Flush)).unwrap_or(0);
        let mut image = self.before.clone();
        for sent in &self.sent[..flushed] {
            if let Sent::Write(offset, bytes) = sent {
                image.write(*offset, bytes);
            }
        }
        // Of ten blocks.
        let kept = [0, 1, 5, 9, 10][random.below(5)];
        for sent in &self.sent[flushed..cut] {
            let Sent::Write(offset, bytes) = sent else { continue };
            for (_, _, part) in Image::parts(*offset, bytes.len()) {
                if random.below(10) < kept {
                    image.write(*offset + part.start as u64, &bytes[part]);
                }
            }
        }
        image
    }
}

#[derive(Clone)]
struct Memory(Arc<Mutex<State>>);

struct State {
    image: Image,
    log: Option<Log>,
    failing: Failing,
}

/// Writes and flushes that go well, and those behind them that fail.
///
/// Linux hands on a long write in pieces, and its loop device takes one of which a part was written for one that was written. That disk
/// would lie and not fail: so a write that begins where the last one ended does not fail.
#[derive(Default)]
struct Failing {
    good: usize,
    bad: usize,
    failed: usize,
    /// Where the last write ended that went well.
    end: Option<u64>,
}

impl Failing {
    /// Whether this write fails.
    fn write(&mut self, offset: u64, length: usize) -> bool {
        let fails = self.end != Some(offset) && self.next();
        self.end = (!fails).then_some(offset + length as u64);
        fails
    }

    /// Whether the next one fails.
    fn next(&mut self) -> bool {
        if self.good > 0 || self.bad == 0 {
            self.good = self.good.saturating_sub(1);
            return false;
        }
        self.bad -= 1;
        self.failed += 1;
        true
    }
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A disk that is served.
pub struct Disk {
    memory: Memory,
    place: PathBuf,
    session: Option<BackgroundSession>,
}

impl Disk {
    /// Serves an image as a file in the directory `place`.
    ///
    /// # Errors
    /// FUSE does not work here.
    pub fn serve(place: &Path, image: Image) -> std::io::Result<Self> {
        let memory = Memory(Arc::new(Mutex::new(State { image, log: None, failing: Failing::default() })));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("daykeep-test-disk".to_owned())];
        let session = fuser::spawn_mount(Served(memory.clone()), place, &config)?;
        Ok(Self { memory, place: place.to_owned(), session: Some(session) })
    }

    /// The file.
    pub fn file(&self) -> PathBuf {
        self.place.join(NAME)
    }

    /// From now on every write and flush is remembered.
    pub fn record(&self) {
        let mut state = self.memory.lock();
        let before = state.image.clone();
        state.log = Some(Log { before, sent: Vec::new() });
    }

    /// How far the log is.
    pub fn position(&self) -> Position {
        self.memory.lock().log.as_ref().map_or(0, Log::len)
    }

    /// The log so far; it ends.
    pub fn take_log(&self) -> Log {
        self.memory.lock().log.take().expect("it was recorded")
    }

    /// After so many more writes and flushes, so many fail.
    pub fn fail(&self, good: usize, bad: usize) {
        self.memory.lock().failing = Failing { good, bad, ..Failing::default() };
    }

    /// How many have failed.
    pub fn failed(&self) -> usize {
        self.memory.lock().failing.failed
    }

    /// What is on it.
    pub fn image(&self) -> Image {
        self.memory.lock().image.clone()
    }

    /// Ends it, once nobody uses it any more.
    ///
    /// # Panics
    /// Somebody goes on using it.
    pub fn end(mut self) {
        let limit = Instant::now() + Duration::from_secs(30);
        // A loop device lets go of its file a moment after it was unmounted.
        while let Err(error) = rustix::mount::unmount(&self.place, rustix::mount::UnmountFlags::empty()) {
            assert!(Instant::now() < limit, "{}: {error}", self.place.display());
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Some(session) = self.session.take() {
            session.join().expect("it served to the end");
        }
    }
}

struct Served(Memory);

impl Served {
    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let size = self.0.lock().image.bytes();
        let is_file = inode == FILE;
        FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if is_file { FileType::RegularFile } else { FileType::Directory },
            perm: if is_file { 0o600 } else { 0o700 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent == INodeNo::ROOT && name == NAME {
            reply.entry(&FOREVER, &self.attributes(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attributes(inode));
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.attr(&FOREVER, &self.attributes(inode));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let state = self.0.lock();
        let left = state.image.bytes().saturating_sub(offset).min(u64::from(size));
        reply.data(&state.image.read(offset, usize::try_from(left).expect("32 bits")));
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.0.lock();
        if offset + data.len() as u64 > state.image.bytes() {
            return reply.error(Errno::ENOSPC);
        }
        if state.failing.write(offset, data.len()) {
            return reply.error(Errno::EIO);
        }
        state.image.write(offset, data);
        if let Some(log) = &mut state.log {
            log.sent.push(Sent::Write(offset, data.into()));
        }
        reply.written(u32::try_from(data.len()).expect("32 bits"));
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut state = self.0.lock();
        if state.failing.next() {
            return reply.error(Errno::EIO);
        }
        if let Some(log) = &mut state.log {
            log.sent.push(Sent::Flush);
        }
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    /// The loop device then offers no discard.
    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        reply.error(Errno::EOPNOTSUPP);
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        if offset == 0 {
            let _ = reply.add(FILE, 1, FileType::RegularFile, NAME);
        }
        reply.ok();
    }
}

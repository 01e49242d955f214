//! Small file systems, to be filled. Where this test's thread and its children alone see them: none is left behind.
#![allow(clippy::disallowed_methods, reason = "a test makes its own files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};

/// What is mounted from here on goes with this thread and its children, however they end.
///
/// # Errors
/// Why this is not possible here.
pub fn own_mounts() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("file systems can only be mounted by root".to_owned());
    }
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .map_err(|error| format!("no mount namespace: {error}"))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|error| format!("mounts cannot be made private: {error}"))
}

/// A small file system. Dropped, it is unmounted.
#[derive(Debug)]
pub struct Small {
    place: PathBuf,
    fillers: PathBuf,
    /// Where the file is that it is in.
    memory: Option<PathBuf>,
}

impl Small {
    /// A tmpfs, with room enough for now.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn tmpfs(place: &Path) -> Result<Self, String> {
        let small = Self::mounted(place, &["-t", "tmpfs", "-o", "mode=755", "tmpfs"])?;
        small.limit(None, None);
        Ok(small)
    }

    /// One of `kind` in a file, with so many MB. The file is in memory: to fill it waits for no disk.
    ///
    /// # Errors
    /// It cannot be made or mounted.
    pub fn image(kind: &str, megabytes: u64, place: &Path) -> Result<Self, String> {
        let memory = place.with_extension("memory");
        fs::create_dir_all(&memory).unwrap();
        Self::mount(&memory, &["-t", "tmpfs", "tmpfs"])?;
        let image = memory.join("image");
        File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        let made = Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image).output();
        if !made.as_ref().is_ok_and(|made| made.status.success()) {
            return Err(format!("mkfs.{kind}: {made:?}"));
        }
        let image = image.display().to_string();
        let mut small = Self::mounted(place, &["-t", kind, "-o", "loop", &image])?;
        small.memory = Some(memory);
        Ok(small)
    }

    fn mounted(place: &Path, arguments: &[&str]) -> Result<Self, String> {
        fs::create_dir_all(place).unwrap();
        Self::mount(place, arguments)?;
        Ok(Self { place: place.to_owned(), fillers: place.join("fillers"), memory: None })
    }

    fn mount(place: &Path, arguments: &[&str]) -> Result<(), String> {
        match Command::new("mount").args(arguments).arg(place).output() {
            Ok(done) if done.status.success() => Ok(()),
            other => Err(format!("mount {arguments:?}: {other:?}")),
        }
    }

    /// Sets limits of a tmpfs: so many pages and inodes; None: enough.
    pub fn limit(&self, pages: Option<u64>, inodes: Option<u64>) {
        let (bytes, inodes) = (pages.unwrap_or(1 << 13) * 4096, inodes.unwrap_or(1 << 13));
        let options = format!("remount,size={bytes},nr_inodes={inodes}");
        let set = Command::new("mount").args(["-o", &options]).arg(&self.place).output().unwrap();
        assert!(set.status.success(), "{options}: {}", String::from_utf8_lossy(&set.stderr));
    }

    /// Pages and inodes in use.
    pub fn used(&self) -> (u64, u64) {
        let told = rustix::fs::statvfs(&self.place).unwrap();
        ((told.f_blocks - told.f_bfree) * told.f_frsize / 4096, told.f_files - told.f_ffree)
    }

    /// Takes all the room there is, to the last byte and the last inode.
    pub fn fill(&self) {
        let times = fs::metadata(&self.place).unwrap();
        fs::create_dir_all(&self.fillers).unwrap();
        let mut filler = File::create(self.fillers.join("bytes")).unwrap();
        for piece in [1 << 20, 1 << 12, 1 << 12, 1] {
            while filler.write_all(&vec![1; piece]).is_ok() {}
            // What was only promised so far is there now, or is not.
            let _ = filler.sync_all();
        }
        let taken =
            (0..100_000).take_while(|number| File::create(self.fillers.join(number.to_string())).is_ok());
        assert!(taken.count() < 100_000, "{}: there is no limit", self.place.display());
        self.give(&times);
    }

    /// Gives back what [`Self::fill`] took. What was done shows in no time.
    pub fn make_room(&self) {
        let times = fs::metadata(&self.place).unwrap();
        fs::remove_dir_all(&self.fillers).unwrap();
        self.give(&times);
    }

    fn give(&self, times: &fs::Metadata) {
        filetime::set_file_mtime(&self.place, filetime::FileTime::from_last_modification_time(times))
            .unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let limit = Instant::now() + Duration::from_secs(10);
        for place in std::iter::once(&self.place).chain(&self.memory) {
            while unmount(place, UnmountFlags::empty()).is_err() {
                if Instant::now() > limit {
                    let _ = unmount(place, UnmountFlags::DETACH);
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

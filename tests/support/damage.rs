//! Every kind of damage to every kind of thing that a day is made of: what verify must name, and what a restore must refuse.
#![allow(clippy::disallowed_methods, reason = "a test does to the disk what nobody should")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use filetime::FileTime;

/// What is done to a file.
#[derive(Debug, Clone)]
pub enum How {
    /// One bit, at this part of its length.
    Flip(f64),
    /// The end is cut off: so many bytes are left out.
    Cut(u64),
    /// One byte more.
    Append,
    /// It is removed, with all that is in it.
    Delete,
    /// It changes places with this one.
    Swap(PathBuf),
    /// Its permission bits.
    Mode,
    /// Its owner; needs root.
    Owner,
    /// Its modification time.
    Time,
    /// Another target of a symbolic link.
    Retarget,
    /// One of several names of an inode becomes a file of its own.
    Part,
    /// An extended attribute is added.
    Xattr,
    /// Its extended attributes are removed.
    NoXattr,
    /// It becomes something else.
    Kind,
    /// It becomes a named pipe: who opens it waits for ever.
    Pipe,
    /// A file, directory or link that was not there.
    Add(&'static str),
}

/// One damage.
#[derive(Debug, Clone)]
pub struct Case {
    /// Relative to the day.
    pub file: PathBuf,
    /// What is done to it.
    pub how: How,
    /// What kind of thing it is: `a patch`, `a file of a tree`.
    pub of: &'static str,
}

impl Case {
    /// For messages.
    pub fn name(&self) -> String {
        format!("{}: {:?} of {}", self.of, self.how, self.file.display())
    }
}

/// Every case for this day. `before` is another day of the same repository.
pub fn cases(day: &Path, before: &Path) -> Vec<Case> {
    let mut cases = Vec::new();
    let seal = |day: &Path| Path::new("../../seals").join(day.file_name().unwrap()).with_extension("json");
    let of_other = |name: &str| before.join(name);
    let mut files = vec![
        ("the manifest", PathBuf::from("manifest.json"), Some(of_other("manifest.json"))),
        ("the manifest's digest", "manifest.blake3".into(), Some(of_other("manifest.blake3"))),
        ("the seal record", seal(day), Some(day.join(seal(before)))),
        ("the records", "files.jsonl.zst".into(), Some(of_other("files.jsonl.zst"))),
        ("the script", "restore.sh".into(), None),
        ("the guide", "RESTORE.md".into(), Some(of_other("RESTORE.md"))),
        ("roles", "database/globals.sql".into(), Some(day.join("RESTORE.md"))),
        ("an archive", "database/shop/rest.dump".into(), Some(day.join("database/other/rest.dump"))),
        (
            "a list of tables",
            "database/shop/tables.jsonl".into(),
            Some(day.join("database/other/tables.jsonl")),
        ),
        ("a list to load", "database/shop/load.txt".into(), Some(day.join("database/other/load.txt"))),
    ];
    let segments = Segments::of(day);
    let [one, other] = [0, 1].map(|at| segments.wholes[at].clone());
    files.push(("a whole segment", one, Some(day.join(other))));
    files.push((
        "a patch",
        segments.patches[0].clone(),
        segments.patches.get(1).map(|other| day.join(other)),
    ));
    files.push(("a base", segments.bases[0].clone(), Some(day.join(&segments.wholes[0]))));
    files.push(("a file of a tree", "trees/files/one".into(), Some(day.join("trees/files/two"))));
    files.push(("a deep file of a tree", "trees/files/deep/er/file".into(), None));
    for (of, file, other) in files {
        let mut hows: Vec<How> = [0.0, 0.1, 0.35, 0.5, 0.75, 1.0].map(How::Flip).into();
        hows.extend([How::Cut(1), How::Cut(9), How::Append, How::Delete, How::Kind, How::Pipe]);
        hows.extend(other.map(How::Swap));
        cases.extend(hows.into_iter().map(|how| Case { of, file: file.clone(), how }));
    }
    cases.extend(cases_of_attributes());
    cases.extend(cases_of_additions());
    cases
}

/// What is not in the content of a file.
fn cases_of_attributes() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut more = |of, file: &str, hows: &[How]| {
        cases.extend(hows.iter().map(|how| Case { of, file: file.into(), how: how.clone() }));
    };
    let attributes = [How::Mode, How::Owner, How::Time, How::Xattr];
    more("a file of a tree", "trees/files/one", &attributes);
    more("a file of a tree", "trees/files/one", &[How::NoXattr]);
    more("an empty file", "trees/files/empty", &[How::Append, How::Delete, How::Kind]);
    more("a directory", "trees/files/deep", &attributes);
    more("a directory", "trees/files/deep/er", &[How::Delete, How::Kind]);
    more("the root of a tree", "trees/files", &attributes);
    more("the root of a tree", "trees/files", &[How::Delete]);
    more(
        "a symbolic link",
        "trees/files/link",
        &[How::Delete, How::Retarget, How::Kind, How::Owner, How::Time],
    );
    more("a pipe", "trees/files/pipe", &[How::Delete, How::Kind, How::Mode, How::Time]);
    more("one of two names", "trees/files/second", &[How::Part, How::Delete, How::Flip(0.5), How::Mode]);
    cases
}

/// What nobody knows.
fn cases_of_additions() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in ["file", "directory", "link"] {
        for place in
            ["", "database/", "database/shop/", "database/shop/tables/", "trees/", "trees/files/deep/"]
        {
            let (of, file) = ("what was added", PathBuf::from(format!("{place}added")));
            cases.push(Case { of, file, how: How::Add(kind) });
        }
    }
    cases
}

/// The segments of a day by what they are, relative to the day.
pub struct Segments {
    pub wholes: Vec<PathBuf>,
    pub patches: Vec<PathBuf>,
    pub bases: Vec<PathBuf>,
}

impl Segments {
    pub fn of(day: &Path) -> Self {
        let (mut wholes, mut patches, mut bases) = (Vec::new(), Vec::new(), Vec::new());
        for database in ["other", "shop"] {
            let home = Path::new("database").join(database);
            let load = fs::read_to_string(day.join(&home).join("load.txt")).unwrap();
            for line in load.lines() {
                match line.split(' ').collect::<Vec<_>>().as_slice() {
                    ["F", digest] => wholes.push(home.join(format!("tables/{digest}.zst"))),
                    ["P", digest, base] => {
                        patches.push(home.join(format!("tables/{digest}.patch.zst")));
                        bases.push(home.join(format!("tables/{base}.zst")));
                    }
                    _ => {}
                }
            }
        }
        // Two that are different files of some size.
        wholes.sort_by_key(|path| std::cmp::Reverse(fs::metadata(day.join(path)).unwrap().len()));
        wholes.dedup();
        Self { wholes, patches, bases }
    }
}

/// What was there before. Dropped, it is there again, the same inode with the same times.
pub struct Undo {
    path: PathBuf,
    aside: Option<PathBuf>,
    parents: Vec<(PathBuf, FileTime)>,
    more: Option<Box<Undo>>,
}

impl Case {
    /// Does it. Inodes that other days share are not written to: the file is another one with the same attributes.
    pub fn inflict(&self, day: &Path) -> Undo {
        let path = day.join(&self.file);
        if let How::Add(kind) = self.how {
            let undo = Undo::nothing_was_at(&path);
            match kind {
                "file" => fs::write(&path, "foreign").unwrap(),
                "directory" => fs::create_dir(&path).unwrap(),
                _ => symlink("/etc/passwd", &path).unwrap(),
            }
            undo.set_parents();
            return undo;
        }
        let mut undo = Undo::take(&path);
        let aside = undo.aside.clone().unwrap();
        match &self.how {
            How::Delete => {}
            How::Kind if aside.is_dir() => fs::write(&path, "").unwrap(),
            How::Kind => fs::create_dir(&path).unwrap(),
            How::Pipe => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap(),
            How::Swap(other) => {
                let second = Undo::take(other);
                let others = second.aside.clone().unwrap();
                copy(&others, &path);
                copy(&aside, other);
                second.set_parents();
                undo.more = Some(Box::new(second));
            }
            how => {
                copy(&aside, &path);
                let times = FileTime::from_last_modification_time(&fs::symlink_metadata(&aside).unwrap());
                spoil(how, &path, &aside);
                // Without opening it: a pipe would wait for its other end.
                if !matches!(how, How::Time) {
                    filetime::set_symlink_file_times(&path, times, times).unwrap();
                }
            }
        }
        undo.set_parents();
        undo
    }
}

fn spoil(how: &How, path: &Path, aside: &Path) {
    let meta = fs::symlink_metadata(path).unwrap();
    match how {
        How::Flip(part) => {
            let mut bytes = fs::read(path).unwrap();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a place in a file"
            )]
            let at = ((bytes.len() - 1) as f64 * part) as usize;
            bytes[at] ^= 1 << (at % 8);
            fs::write(path, bytes).unwrap();
        }
        How::Cut(bytes) => {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(meta.len().saturating_sub(*bytes)).unwrap();
        }
        How::Append => {
            let mut bytes = fs::read(path).unwrap();
            bytes.push(b'\n');
            fs::write(path, bytes).unwrap();
        }
        How::Mode => fs::set_permissions(path, fs::Permissions::from_mode(meta.mode() ^ 0o4)).unwrap(),
        How::Owner => std::os::unix::fs::lchown(path, Some(meta.uid() + 7), None).unwrap(),
        How::Time => {
            let time = FileTime::from_unix_time(meta.mtime() + 1, 5);
            filetime::set_symlink_file_times(path, time, time).unwrap();
        }
        How::Retarget => {
            fs::remove_file(path).unwrap();
            symlink("elsewhere", path).unwrap();
        }
        // The copy is a file of its own already.
        How::Part => assert!(fs::metadata(aside).unwrap().nlink() > 1),
        How::Xattr => xattr::set(path, "user.added", b"1").unwrap(),
        How::NoXattr => {
            for name in xattr::list(path).unwrap() {
                xattr::remove(path, name).unwrap();
            }
        }
        How::Delete | How::Swap(_) | How::Kind | How::Pipe | How::Add(_) => unreachable!("done elsewhere"),
    }
}

/// With all attributes.
fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg("--no-target-directory").arg(from).arg(to).status().unwrap();
    assert!(done.success(), "cp {} {}", from.display(), to.display());
}

impl Undo {
    fn nothing_was_at(path: &Path) -> Self {
        let parent = path.parent().unwrap().to_owned();
        let time = FileTime::from_last_modification_time(&fs::metadata(&parent).unwrap());
        Self { path: path.to_owned(), aside: None, parents: vec![(parent, time)], more: None }
    }

    /// Moves the original out of the vault's sight.
    fn take(path: &Path) -> Self {
        let mut undo = Self::nothing_was_at(path);
        let days =
            path.ancestors().find(|above| above.ends_with("days") || above.ends_with("seals")).unwrap();
        let place = days.parent().unwrap().parent().unwrap().join("aside");
        fs::create_dir_all(&place).unwrap();
        let number = fs::read_dir(&place).unwrap().count();
        let aside = place.join(number.to_string());
        fs::rename(path, &aside).unwrap();
        undo.aside = Some(aside);
        undo
    }

    fn set_parents(&self) {
        for (path, time) in &self.parents {
            filetime::set_file_mtime(path, *time).unwrap();
        }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        // Its parent's time was taken later.
        drop(self.more.take());
        let is_directory = fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.is_dir());
        if is_directory {
            fs::remove_dir_all(&self.path).unwrap();
        } else if self.path.symlink_metadata().is_ok() {
            fs::remove_file(&self.path).unwrap();
        }
        if let Some(aside) = &self.aside {
            fs::rename(aside, &self.path).unwrap();
        }
        self.set_parents();
    }
}

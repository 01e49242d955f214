//! Trees that a backup meets once in its life, each kept, verified, put elsewhere and brought back in place by the real `daykeep`.
#![allow(missing_docs, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "what a test could not do here, and how many inodes it came to")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::unistd::geteuid;

mod support;

use support::small::{Small, own_mounts};

/// A repository of one tree.
struct Home {
    dir: tempfile::TempDir,
    tree: PathBuf,
    /// Another user than ours, as `setpriv` takes it.
    user: Vec<String>,
}

impl Home {
    fn new(hold: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("dk").tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        Self::around(dir, tree, hold)
    }

    fn around(dir: tempfile::TempDir, tree: PathBuf, hold: &str) -> Self {
        let root = dir.path().display();
        let hold = if hold.is_empty() { "[repository.r.hold.none]" } else { hold };
        let text = format!(
            "state_dir = \"{root}/state\"\n[daemon]\nsocket = \"{root}/s\"\n[repository.r]\nvault = \"{root}/vault\"\n\
             [repository.r.limits]\nmin_free = \"1 MB\"\n{hold}\n[repository.r.tree.files]\npath = \"{}\"\n",
            tree.display()
        );
        fs::write(dir.path().join("daykeep.toml"), text.replace("$T", &root.to_string())).unwrap();
        fs::create_dir(dir.path().join("vault")).unwrap();
        Self { dir, tree, user: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn daykeep(&self, arguments: &[&str]) -> Output {
        let program = self.path("daykeep");
        let program = if program.exists() { program } else { env!("CARGO_BIN_EXE_daykeep").into() };
        let mut command = Command::new("env");
        if !self.user.is_empty() {
            command = Command::new("setpriv");
            command.args(&self.user);
        }
        command.arg(program).arg("--config").arg(self.path("daykeep.toml")).arg("--quiet").args(arguments);
        command.current_dir(self.dir.path()).output().expect("daykeep starts")
    }

    #[track_caller]
    fn must(&self, arguments: &[&str]) {
        let output = self.daykeep(arguments);
        assert!(output.status.success(), "daykeep {arguments:?}: {}", said(&output));
    }

    fn days(&self) -> Vec<PathBuf> {
        let days = self.path("vault/r/days");
        let mut days: Vec<PathBuf> = match fs::read_dir(days) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(_) => Vec::new(),
        };
        days.retain(|day| !day.file_name().unwrap().as_bytes().starts_with(b"."));
        days.sort();
        days
    }

    /// The newest day is good, and what it puts elsewhere is `expected`, a [`listing`].
    #[track_caller]
    fn assert_is_kept(&self, expected: &str) {
        self.must(&["verify", "r", "latest"]);
        self.must(&["restore", "r", "latest", "--to", self.path("elsewhere").to_str().unwrap(), "--yes"]);
        assert_same(&listing(&self.path("elsewhere/files")), expected, "elsewhere");
        sh(self.dir.path(), "rm -rf elsewhere");
    }

    /// What has become of the tree is brought back, and is `expected`.
    #[track_caller]
    fn assert_comes_back(&self, expected: &str) {
        self.must(&["restore", "r", "latest", "--yes"]);
        // What is aside until it is confirmed may have further names of what stayed.
        self.must(&["restore", "r", "--confirm", "--yes"]);
        assert_same(&listing(&self.tree), expected, "in place");
    }
}

fn said(output: &Output) -> String {
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    format!("{stdout}{stderr}=> {:?}", output.status.code())
}

#[track_caller]
fn assert_same(is: &str, expected: &str, what: &str) {
    let differs = is.lines().zip(expected.lines()).find(|(is, expected)| is != expected);
    assert_eq!(is.len(), expected.len(), "{what}: {differs:?}");
    assert!(differs.is_none(), "{what}: {differs:?}");
}

fn sh(dir: &Path, script: &str) -> Vec<u8> {
    let output = Command::new("bash").args(["-ec", script]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// All that there is to see of a tree, however long its paths are; sockets are recorded only. `find` goes down by file descriptors.
fn listing(root: &Path) -> String {
    let names = sh(
        root,
        "find . ! -type s -printf '%P %y %s %m %U:%G %T@ %n %l\\0' | sed -z 's/^\\(.*\\) d [0-9]* /\\1 d - /' | sort -z
         find . -type f -execdir b2sum -l 64 -- {} + | sort",
    );
    names.escape_ascii().to_string().replace("\\x00", "\n").replace("\\n", "\n")
}

/// Names of 255 bytes that have every byte but `/` and NUL at every place between them.
fn longest_names() -> Vec<Vec<u8>> {
    let bytes: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    (0..bytes.len())
        .step_by(7)
        .map(|turn| (0..255).map(|at| bytes[(at + turn) % bytes.len()]).collect())
        .collect()
}

#[test]
fn every_name_and_every_kind_of_thing_comes_back() {
    let home = Home::new("");
    for (number, name) in longest_names().into_iter().enumerate() {
        let path = home.tree.join(OsStr::from_bytes(&name));
        match number % 4 {
            0 => fs::write(path, format!("{number}")).unwrap(),
            1 => {
                fs::create_dir(&path).unwrap();
                fs::write(path.join(OsStr::from_bytes(&name)), "within").unwrap();
            }
            2 => symlink(OsStr::from_bytes(&name), path).unwrap(),
            _ => {
                fs::hard_link(home.tree.join(OsStr::from_bytes(&longest_names()[number - 3])), path).unwrap();
            }
        }
    }
    sh(
        &home.tree,
        "ln -s itself itself; ln -s b a; ln -s a b; mkdir -p loop/below; ln -s .. loop/below/up; ln -s ../loop loop/again
         ln -s /proc/self/cwd elsewhere; mkfifo pipe; mkdir -m 0000 closed; : >empty; printf x >-rf; printf y >'*'
         d=$(printf '%0250d' 1); for i in $(seq 24); do mkdir $d; cd -P $d; echo $i >f; ln -s $d up; done; mkfifo pipe",
    );
    if geteuid().is_root() {
        sh(&home.tree, "mknod null c 1 3; mknod disk b 7 250; chown 12:34 disk; chmod 4755 empty");
    }
    let _socket = UnixListener::bind(home.tree.join("socket")).unwrap();
    let then = listing(&home.tree);
    assert!(then.len() > 24 * 5000, "paths longer than any call takes: {}", then.len());
    home.must(&["run", "r"]);
    home.assert_is_kept(&then);
    home.must(&["run", "r"]);
    home.assert_is_kept(&then);

    // Everything is gone or something else, and comes back from what nobody may follow out of the tree.
    sh(
        &home.tree,
        "rm -rf loop 0*; ln -s / loop; rm pipe empty; mkdir pipe empty; ln -sf /etc/passwd itself; rm -f null; : >null",
    );
    home.assert_comes_back(&then);
}

#[test]
fn a_tree_that_never_rests_is_kept_as_it_was_when_it_was_held() {
    // While it is held the writer rests, and the tree is copied: that is what the day must be.
    let hold = "[repository.r.hold.command]\n\
        pause = [\"sh\", \"-c\", \"touch $T/rest; until [ -e $T/resting ]; do sleep 0.01; done; rm -rf $T/then; cp -a $T/tree $T/then\"]\n\
        release = [\"sh\", \"-c\", \"rm -f $T/resting $T/rest\"]";
    let home = Home::new(hold);
    let name = |number: u64| home.tree.join(format!("d{}/n{}", number % 13, number % 97));
    for number in 0..13 {
        fs::create_dir(home.tree.join(format!("d{number}"))).unwrap();
    }
    let (stop, turns) = (AtomicBool::new(false), std::sync::atomic::AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0_u64.. {
                turns.store(turn, Ordering::Relaxed);
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                if home.path("rest").exists() {
                    let _ = fs::write(home.path("resting"), "");
                    while home.path("resting").exists() && !stop.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                }
                let path = name(turn.wrapping_mul(7919) % 1261);
                let other = name(turn.wrapping_mul(104_729) % 1261);
                // Each may fail: it depends on what is there.
                let _ = match turn % 9 {
                    0..=2 => fs::write(&path, format!("{turn}").repeat(200)),
                    3 => fs::remove_file(&path),
                    4 => fs::create_dir(&path).and_then(|()| fs::write(path.join("in"), "within")),
                    5 => fs::remove_dir_all(&path),
                    6 => fs::rename(&path, &other),
                    7 => symlink("../..", &path),
                    _ => fs::hard_link(&path, &other),
                };
                if turn % 50 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let stopped = Stop(&stop);
        for _ in 0..4 {
            home.must(&["run", "r"]);
            home.assert_is_kept(&listing(&home.path("then")));
        }
        drop(stopped);
    });
    assert!(turns.load(Ordering::Relaxed) > 200, "it was written to all the time");
    // Nobody is there any more to say that it rests.
    let then = listing(&home.path("then"));
    fs::write(home.path("resting"), "").unwrap();
    home.assert_comes_back(&then);
}

/// Whatever fails, the thread ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How many inodes the files below are.
fn inodes(root: &Path) -> usize {
    let found = sh(root, "find . -type f -printf '%i\\n' | sort -u | wc -l");
    String::from_utf8(found).unwrap().trim().parse().unwrap()
}

#[test]
fn names_of_one_inode_stay_one_when_the_older_day_has_no_room_for_all_of_them() {
    let home = Home::new("");
    let first = home.tree.join("0");
    fs::write(&first, "one inode").unwrap();
    for number in 1..33_000 {
        fs::hard_link(&first, home.tree.join(number.to_string())).unwrap();
    }
    for _ in 0..2 {
        home.must(&["run", "r"]);
        home.must(&["verify", "r", "latest"]);
    }
    for day in home.days() {
        assert_eq!(inodes(&day.join("trees/files")), 1, "{}", day.display());
    }
}

#[test]
fn seventy_thousand_names_of_one_inode_come_back_where_no_inode_can_have_so_many() {
    if let Err(reason) = own_mounts() {
        eprintln!("SKIPPED: {reason}");
        return;
    }
    let dir = tempfile::Builder::new().prefix("dk").tempdir().unwrap();
    let large = dir.path().join("large");
    let mounted = Small::tmpfs(&large).unwrap();
    mounted.limit(None, Some(80_000));
    let tree = large.join("tree");
    for part in 0..70 {
        fs::create_dir_all(tree.join(part.to_string())).unwrap();
    }
    let first = tree.join("0/0");
    fs::write(&first, "one inode").unwrap();
    for number in 1..70_000 {
        fs::hard_link(&first, tree.join(format!("{}/{number}", number / 1000))).unwrap();
    }
    let home = Home::around(dir, tree, "");
    home.must(&["run", "r"]);
    let day = home.days().pop().unwrap();
    let names = |root: &Path| {
        let found = sh(root, "find . -type f -size -10c -printf 'x\\n' | wc -l");
        String::from_utf8(found).unwrap().trim().parse::<usize>().unwrap()
    };
    let kept = day.join("trees/files");
    assert_eq!(names(&kept), 70_000);
    eprintln!("inodes in the day: {}", inodes(&kept));
    home.must(&["verify", "r", "latest"]);
    // The next day finds the inode of the day before full of names.
    home.must(&["run", "r"]);
    let second = home.days().pop().unwrap().join("trees/files");
    assert_eq!(names(&second), 70_000);
    eprintln!("inodes in the second day: {}", inodes(&second));
    home.must(&["verify", "r", "latest"]);

    home.must(&["restore", "r", "latest", "--to", home.path("elsewhere").to_str().unwrap(), "--yes"]);
    let elsewhere = home.path("elsewhere/files");
    assert_eq!(names(&elsewhere), 70_000);
    assert_eq!(fs::read_to_string(elsewhere.join("69/69999")).unwrap(), "one inode");
    eprintln!("inodes elsewhere: {}", inodes(&elsewhere));
    // Where an inode is full another is begun, and no more than that. A file system may allow them all to be one.
    for place in [&kept, &second, &elsewhere] {
        assert!(inodes(place) <= 2, "{}: {} inodes", place.display(), inodes(place));
    }
    sh(&home.tree, "rm -r 7 69");
    home.must(&["restore", "r", "latest", "--yes"]);
    assert_eq!(names(&home.tree), 70_000);
    assert_eq!(fs::read_to_string(home.tree.join("7/7000")).unwrap(), "one inode");
    home.must(&["restore", "r", "--confirm", "--yes"]);
    drop(mounted);
}

#[test]
fn what_is_mounted_in_the_tree_is_kept_or_left_alone_as_the_configuration_says() {
    if let Err(reason) = own_mounts() {
        eprintln!("SKIPPED: {reason}");
        return;
    }
    let home = Home::new("");
    sh(&home.tree, "mkdir -p sub/mounted other; echo 1 >sub/mounted/hidden; echo 2 >other/file");
    let mounted = Small::tmpfs(&home.tree.join("sub/mounted")).unwrap();
    sh(&home.tree, "cd sub/mounted; echo 4 >inside; mkdir below; chmod 0751 .; touch -d @1000000000 .");
    let then = listing(&home.tree);
    home.must(&["run", "r"]);
    home.assert_is_kept(&then);
    sh(&home.tree, "rm -r other; echo 3 >sub/new");
    home.assert_comes_back(&then);
    sh(&home.tree, "rm sub/mounted/inside");
    let refused = home.daykeep(&["restore", "r", "latest", "--yes"]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains(home.tree.join("sub/mounted").to_str().unwrap()), "{}", said(&refused));
    assert!(!home.tree.join("sub/mounted/inside").exists(), "nothing was changed");

    // From here on it is not the tree's.
    let text = fs::read_to_string(home.path("daykeep.toml")).unwrap();
    fs::write(home.path("daykeep.toml"), text + "one_file_system = true\n").unwrap();
    home.must(&["run", "r"]);
    home.must(&["verify", "r", "latest"]);
    let kept = home.days().pop().unwrap().join("trees/files/sub/mounted");
    assert_eq!(fs::read_dir(&kept).unwrap().count(), 0, "nothing of what is mounted, nor of what that hides");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o7777, 0o751);
    sh(&home.tree, "touch -d @1000000001 sub/mounted");
    let now = listing(&home.tree);
    sh(&home.tree, "rm -r other; echo 5 >sub/mounted/since");
    home.must(&["restore", "r", "latest", "--yes"]);
    home.must(&["restore", "r", "--confirm", "--yes"]);
    assert_eq!(fs::read_to_string(home.tree.join("sub/mounted/since")).unwrap(), "5\n", "it stays as it is");
    sh(&home.tree, "cd sub/mounted; rm since; touch -d @1000000001 .");
    assert_same(&listing(&home.tree), &now, "in place");
    drop(mounted);
    assert_eq!(fs::read_to_string(home.tree.join("sub/mounted/hidden")).unwrap(), "1\n");
}

#[test]
fn what_may_not_be_read_fails_the_run_by_name_and_who_is_not_root_keeps_the_rest() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root can become another user");
        return;
    }
    let hold = "[repository.r.hold.command]\npause = [\"sh\", \"-c\", \"echo pause >> $T/trace\"]\n\
                release = [\"sh\", \"-c\", \"echo release >> $T/trace\"]";
    let mut home = Home::new(hold);
    sh(
        home.dir.path(),
        "chmod 755 .; mkdir -p tree/sub; echo 1 >tree/sub/open; echo 2 >tree/sub/secret; chmod 600 tree/sub/secret
         chmod 755 tree/sub; mkdir state; chown nobody:nogroup . vault state tree/sub/open",
    );
    fs::copy(env!("CARGO_BIN_EXE_daykeep"), home.path("daykeep")).unwrap();
    fs::set_permissions(home.path("daykeep"), fs::Permissions::from_mode(0o755)).unwrap();
    home.user = ["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"].map(str::to_owned).into();
    let output = home.daykeep(&["run", "r"]);
    let secret = home.tree.join("sub/secret");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let named = format!("cannot open {}\ncaused by: Permission denied", secret.display());
    assert!(said(&output).contains(&named), "{}", said(&output));
    assert!(home.days().is_empty());
    fs::set_permissions(home.tree.join("sub"), fs::Permissions::from_mode(0o700)).unwrap();
    let output = home.daykeep(&["run", "r"]);
    assert!(said(&output).contains(home.tree.join("sub").to_str().unwrap()), "{}", said(&output));
    assert!(home.days().is_empty(), "a directory that may not be read is no empty one");
    let trace = fs::read_to_string(home.path("trace")).unwrap_or_default();
    assert_eq!(trace.matches("pause").count(), trace.matches("release").count(), "{trace}");

    sh(&home.tree, "chmod 755 sub; chmod 644 sub/secret");
    let begun = Instant::now();
    home.must(&["run", "r"]);
    home.must(&["verify", "r", "latest"]);
    home.must(&["restore", "r", "latest", "--to", home.path("elsewhere").to_str().unwrap(), "--yes"]);
    assert_eq!(fs::read_to_string(home.path("elsewhere/files/sub/secret")).unwrap(), "2\n");
    let owner = |path: PathBuf| fs::metadata(path).unwrap().uid();
    assert_eq!(
        owner(home.path("elsewhere/files/sub/secret")),
        owner(home.path("vault")),
        "files cannot be given away"
    );
    assert!(begun.elapsed() < Duration::from_secs(100));
}

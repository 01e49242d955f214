//! `restore.sh` restores a day without daykeep, and refuses what it must. The days are made by hand, as the format says.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::day;
use support::postgres::Server;
use tempfile::TempDir;

const SQL: &str = r#"
    CREATE ROLE keeper PASSWORD 'x';
    ALTER DATABASE postgres SET work_mem = '5MB';
    CREATE TABLE in_postgres (a int);
    INSERT INTO in_postgres VALUES (7);
    CREATE DATABASE "it's \ a ""shop"" = %" OWNER keeper;
    \connect -reuse-previous=on "dbname='it\'s \\ a ""shop"" = %'"
    CREATE TABLE t (id int PRIMARY KEY, body text);
    INSERT INTO t SELECT g, repeat(md5(g::text), 10) FROM generate_series(1, 3000) g;
    CREATE TABLE u (id int REFERENCES t);
    INSERT INTO u SELECT g FROM generate_series(1, 100) g;
"#;
const SHOP: &str = r#"it's \ a "shop" = %"#;

/// A day with two databases and a tree of odd files.
struct Kept {
    home: TempDir,
}

impl Kept {
    fn make() -> Self {
        let home = tempfile::tempdir().unwrap();
        let source = home.path().join("source it's");
        make_tree(&source);
        let server = Server::start(None);
        server.psql("postgres", SQL);
        day::make(&server, &[("files", &source)], &home.path().join("day"));
        fs::rename(&source, home.path().join("was")).unwrap();
        Self { home }
    }

    fn day(&self) -> PathBuf {
        self.home.path().join("day")
    }

    /// Where the tree was, as the manifest says.
    fn source(&self) -> PathBuf {
        self.home.path().join("source it's")
    }

    /// The tree as it was.
    fn was(&self) -> PathBuf {
        self.home.path().join("was")
    }

    fn restore(&self, server: Option<&Server>, args: &[&str]) -> Output {
        let mut script = Command::new(self.day().join("restore.sh"));
        // From elsewhere: it finds its day by its own name.
        script.args(args).current_dir("/");
        match server {
            Some(server) => script.envs(server.environment()),
            None => script.env("PGHOST", "/nonexistent"),
        };
        script.output().unwrap()
    }

    /// The first file of the day whose name ends so.
    fn find(&self, end: &str) -> PathBuf {
        let found = Command::new("find")
            .arg(self.day())
            .args(["-type", "f", "-name"])
            .arg(format!("*{end}"))
            .output();
        let found = String::from_utf8(found.unwrap().stdout).unwrap();
        PathBuf::from(found.lines().min().unwrap_or_else(|| panic!("no {end} in the day")))
    }
}

fn make_tree(root: &Path) {
    let dir = root.join("dir with space");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("a"), "content").unwrap();
    fs::hard_link(dir.join("a"), root.join("b")).unwrap();
    symlink("dir with space/a", root.join("link")).unwrap();
    fs::write(root.join("back\\slash \"quoted\" é"), "odd too").unwrap();
    fs::write(root.join(OsStr::from_bytes(b"caf\xe9\n'\"\\")), "odd").unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(8 * 1024 * 1024).unwrap();
    fs::set_permissions(root.join("sparse"), fs::Permissions::from_mode(0o4751)).unwrap();
    filetime::set_file_mtime(root.join("sparse"), filetime::FileTime::from_unix_time(-5, 123_456_789))
        .unwrap();
    let _ = xattr::set(root.join("b"), "user.note", b"kept");
    fs::set_permissions(root, fs::Permissions::from_mode(0o710)).unwrap();
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[track_caller]
fn refused(output: &Output, why: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    assert!(said(output).contains(why), "{}", said(output));
}

fn assert_same_tree(restored: &Path, was: &Path) {
    // Names, kinds, modes, owners, link counts, sizes and times, in one listing.
    let listing = |root: &Path| {
        let format = "%P %y %m %U %G %n %s %T@ %l\\0";
        let find = Command::new("find")
            .arg(".")
            .args(["-not", "-type", "d", "-printf", format])
            .current_dir(root)
            .output();
        let mut names: Vec<Vec<u8>> =
            find.unwrap().stdout.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        names.sort();
        names
    };
    assert_eq!(listing(restored), listing(was));
    assert!(
        Command::new("diff")
            .args(["-r", "--no-dereference"])
            .args([restored, was])
            .status()
            .unwrap()
            .success()
    );
    let inode = |name: &str| fs::metadata(restored.join(name)).unwrap().ino();
    assert_eq!(inode("b"), inode("dir with space/a"), "hard links stay");
    assert!(fs::metadata(restored.join("sparse")).unwrap().blocks() < 64, "holes stay");
    assert_eq!(fs::metadata(restored).unwrap().mode() & 0o7777, 0o710, "the root keeps its mode");
    assert_eq!(xattr::get(restored.join("b"), "user.note").ok(), xattr::get(was.join("b"), "user.note").ok());
}

#[test]
fn a_day_comes_back_whole() {
    let kept = Kept::make();
    let server = Server::start(None);
    let checked = kept.restore(Some(&server), &["--check"]);
    assert!(checked.status.success(), "{}", said(&checked));
    assert!(said(&checked).contains("the day is sound and can be restored"));
    assert_eq!(server.psql("postgres", "SELECT count(*) FROM pg_database"), "3", "a check changes nothing");
    assert!(!kept.source().exists());

    let restored = kept.restore(Some(&server), &["--jobs", "2"]);
    assert!(restored.status.success(), "{}", said(&restored));
    assert!(said(&restored).ends_with("restore.sh: done: 3 databases, 1 trees\n"), "{}", said(&restored));
    let sums = "SELECT count(*), sum(hashtext(t::text)) FROM t";
    assert_eq!(server.psql(SHOP, "SELECT count(*) FROM u"), "100");
    assert!(server.psql(SHOP, sums).starts_with("3000|"));
    assert_eq!(server.psql("postgres", "SELECT a FROM in_postgres; SHOW work_mem"), "7\n5MB");
    let owner = format!(
        "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = '{}'",
        SHOP.replace('\'', "''")
    );
    assert_eq!(server.psql("postgres", &owner), "keeper");
    let figures = "SELECT count(*) FROM pg_stats WHERE tablename = 't'";
    assert_eq!(server.psql(SHOP, figures), "2", "the planner has figures");
    assert_same_tree(&kept.source(), &kept.was());

    let again = kept.restore(Some(&server), &[]);
    refused(
        &again,
        "of the target server is not empty: restore into a new server, or drop it first; nothing was changed",
    );
}

#[test]
fn trees_go_where_they_are_told_and_write_over_nothing() {
    let kept = Kept::make();
    let elsewhere = kept.home.path().join("elsewhere");
    let to = elsewhere.to_str().unwrap();
    // No server is asked for trees alone.
    let restored = kept.restore(None, &["--only", "trees", "--files", to]);
    assert!(restored.status.success(), "{}", said(&restored));
    assert_same_tree(&elsewhere.join("files"), &kept.was());
    assert!(!kept.source().exists());

    fs::create_dir(kept.source()).unwrap();
    fs::write(kept.source().join("precious"), "x").unwrap();
    refused(
        &kept.restore(None, &["--only", "trees"]),
        "is not empty: move it away, or restore elsewhere with --files",
    );
    assert_eq!(fs::read_dir(kept.source()).unwrap().count(), 1);
}

#[test]
fn damage_is_found_before_anything_is_changed() {
    let kept = Kept::make();
    let server = Server::start(None);
    let cut = |path: &Path| {
        let whole = fs::read(path).unwrap();
        fs::write(path, &whole[..whole.len() - 1]).unwrap();
        whole
    };
    let segment = fs::read_dir(kept.find(".patch.zst").parent().unwrap()).unwrap();
    let segment = segment.map(|entry| entry.unwrap().path());
    let segment = segment.filter(|path| !path.to_string_lossy().ends_with(".patch.zst")).max().unwrap();
    for (path, why) in [
        (segment, "are damaged: see the lines above; nothing was changed"),
        (kept.find("rest.dump"), "rest.dump is damaged; nothing was changed"),
        (kept.day().join("trees/files/b"), "the tree files is damaged: it has (files bytes)"),
    ] {
        let whole = cut(&path);
        refused(&kept.restore(Some(&server), &[]), why);
        fs::write(&path, whole).unwrap();
    }
    let list = kept.find("load.txt");
    fs::rename(&list, list.with_extension("aside")).unwrap();
    refused(&kept.restore(Some(&server), &[]), "load.txt; nothing was changed");
    assert_eq!(server.psql("postgres", "SELECT count(*) FROM pg_database"), "3");
    assert!(!kept.source().exists());
}

#[test]
fn a_changed_byte_is_found_where_b3sum_is_there() {
    if Command::new("b3sum").arg("--version").output().is_err() {
        // Not on this machine: then restore.sh has only sizes and zstd's checksums, and says so.
        let kept = Kept::make();
        let checked = kept.restore(Some(&Server::start(None)), &["--check"]);
        assert!(said(&checked).contains("b3sum is not there: sizes and zstd's checksums were checked"));
        return;
    }
    let kept = Kept::make();
    let server = Server::start(None);
    let checked = kept.restore(Some(&server), &["--check"]);
    assert!(checked.status.success(), "{}", said(&checked));
    for file in [kept.day().join("trees/files/b"), kept.find("globals.sql")] {
        let whole = fs::read(&file).unwrap();
        let mut changed = whole.clone();
        changed[0] ^= 1;
        fs::write(&file, changed).unwrap();
        refused(
            &kept.restore(Some(&server), &[]),
            "the day is damaged: see the lines above; nothing was changed",
        );
        fs::write(&file, whole).unwrap();
    }
}

#[test]
fn a_patch_that_breaks_in_the_middle_leaves_no_table_half_full_and_no_success() {
    let kept = Kept::make();
    let server = Server::start(None);
    let patch = kept.find(".patch.zst");
    fs::write(&patch, &fs::read(&patch).unwrap()[..20]).unwrap();
    let restored = kept.restore(Some(&server), &["--only", "database", "--no-check"]);
    refused(&restored, "is half restored: drop it, then start again");
    assert!(said(&restored).contains("cannot read the rows of the database"), "{}", said(&restored));
    for (database, table) in [(SHOP, "t"), ("postgres", "in_postgres")] {
        let there = server.try_psql(database, &format!("SELECT count(*) FROM {table}"));
        let count = String::from_utf8_lossy(&there.stdout).into_owned();
        assert!(matches!(count.trim(), "" | "0" | "1" | "3000"), "{table} has {count}");
    }
}

#[test]
fn errors_of_the_roles_stop_it_but_for_roles_that_are_there() {
    let kept = Kept::make();
    let server = Server::start(None);
    server.psql("postgres", "CREATE ROLE keeper");
    let globals = kept.day().join("database/globals.sql");
    let whole = fs::read_to_string(&globals).unwrap();
    fs::write(&globals, whole.clone() + "CREATE TABLESPACE away LOCATION '/nonexistent/away';\n").unwrap();
    let restored = kept.restore(Some(&server), &["--only", "database", "--no-check"]);
    refused(&restored, "directory \"/nonexistent/away\" does not exist");
    assert!(
        said(&restored).contains("the roles and tablespaces could not be restored"),
        "{}",
        said(&restored)
    );
    fs::write(&globals, whole).unwrap();
    let restored = kept.restore(Some(&server), &["--only", "database", "--no-check"]);
    assert!(restored.status.success(), "{}", said(&restored));
}

#[test]
fn what_makes_no_sense_is_said() {
    let kept = Kept::make();
    refused(&kept.restore(None, &["--only", "rows"]), "--only takes database or trees, not rows");
    refused(&kept.restore(None, &["--jobs", "0"]), "--jobs takes a number from 1, not 0");
    refused(&kept.restore(None, &["--files"]), "--files needs a value; see --help");
    refused(&kept.restore(None, &["--fast"]), "unknown option --fast; see --help");
    refused(
        &kept.restore(None, &[]),
        "cannot ask the target server (PGHOST=/nonexistent); nothing was changed",
    );
    let help = kept.restore(None, &["--help"]);
    assert!(help.status.success() && said(&help).starts_with("usage: ./restore.sh"));
    fs::remove_file(kept.day().join("manifest.json")).unwrap();
    refused(&kept.restore(None, &[]), "this is not a whole day");
}

#[test]
fn the_script_is_sound_for_shellcheck() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    for script in ["src/vault/restore.sh", "tests/servers.sh"] {
        let Ok(output) = Command::new("shellcheck").arg(project.join(script)).output() else {
            // Not on this machine: the tests of what it does stand alone.
            return;
        };
        assert!(output.status.success(), "{}", said(&output));
    }
}

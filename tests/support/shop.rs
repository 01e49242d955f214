//! A small repository that the real `daykeep run` keeps: two databases whose rows change from day to day, and a tree with
//! one of every kind of thing. Nothing is held.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use daykeep::vault::{Day, Vault};
use tempfile::TempDir;

use super::postgres::Server;

/// Its name in the configuration.
pub const NAME: &str = "shop";

/// Big enough that a segment whose rows change in part becomes a patch.
const SQL: &str = r"
    CREATE ROLE keeper;
    CREATE DATABASE shop OWNER keeper;
    CREATE DATABASE other;
    \c shop
    CREATE TABLE item (id int PRIMARY KEY, body text);
    INSERT INTO item SELECT g, md5(g::text) || md5((-g)::text) FROM generate_series(1, 4000) g;
    CREATE TABLE price (id int REFERENCES item, amount numeric);
    INSERT INTO price SELECT g, g * 0.5 FROM generate_series(1, 500) g;
    CREATE TABLE stock (id int, body text);
    INSERT INTO stock SELECT g, md5(g::text) FROM generate_series(1, 300) g;
    CREATE TABLE nothing (a int);
    SELECT lo_from_bytea(4711, decode(repeat('00ff', 5000), 'hex'));
    \c other
    CREATE TABLE page (id int, body text);
    INSERT INTO page SELECT g, md5(g::text) FROM generate_series(1, 3000) g;
";

/// Rows that name files of the tree, and the check that asks for them.
const CHECK: &str = "
[repository.shop.check.documents]
database = \"shop\"
tree = \"files\"
query = \"select path, size::bigint, 'upload ' || id from document\"
";
const DOCUMENTS: &str = "
    CREATE TABLE document (id int PRIMARY KEY, path text NOT NULL, size int);
    INSERT INTO document VALUES (1, 'one', 25), (2, 'two', 25), (3, 'deep/er/file', NULL);
";

/// The repository, its vault and its configuration.
pub struct Shop {
    pub home: TempDir,
    pub server: Server,
}

impl Shop {
    /// With nothing kept yet. `more` are further tables of the repository's configuration.
    pub fn new(more: &str) -> Self {
        let home = tempfile::Builder::new().prefix("daykeep-shop-").tempdir().unwrap();
        let server = Server::start(None);
        server.psql("postgres", SQL);
        let shop = Self { home, server };
        fs::create_dir(shop.path("vault")).unwrap();
        make_tree(&shop.tree());
        shop.configure(more);
        shop
    }

    /// With two days: the second shares most of the first, and has a patch and a base.
    pub fn with_two_days() -> Self {
        let shop = Self::new("");
        shop.run();
        shop.change();
        shop.run();
        shop
    }

    /// With one day, whose rows ask for files.
    pub fn with_documents() -> Self {
        let shop = Self::new(CHECK);
        shop.server.psql("shop", DOCUMENTS);
        shop.run();
        shop
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The live tree.
    pub fn tree(&self) -> PathBuf {
        self.path("files")
    }

    pub fn configure(&self, more: &str) {
        let [state, vault, tree, socket] =
            ["state", "vault", "files", "s"].map(|name| self.path(name).display().to_string());
        let host = self.server.socket_dir().display();
        let text = format!(
            "state_dir = \"{state}\"\n[daemon]\nsocket = \"{socket}\"\n[repository.{NAME}]\nvault = \"{vault}\"\n\
             [repository.{NAME}.keep]\nlast = 9\n[repository.{NAME}.limits]\nmin_free = \"1 MB\"\n\
             [repository.{NAME}.hold.none]\n\
             [repository.{NAME}.database]\nhost = \"{host}\"\nport = 5432\nuser = \"postgres\"\nbin_dir = \"{bin}\"\n\
             [repository.{NAME}.tree.files]\npath = \"{tree}\"\n{more}\n",
            bin = self.server.bin_dir().display(),
        );
        fs::write(self.path("daykeep.toml"), text).unwrap();
    }

    /// Changes the configuration where it says `from`.
    pub fn reconfigure(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.path("daykeep.toml")).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        fs::write(self.path("daykeep.toml"), text.replace(from, to)).unwrap();
    }

    /// Changes some rows, and one file.
    pub fn change(&self) {
        self.server.psql("shop", "UPDATE item SET body = 'changed' WHERE id % 400 = 0");
        self.server.psql("other", "UPDATE page SET body = 'changed' WHERE id % 300 = 0");
        fs::write(self.tree().join("changing"), "another content").unwrap();
    }

    /// `daykeep` with this configuration.
    pub fn daykeep(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daykeep"));
        command.env("DAYKEEP_CONFIG", self.path("daykeep.toml")).env_remove("CLICOLOR_FORCE");
        command.args(arguments).current_dir(self.home.path());
        command
    }

    pub fn output(&self, arguments: &[&str]) -> Output {
        self.daykeep(arguments).output().expect("daykeep starts")
    }

    /// Keeps a day.
    pub fn run(&self) {
        let output = self.output(&["--quiet", "run", NAME]);
        assert!(output.status.success(), "{}", said(&output));
    }

    pub fn vault(&self) -> Vault {
        Vault::open(&self.path("vault"), NAME).unwrap()
    }

    /// The days, oldest first.
    pub fn days(&self) -> Vec<Day> {
        self.vault().days(jiff::Timestamp::now()).unwrap().good
    }
}

/// All that a program said.
pub fn said(output: &Output) -> String {
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    format!("{stdout}{stderr}=> {:?}\n", output.status.code())
}

/// One of every kind of thing.
fn make_tree(root: &Path) {
    let deep = root.join("deep/er");
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "the content of a file that lies deep\n".repeat(400)).unwrap();
    fs::write(root.join("changing"), "one content").unwrap();
    fs::write(root.join("one"), "of two with the same size").unwrap();
    fs::write(root.join("two"), "of two with the very size").unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::write(root.join("first"), "one inode with two names").unwrap();
    fs::hard_link(root.join("first"), root.join("second")).unwrap();
    symlink("deep/er/file", root.join("link")).unwrap();
    fs::write(root.join("odd \u{e9}\n'\"\\"), "odd").unwrap();
    nix::unistd::mkfifo(&root.join("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    xattr::set(root.join("one"), "user.note", b"kept").expect("a file system with extended attributes");
}

//! A configuration, a vault with days, and the program.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use daykeep::manifest::{
    DatabaseEntry, DatabaseRecord, FileKind, FileRecord, HoldEvidence, Manifest, PathBytes, RecordWriter,
    Rows, TableRecord, TreeRecord,
};
use daykeep::vault::Vault;
use jiff::Timestamp;
use tempfile::TempDir;

/// What is there for one test.
pub struct World {
    pub directory: TempDir,
}

impl World {
    /// Nothing but an empty directory for everything.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("daykeep-cli-").tempdir().expect("a directory");
        for name in ["vault", "files"] {
            fs::create_dir(directory.path().join(name)).expect("a directory");
        }
        Self { directory }
    }

    /// One repository, `web`, with a tree and nothing to hold.
    pub fn with_web() -> Self {
        let world = Self::new();
        world.configure(&world.web(""));
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `[repository.web]`, with more keys of its own table.
    pub fn web(&self, more: &str) -> String {
        let [vault, files] = ["vault", "files"].map(|name| self.path(name));
        let (vault, files) = (vault.display(), files.display());
        format!(
            "[repository.web]\nvault = \"{vault}\"\n{more}\n[repository.web.keep]\nlast = 1\ndaily = 2\n\
             [repository.web.tree.files]\npath = \"{files}\"\n[repository.web.limits]\nmin_free = \"1 MB\"\n\
             [repository.web.hold.none]\n"
        )
    }

    /// The same with a scheduler that is paused while the file `paused` is there, and is idle when `prove` says so.
    pub fn web_held(&self, more: &str, prove: &str) -> String {
        let paused = self.path("paused").display().to_string();
        let command = |script: &str| format!("[\"sh\", \"-c\", \"{script}\"]");
        let hold = format!(
            "[repository.web.hold]\n{more}\n[repository.web.hold.command]\npause = {}\nprove = {}\nrelease = {}\n",
            command(&format!("touch {paused}")),
            command(prove),
            // Slow enough for a second signal.
            command(&format!("sleep 1; rm -f {paused}")),
        );
        self.web("").replace("[repository.web.hold.none]\n", &hold)
    }

    /// Waits for something to happen, which takes a moment.
    pub fn wait_until(&self, what: &str, mut happened: impl FnMut(&Self) -> bool) {
        let tries = 600;
        for _ in 0..tries {
            if happened(self) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("{what} did not happen");
    }

    /// Writes the configuration: paths of this world, then `text`.
    pub fn configure(&self, text: &str) {
        let directory = self.directory.path().display();
        let head = format!("state_dir = \"{directory}/state\"\n[daemon]\nsocket = \"{directory}/socket\"\n");
        fs::write(self.path("daykeep.toml"), format!("{head}{text}")).expect("the configuration is written");
    }

    /// The program with this world's configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daykeep"));
        command
            .current_dir(self.directory.path())
            .env("DAYKEEP_CONFIG", self.path("daykeep.toml"))
            .env_remove("CLICOLOR_FORCE")
            .args(arguments);
        command
    }

    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("daykeep starts")
    }

    /// The call and all that it says, with what differs from run to run replaced.
    pub fn transcript(&self, arguments: &[&str]) -> String {
        self.told(arguments, &self.output(arguments))
    }

    /// The same for a call that was made already.
    pub fn told(&self, arguments: &[&str], output: &Output) -> String {
        let mut text = format!("$ daykeep {}\n", arguments.join(" "));
        text.push_str(&String::from_utf8_lossy(&output.stdout));
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            text.extend(["stderr| ", line, "\n"]);
        }
        let ended = output.status.code().map_or_else(|| output.status.to_string(), |code| code.to_string());
        text.extend(["=> ", &ended, "\n"]);
        text.replace(&self.directory.path().display().to_string(), "[DIR]")
    }

    /// A vault of this repository with three days: the second differs from the first, the third is like the second.
    pub fn keep_days(&self, repository: &str) {
        let vault = Vault::create(&self.path("vault"), repository).expect("a vault");
        let files = [
            (1, &[("a.txt", 5, 'a'), ("b.txt", 7, 'b')][..]),
            (2, &[("a.txt", 6, 'c'), ("new\nline", 1, 'd')]),
            (3, &[("a.txt", 6, 'c'), ("new\nline", 1, 'd')]),
        ];
        for (day, files) in files {
            keep_day(&vault, day, files);
        }
    }
}

/// Keeps a day of January 2020, with these names, sizes and digests in its tree.
fn keep_day(vault: &Vault, number: i8, files: &[(&str, u64, char)]) {
    let freeze_point = instant(&format!("2020-01-{number:02}T01:00:00.25Z"));
    // Between fork and exec, a program that another test starts has our lock too.
    let mut tries = (0..100).map(|_| vault.lock("a test", freeze_point));
    let locked = tries
        .find_map(|tried| tried.map_err(|_| std::thread::sleep(std::time::Duration::from_millis(20))).ok())
        .expect("the vault is free");
    let writer = locked
        .begin(
            u64::try_from(number).expect("a run"),
            None,
            freeze_point,
            &tokio_util::sync::CancellationToken::new(),
        )
        .expect("a day begins");
    fs::create_dir_all(writer.trees().join("files")).expect("a tree");
    let mut records = RecordWriter::create(&writer.records()).expect("records");
    records.write(&record("", FileKind::Directory, 0, None)).expect("a record");
    for (name, size, digest) in files {
        let digest = digest.to_string().repeat(64);
        records.write(&record(name, FileKind::File, *size, Some(digest))).expect("a record");
    }
    records.finish().expect("records");
    fs::create_dir_all(writer.database().join("web")).expect("a database");
    let table = serde_json::to_string(&table(34_567 + u64::try_from(number.min(2)).expect("a number")));
    fs::write(writer.database().join("web/tables.jsonl"), table.expect("a table") + "\n")
        .expect("a list of tables");
    writer.seal(manifest(freeze_point, files.len() as u64), Vec::new()).expect("the day is sealed");
}

fn record(name: &str, kind: FileKind, size: u64, blake3: Option<String>) -> FileRecord {
    FileRecord {
        tree: "files".to_owned(),
        path: PathBytes::from(Path::new(name)),
        kind,
        size,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: (1_577_836_800, 0),
        ctime: (1_577_836_800, 0),
        ino: 1,
        blake3,
        target: None,
        link_group: None,
        device: None,
        xattrs: BTreeMap::new(),
    }
}

fn table(rows: u64) -> TableRecord {
    let rows = Rows { count: rows, digest: u128::from(rows) };
    let (schema, name) = ("public".to_owned(), "visits".to_owned());
    TableRecord { schema, name, oid: 16_384, columns: vec!["id".to_owned()], rows, segments: Vec::new() }
}

fn manifest(freeze_point: Timestamp, files: u64) -> Manifest {
    let tree = TreeRecord {
        source: "/srv/files".to_owned(),
        entries: files + 1,
        files,
        bytes: 4096 * files,
        copied_files: 1,
        copied_bytes: 4096,
        linked_files: files - 1,
        fence: "walk".to_owned(),
        fence_ms: 12,
    };
    let web = DatabaseEntry {
        name: "web".to_owned(),
        directory: "web".to_owned(),
        encoding: "UTF8".to_owned(),
        tables: 12,
        rest_tables: 1,
        rows: 34_567,
        row_bytes: 8_900_000,
    };
    let database = DatabaseRecord {
        server_version: 150_018,
        server_version_text: "15.18".to_owned(),
        pg_dump_version: "pg_dump (PostgreSQL) 15.18".to_owned(),
        wal_begin: "0/16B3748".to_owned(),
        wal_end: "0/16B3800".to_owned(),
        system_identifier: None,
        databases: vec![web],
        new_bytes: 10_240,
        stored_bytes: 1_048_576,
    };
    Manifest {
        format: 0,
        made_by: "daykeep 0.1.0".to_owned(),
        repository: String::new(),
        day: String::new(),
        sequence: 0,
        base: false,
        base_day: String::new(),
        run: 0,
        started: freeze_point - jiff::SignedDuration::from_secs(60),
        sealed: freeze_point + jiff::SignedDuration::from_secs(65),
        freeze_point,
        hold: HoldEvidence {
            adapter: "none".to_owned(),
            paused_by_us: true,
            paused_at: freeze_point,
            idle_at: freeze_point,
            released_at: Some(freeze_point),
            held_seconds: 0.42,
            proofs: vec!["no transaction was writing".to_owned()],
        },
        database: Some(database),
        trees: BTreeMap::from([("files".to_owned(), tree)]),
        checks: Vec::new(),
        unfinished_jobs: None,
        to_unpack: None,
        digests: BTreeMap::new(),
        configuration: String::new(),
    }
}

pub fn instant(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

/// Compares with the stored words; ages and instants of today are not part of them.
pub fn assert_told(name: &str, told: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.add_filter(r"\b\d+[smhd] ago\b", "[AGO]");
    settings.add_filter(r#""age_seconds": \d+"#, r#""age_seconds": "[AGE]""#);
    settings.add_filter(r#""newest_day_age_seconds": \d+"#, r#""newest_day_age_seconds": "[AGE]""#);
    settings.add_filter(r#""now": "[^"]*""#, r#""now": "[NOW]""#);
    settings.add_filter(r"process \d+", "process [PID]");
    settings.add_filter(r"(?m)\bin \d+[smhd](, if a daemon|$)", "in [SPAN]$1");
    settings.add_filter(r"\b20[2-9]\d-\d\d-\d\d([T ])01:00:00\+0(1|2):00", "[NEXT]${1}01:00:00+0X:00");
    settings.bind(|| insta::assert_snapshot!(name, told));
}

//! The four disasters of FOSSology's backup design: each is made, with real processes, a real server and real files, and then the commands
//! of its page in `docs/disasters` are typed.
//!
//! What a page calls and a test cannot have, the service manager and Debian's `pg_createcluster`, is played: a program of that name asks the test, which starts
//! the real server, the scheduler's stand-in and the real daemon.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use support::page::{Page, Played};
use support::postgres::check;
use support::repository::Repository;
use support::scheduler::DATABASE;

/// How long a page may take.
const LIMIT: Duration = Duration::from_secs(120);
/// The scheduler's flags where its speed is no matter.
const QUICK: [&str; 5] = ["--agent-ms", "40", "--poll-ms", "50", "--reset"];
const PLAYED: [&str; 3] = ["systemctl", "pg_createcluster", "pg_dropcluster"];

/// A machine on which disasters happen.
struct Machine {
    repository: Repository,
    played: Played,
}

impl Machine {
    fn new(flags: &[&str], more: &str) -> Self {
        let repository = Repository::new(flags, more);
        let played = Played::new(repository.path("played"), &PLAYED);
        Self { repository, played }
    }

    fn psql(&self, sql: &str) -> String {
        self.repository.fossology.server.psql(DATABASE, sql)
    }

    /// Types the commands of a page; what it says one will see is seen.
    fn follow(&mut self, page: &str, variables: &[(&str, PathBuf)]) -> String {
        let page = Page::read(page);
        let out = self.repository.path("page.out");
        let log = self.repository.path("page.log");
        let mut shell = Command::new("sh");
        self.repository.surround(&mut shell);
        let own = PathBuf::from(env!("CARGO_BIN_EXE_daykeep"));
        let server = &self.repository.fossology.server;
        let mut path =
            std::env::join_paths([self.played.bin(), own.parent().unwrap().into(), server.bin_dir().into()])
                .unwrap();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        shell
            .env("PATH", path)
            .envs(server.environment())
            .env("DAYKEEP_CONFIG", self.repository.config_file());
        // Nothing of the machine that the test runs on is touched.
        shell
            .env("DATA", server.data_dir())
            .env("VERSION", server.major().to_string())
            .envs(variables.iter().cloned());
        shell.arg("-c").arg(page.script());
        shell.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&log).unwrap());
        let mut shell = shell.stdin(Stdio::null()).spawn().expect("a shell");
        let until = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = shell.try_wait().unwrap() {
                break Some(status);
            }
            if Instant::now() > until {
                let _ = shell.kill();
                break None;
            }
            self.serve();
            std::thread::sleep(Duration::from_millis(5));
        };
        let [said, log] = [out, log].map(|file| fs::read_to_string(file).unwrap());
        let succeeded = status.is_some_and(|status| status.success());
        assert!(succeeded, "{status:?}\n{said}\n{log}\n{}", self.repository.surroundings());
        page.assert_seen(&said);
        format!("{said}{log}")
    }

    /// Plays what the page calls.
    fn serve(&mut self) {
        let Some(call) = self.played.next() else { return };
        let words: Vec<&str> = call.words.iter().map(String::as_str).collect();
        let fossology = &mut self.repository.fossology;
        let code = match words.as_slice() {
            ["systemctl", "start" | "restart", "postgresql"] => {
                let is_made = fossology.server.data_dir().join("PG_VERSION").exists();
                if is_made && !fossology.server.answers() {
                    fossology.server.run();
                }
                i32::from(!is_made)
            }
            ["systemctl", "stop", "postgresql"] => {
                fossology.server.stop_if_there();
                0
            }
            ["pg_dropcluster", _, "main"] => i32::from(!fossology.server.data_dir().exists()),
            ["pg_createcluster", version, "main"] if *version == fossology.server.major().to_string() => {
                fossology.server.init(&[]);
                0
            }
            ["systemctl", "start", "fossology"] => {
                if fossology.pid().is_none() {
                    fossology.start();
                }
                0
            }
            ["systemctl", "stop", "fossology"] => {
                fossology.stop();
                0
            }
            _ => panic!("nobody plays {words:?}"),
        };
        call.answer(code);
    }

    /// Everything that runs is gone at once.
    fn pull_the_plug(&mut self) {
        let pids: Vec<i32> = self
            .repository
            .strays()
            .iter()
            .filter_map(|stray| stray.split(' ').next()?.parse().ok())
            .collect();
        for pid in pids {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        self.repository.fossology.crash();
        for agent in self.repository.fossology.agents() {
            let _ = killpg(Pid::from_raw(agent), Signal::SIGKILL);
        }
        self.repository.fossology.server.pull_the_plug();
        self.repository.until("nothing runs", || {
            self.repository.strays().is_empty() && self.repository.fossology.agents().is_empty()
        });
    }

    /// Everything that the server has, roles too, in an order that does not depend on where rows lie.
    fn everything_in_the_server(&self) -> Vec<String> {
        let dump = check(&mut self.repository.fossology.server.client("pg_dumpall"), "pg_dumpall");
        let dump = String::from_utf8(dump).expect("UTF-8");
        let mut lines: Vec<String> = dump
            .lines()
            .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    }

    fn trees(&self) -> Vec<Entry> {
        let fossology = &self.repository.fossology;
        let mut entries = self::entries(&fossology.repository());
        entries.extend(self::entries(&fossology.sysconf()));
        entries
    }

    fn assert_every_job_ends_well(&self) {
        let left = "SELECT count(*) FROM jobqueue WHERE jq_endtime IS NULL";
        self.repository.fossology.wait_for(left, "0");
        let bits = self.psql("SELECT DISTINCT jq_end_bits FROM jobqueue");
        assert_eq!(bits, "1", "{}", self.repository.fossology.log());
    }
}

/// A name of a tree: path, mode, owner, time, content.
type Entry = (PathBuf, u32, u32, (i64, i64), Option<Vec<u8>>);

/// Everything below a directory, itself too.
fn entries(root: &Path) -> Vec<Entry> {
    let (mut found, mut open) = (Vec::new(), vec![root.to_owned()]);
    while let Some(path) = open.pop() {
        let is = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let content = is.is_file().then(|| fs::read(&path).unwrap());
        if is.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.push((path, is.mode(), is.uid(), (is.mtime(), is.mtime_nsec()), content));
    }
    found.sort();
    found
}

#[test]
fn the_plug_is_pulled_in_the_midst_of_a_job() {
    let flags = ["--agent-ms", "3000", "--poll-ms", "50", "--slots", "2", "--reset"];
    let mut machine = Machine::new(&QUICK, "");
    let day = machine.repository.run();
    let fossology = &machine.repository.fossology;
    fossology.stop();
    fossology.set_flags(&flags);
    fossology.start();
    // Two agents are unpacking, one upload waits, and a backup has just told the scheduler to stop.
    fossology.queue("ununpack", 3);
    fossology.wait_for("SELECT count(*) FROM uploadtree WHERE upload_fk > 4 AND parent IS NOT NULL", "2");
    let mut run = machine.repository.start_run();
    machine.repository.until("the repository is held", || machine.repository.is_held());
    machine.pull_the_plug();
    let _ = run.wait();
    assert!(machine.repository.is_held(), "the record of the hold is what is left");
    machine.repository.fossology.set_flags(&QUICK);

    let told = machine.follow("the-plug.md", &[]);
    assert!(told.contains(", released now"), "{told}");
    assert!(!machine.repository.is_held());
    machine.assert_every_job_ends_well();
    assert_eq!(machine.repository.list().len(), 2, "the page's own day is kept beside {day}");
    machine.repository.look_again();
    // The query of the page finds exactly those that were being unpacked.
    let told = machine.follow("the-plug.md", &[]);
    let cut: Vec<&str> = told.lines().filter(|line| line.contains("was cut off at")).collect();
    assert!(cut.len() == 2 && cut[0].starts_with("upload 5 ") && cut[1].starts_with("upload 6 "), "{told}");
    let rows = "SELECT string_agg(n::text, ' ' ORDER BY upload_fk) FROM
                (SELECT upload_fk, count(*) AS n FROM uploadtree WHERE upload_fk > 3 GROUP BY 1) AS t";
    let counts = machine.psql(rows);
    let counts: Vec<&str> = counts.split(' ').collect();
    assert_eq!([counts[0], counts[3]], ["6", "6"], "the others are whole: {counts:?}");
    assert!(counts[1] < "6" && counts[2] < "6", "and these are not: {counts:?}");
}

/// What is not FOSSology's own, so that roles, rights and settings are seen to come back.
const ROLES: &str = "
    CREATE ROLE fossy LOGIN PASSWORD 'fossy' CONNECTION LIMIT 40; CREATE ROLE auditor; GRANT auditor TO fossy;
    ALTER TABLE pfile OWNER TO fossy; GRANT SELECT ON upload TO auditor; ALTER ROLE fossy SET work_mem = '8MB';
    ALTER DATABASE fossology SET statement_timeout = '10min'; CREATE DATABASE reports OWNER fossy;
    COMMENT ON TABLE upload IS 'what was uploaded'";

#[test]
fn everything_is_lost() {
    let mut machine = Machine::new(&QUICK, "");
    machine.psql(ROLES);
    let (rows, trees) = (machine.everything_in_the_server(), machine.trees());
    let day = machine.repository.run();
    machine.repository.fossology.queue("ununpack", 1);
    machine.assert_every_job_ends_well();
    assert_ne!(machine.everything_in_the_server(), rows, "what comes after the day is seen to be lost");

    machine.pull_the_plug();
    let repository = &mut machine.repository;
    repository.fossology.server.lose();
    for gone in [repository.fossology.repository(), repository.fossology.sysconf(), repository.path("state")]
    {
        fs::remove_dir_all(gone).unwrap();
    }
    fs::remove_file(repository.config_file()).unwrap();

    let (vault, state) = (repository.path("vault"), repository.path("state"));
    let told = machine.follow("everything-lost.md", &[("VAULT", vault), ("STATE", state)]);
    assert!(told.contains(&day), "{told}");
    assert_eq!(machine.everything_in_the_server(), rows);
    assert_eq!(machine.trees(), trees);
    machine.repository.assert_dispatching();
    assert_eq!(machine.repository.list().len(), 2, "and the next day is kept");
    machine.repository.look_again();
}

#[test]
fn the_database_is_blown_away() {
    let mut machine = Machine::new(&QUICK, "");
    machine.psql(ROLES);
    let rows = machine.everything_in_the_server();
    machine.repository.run();
    machine.repository.fossology.queue("ununpack", 1);
    machine.assert_every_job_ends_well();
    let trees = machine.trees();

    // The scheduler is still there, and finds no server any more; something is left of its data.
    let data = machine.repository.fossology.server.data_dir();
    machine.repository.fossology.server.lose();
    fs::create_dir(&data).unwrap();
    fs::write(data.join("global"), "not what it was").unwrap();
    machine.follow("database-lost.md", &[]);
    let beside = fs::read_dir(data.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let aside =
        beside.filter(|path| path.display().to_string().starts_with(&format!("{}.aside-", data.display())));
    let aside: Vec<PathBuf> = aside.collect();
    assert!(
        matches!(aside.as_slice(), [aside] if aside.join("global").exists()),
        "what was left is kept: {aside:?}"
    );
    assert_eq!(machine.everything_in_the_server(), rows);
    assert_eq!(machine.trees(), trees, "files that came after the day stay");
    machine.repository.assert_dispatching();
}

#[test]
fn an_agent_and_its_storage_are_lost() {
    let flags = ["--hosts", "localhost,agent2", "--agent-ms", "40", "--poll-ms", "50", "--reset"];
    let mut machine = Machine::new(&flags, "hosts = [\"localhost\", \"agent2\"]");
    machine.repository.run();
    let repository = &machine.repository;
    let fossology = &repository.fossology;
    fossology.queue("ununpack", 1);
    machine.assert_every_job_ends_well();
    let storage = fossology.repository().join("agent2");
    let gold = "SELECT lower(pfile_sha1) FROM upload JOIN pfile ON pfile_pk = pfile_fk WHERE upload_pk = 5";
    assert!(
        machine.psql(gold).as_str() < "8",
        "the gold of the upload that came after the day is not on the lost host"
    );
    let of_the_day = "SELECT count(*) FROM pfile WHERE lower(pfile_sha1) >= '8'";
    assert!(machine.psql(of_the_day).parse::<u32>().unwrap() > 5, "the lost host had files");
    let (names, rows) = (contents(&fossology.repository()), rows_of_files(&machine));

    // One of its agents was at work.
    fossology.stop();
    fossology.set_flags(&["--hosts", "localhost,agent2", "--agent-ms", "2000", "--poll-ms", "50", "--reset"]);
    fossology.start();
    fossology.queue("sleeper", 1);
    fossology.wait_for_agents(1);
    for agent in fossology.agents() {
        let _ = killpg(Pid::from_raw(agent), Signal::SIGKILL);
    }
    fs::remove_dir_all(&storage).unwrap();

    let told = machine.follow("agent-lost.md", &[]);
    assert!(told.contains("upload 5: job "), "what came after the day is unpacked again: {told}");
    assert_eq!(contents(&machine.repository.fossology.repository()), names);
    assert_eq!(rows_of_files(&machine), rows);
    machine.repository.assert_dispatching();
}

/// The rows of the tree and of the files.
fn rows_of_files(machine: &Machine) -> String {
    machine.psql("SELECT * FROM uploadtree ORDER BY 1; SELECT * FROM pfile ORDER BY 1")
}

/// Files and what is in them.
fn contents(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = entries(root).into_iter().filter_map(|(path, .., content)| Some((path, content?)));
    files.collect()
}

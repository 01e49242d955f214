//! A whole repository: a PostgreSQL server, the stand-in of FOSSology's scheduler, two trees, a vault, and the real `daykeep`
//! that is told of them by a file. What is asked of it afterwards is asked from outside: of the port, of `/proc`, of the disk.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::scheduler::{DATABASE, Fossology};
use super::whole;

/// Its name in the configuration.
pub const NAME: &str = "fossology";
/// How long what happens by itself may take on a machine that is busy with other things.
pub const SOON: Duration = Duration::from_secs(60);
/// In the environment of every program that a test starts as daykeep, so that what it leaves behind is found.
const MARK: &str = "DAYKEEP_TEST_MARK";

/// A repository and its vault. Dropped, everything of it is ended and removed.
#[derive(Debug)]
pub struct Repository {
    /// The scheduler and its server.
    pub fossology: Fossology,
    /// The days that were looked into: they may not change any more.
    seen: Mutex<BTreeSet<String>>,
}

impl Repository {
    /// A repository with some uploads, whose scheduler runs. `flags` are the stand-in's, `more` further tables of the
    /// repository's configuration.
    pub fn new(flags: &[&str], more: &str) -> Self {
        Self::of(Fossology::new(flags), more)
    }

    /// Like [`Self::new`], of a FOSSology that does not run yet.
    pub fn of(fossology: Fossology, more: &str) -> Self {
        let repository = Self { fossology, seen: Mutex::default() };
        fs::create_dir_all(repository.path("vault")).unwrap();
        fs::create_dir_all(repository.fossology.repository()).unwrap();
        fs::create_dir_all(repository.fossology.sysconf()).unwrap();
        fs::write(repository.fossology.sysconf().join("fossology.conf"), "[FOSSOLOGY]\ndepth=3\n").unwrap();
        repository.configure(more);
        repository.fossology.start();
        repository.fossology.queue("ununpack", 4);
        repository.fossology.wait_for("SELECT count(*) >= 4 FROM ununpack_ars WHERE ars_success", "t");
        repository
    }

    /// Writes the configuration; what a day is compared with is a key of its own table and of `more`.
    pub fn configure(&self, more: &str) {
        let fossology = &self.fossology;
        let text = format!(
            "state_dir = \"{state}\"\n\
             [daemon]\nsocket = \"{socket}\"\n\
             [repository.{NAME}]\nvault = \"{vault}\"\n\
             [repository.{NAME}.keep]\nlast = 3\n\
             [repository.{NAME}.limits]\nmin_free = \"1 MB\"\n\
             [repository.{NAME}.hold]\nmax = \"30s\"\ndrain = \"30s\"\n\
             [repository.{NAME}.hold.fossology]\naddress = \"127.0.0.1:{port}\"\nstart_timeout = \"30s\"\n\
             start = [\"env\", \"-u\", \"{MARK}\", \"{start}\"]\nagent_match = \"{sysconf}\"\n\
             [repository.{NAME}.database]\n{database}\n\
             [repository.{NAME}.tree.repository]\npath = \"{tree}\"\ncontent_named = true\nexclude = [\"*.I\"]\n\
             [repository.{NAME}.tree.configuration]\npath = \"{sysconf}\"\n\
             [repository.{NAME}.check.files]\nbuiltin = \"fossology\"\ndatabase = \"{DATABASE}\"\n\
             tree = \"repository\"\n{more}\n",
            state = self.path("state").display(),
            socket = self.socket().display(),
            vault = self.path("vault").display(),
            port = fossology.port,
            start = fossology.start_script().display(),
            database = fossology.database_toml(),
            tree = fossology.repository().display(),
            sysconf = fossology.sysconf().display(),
        );
        fs::write(self.config_file(), text).unwrap();
    }

    /// Changes the configuration where it says `from`.
    pub fn reconfigure(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config_file()).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        fs::write(self.config_file(), text.replace(from, to)).unwrap();
    }

    /// Only gold is kept, and checked.
    pub fn keep_gold_only(&self) {
        self.reconfigure(
            "exclude = [\"*.I\"]",
            "filter = [\"- *.I\", \"+ /*/\", \"+ /*/gold/***\", \"- *\"]",
        );
        self.reconfigure("builtin = \"fossology\"", "builtin = \"fossology\"\nfiles = false");
    }

    /// A path in the directory of everything.
    pub fn path(&self, name: &str) -> PathBuf {
        self.fossology.path(name)
    }

    pub fn config_file(&self) -> PathBuf {
        self.path("daykeep.toml")
    }

    pub fn socket(&self) -> PathBuf {
        self.path("s")
    }

    /// Where the days are.
    pub fn days_dir(&self) -> PathBuf {
        self.path("vault").join(NAME).join("days")
    }

    pub fn hold_record(&self) -> PathBuf {
        self.path("state").join(NAME).join("hold.json")
    }

    // --- daykeep ---

    /// `daykeep` with this configuration.
    pub fn daykeep(&self, arguments: &[&str]) -> Command {
        self.marked(Path::new(env!("CARGO_BIN_EXE_daykeep")), arguments)
    }

    /// The daemon with this configuration.
    pub fn daykeepd(&self) -> Command {
        self.marked(Path::new(env!("CARGO_BIN_EXE_daykeepd")), &[])
    }

    fn marked(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        self.surround(&mut command);
        command.args(["--config".as_ref(), self.config_file().as_os_str()]).args(arguments);
        command
    }

    /// Quiet surroundings, and the mark by which what it leaves behind is found.
    pub fn surround(&self, command: &mut Command) {
        command.env(MARK, self.path("")).env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM");
        command.env_remove("DAYKEEP_CONFIG").stdin(Stdio::null());
    }

    /// The arguments of a run in the foreground.
    pub fn run_arguments() -> [&'static str; 3] {
        ["--quiet", "run", NAME]
    }

    /// Starts a run; what it says goes to `run.log`.
    pub fn start_run(&self) -> Child {
        self.start(&mut self.daykeep(&Self::run_arguments()))
    }

    /// Starts a program; what it says goes to `run.log`.
    pub fn start(&self, command: &mut Command) -> Child {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("run.log")).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log).spawn().expect("it starts")
    }

    /// A run that must succeed; the name of the day that it kept.
    pub fn run(&self) -> String {
        let document = self.json(&["--quiet", "run", NAME, "--json"]);
        assert_eq!(document["outcome"], "sealed", "{document:#}");
        document["day"]["name"].as_str().expect("a name").to_owned()
    }

    /// What a verb that must succeed answers.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.daykeep(arguments).output().expect("daykeep starts");
        assert!(output.status.success(), "daykeep {arguments:?}: {}", self.told(&output));
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", self.told(&output)))
    }

    /// What a call said, and everything that helps to understand it.
    pub fn told(&self, output: &Output) -> String {
        let [stdout, stderr] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        format!("{}\n{stdout}{stderr}\n{}", output.status, self.surroundings())
    }

    /// The state of everything, for the message of a test that fails.
    pub fn surroundings(&self) -> String {
        let record = fs::read_to_string(self.hold_record()).unwrap_or_else(|_| "none".to_owned());
        let log = fs::read_to_string(self.path("run.log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(15).collect();
        format!(
            "the hold's record: {record}\nthe journal: {}\nprocesses left: {:?}\nthe last runs said (newest first): {tail:#?}\n\
             the scheduler: {}",
            self.journal(),
            self.strays(),
            self.fossology.log().lines().rev().take(5).collect::<Vec<_>>().join("\n")
        )
    }

    // --- what is seen from outside ---

    /// The newest job's file.
    pub fn journal_file(&self) -> Option<PathBuf> {
        let jobs = fs::read_dir(self.path("state").join(NAME).join("jobs")).ok()?;
        let files = jobs.map(|entry| entry.unwrap().path());
        files.max_by_key(|path| path.file_stem()?.to_str()?.parse::<u64>().ok())
    }

    /// The newest job's file, as it is.
    pub fn journal(&self) -> String {
        self.journal_file().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default()
    }

    /// The last phase in the newest job's file.
    pub fn last_step(&self) -> Option<String> {
        let lines: Vec<Value> =
            self.journal().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        lines.iter().rev().find_map(|line| Some(line.get("step")?.as_str()?.to_owned()))
    }

    /// Whether there is something to release. A record that only tells of an intent is none: nothing has been paused.
    pub fn is_held(&self) -> bool {
        let Ok(record) = fs::read(self.hold_record()) else { return false };
        let record: Value = serde_json::from_slice(&record).expect("a whole record");
        record["phase"] != "intent"
    }

    /// Waits until nothing is held any more and the scheduler runs.
    pub fn wait_until_released(&self) {
        self.until("the repository is released", || !self.is_held() && self.fossology.pid().is_some());
    }

    /// A job that is queued now is done: the scheduler does not only answer.
    pub fn assert_dispatching(&self) {
        self.fossology.queue("sleeper", 1);
        let last = "SELECT max(jq_pk) FROM jobqueue WHERE jq_type = 'sleeper'";
        let number = self.fossology.server.psql(DATABASE, last);
        let done = format!("SELECT jq_end_bits = 1 FROM jobqueue WHERE jq_pk = {number}");
        self.until("the scheduler does a job", || self.fossology.server.psql(DATABASE, &done) == "t");
    }

    /// Process ids of the guards of this repository's holds.
    pub fn guards(&self) -> Vec<i32> {
        let record = self.hold_record().display().to_string();
        let is_guard =
            |argv: &[String]| matches!(argv, [_, verb, path] if verb == "guard" && *path == record);
        let all = daykeep::process::all().expect("/proc");
        all.into_iter().filter(|process| is_guard(&process.argv)).map(|process| process.pid).collect()
    }

    /// Everything that daykeep has started and that still runs: guards, `pg_dump`, commands. The scheduler is none of it.
    pub fn strays(&self) -> Vec<String> {
        let mark = format!("{MARK}={}", self.path("").display());
        let has_mark = |pid: i32| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
        };
        let all = daykeep::process::all().expect("/proc");
        let left = all.into_iter().filter(|process| has_mark(process.pid));
        left.map(|process| format!("{} {}", process.pid, process.argv.join(" "))).collect()
    }

    /// Waits until nothing that daykeep has started runs any more, and no session of it is on the server.
    pub fn wait_until_alone(&self) {
        self.until("nothing of daykeep is left running", || self.strays().is_empty());
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'daykeep%'";
        self.until("no session of daykeep is left", || self.fossology.server.psql(DATABASE, sessions) == "0");
    }

    /// Waits for something; its failure tells everything.
    pub fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let limit = Instant::now() + SOON;
        while !is_so() {
            assert!(Instant::now() < limit, "never: {what}\n{}", self.surroundings());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The days that `daykeep list` shows, newest first.
    pub fn list(&self) -> Vec<String> {
        let document = self.json(&["list", "--json"]);
        let place = &document["repositories"][0];
        assert_eq!(
            place["quarantined"],
            serde_json::json!([]),
            "half a day stands among the days: {document:#}"
        );
        let days = place["days"].as_array().expect("days").iter();
        days.map(|day| day["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// Every listed day is whole. A day that was found whole before is looked into again only by [`Self::look_again`].
    pub fn assert_days_are_whole(&self) -> Vec<String> {
        let listed = self.list();
        let mut seen = self.seen.lock().unwrap();
        for day in &listed {
            if !seen.contains(day) {
                whole::assert_whole(&self.days_dir().join(day));
                seen.insert(day.clone());
            }
        }
        listed
    }

    /// Every listed day is still as its manifest says, whatever was done since it was sealed.
    pub fn look_again(&self) {
        self.seen.lock().unwrap().clear();
        let listed = self.assert_days_are_whole();
        assert!(!listed.is_empty(), "there are days");
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        // Only what a failed test leaves: nobody may start the scheduler again, and no guard may try to.
        for stray in self.strays() {
            let pid = stray.split(' ').next().and_then(|pid| pid.parse().ok());
            let _ = pid.map(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL));
        }
    }
}

//! Passwords and tokens that daykeep is given are in nothing that it writes, says or starts: neither when all goes well nor when it fails,
//! not at its most talkative, and not in the arguments of any program.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::postgres::Server;
use support::shop::{NAME, Shop, said};

/// The password of the role that daykeep is, one that is wrong, and the token of a switch.
const PASSWORD: &str = "aardvark-7Xq-password";
const WRONG: &str = "wombat-9Zk-password";
const TOKEN: &str = "pangolin-3Rt-token";
const SECRETS: [&str; 3] = [PASSWORD, WRONG, TOKEN];

/// A shop whose server asks for a password, and a directory beside it for what may hold secrets.
struct Bench {
    shop: Shop,
    own: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { shop: Shop::new(""), own: tempfile::tempdir().unwrap() };
        Self::guard(&bench.shop.server);
        let text = bench.configuration();
        bench.configure(&text.replace("user = \"postgres\"", "user = \"app\""));
        bench
    }

    /// From now on `app` needs its password.
    fn guard(server: &Server) {
        server.psql("postgres", &format!("CREATE ROLE app SUPERUSER LOGIN PASSWORD '{PASSWORD}'"));
        let rules = "local all app scram-sha-256\nlocal all all trust\n";
        fs::write(server.data_dir().join("pg_hba.conf"), rules).unwrap();
        server.psql("postgres", "SELECT pg_reload_conf()");
    }

    fn configuration(&self) -> String {
        fs::read_to_string(self.shop.path("daykeep.toml")).unwrap()
    }

    fn configure(&self, text: &str) {
        fs::write(self.shop.path("daykeep.toml"), text).unwrap();
    }

    /// A file of a secret, where only secrets are.
    fn hide(&self, name: &str, text: &str) -> PathBuf {
        let path = self.own.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// `daykeep` with this password in its environment; it says no secret.
    fn daykeep(&self, password: Option<&str>, arguments: &[&str]) -> Output {
        let mut command = self.shop.daykeep(arguments);
        command.env("DAYKEEP_LOG", "trace").envs(password.map(|password| ("PGPASSWORD", password)));
        let output = command.output().unwrap();
        assert_silent(&said(&output), &format!("daykeep {arguments:?}"));
        output
    }

    #[track_caller]
    fn must(&self, password: Option<&str>, arguments: &[&str]) {
        let output = self.daykeep(password, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    }

    #[track_caller]
    fn fails(&self, password: Option<&str>, arguments: &[&str], with: &str) {
        let output = self.daykeep(password, arguments);
        assert!(!output.status.success(), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(with), "{arguments:?}: {}", said(&output));
    }

    /// Nothing that was written holds a secret: vault, state, journals, logs.
    #[track_caller]
    fn assert_nothing_written(&self, when: &str) {
        for secret in SECRETS {
            let found =
                Command::new("grep").args(["-rlasF", secret]).arg(self.shop.home.path()).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{when}: {secret}");
        }
    }
}

#[track_caller]
fn assert_silent(text: &str, what: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{what} tells {secret}: {text}");
    }
}

/// Stops the watcher, also when a test fails.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Looks at the arguments of every process, again and again, while `work` is done; gives those with a secret, and how often it looked.
fn watched(work: impl FnOnce()) -> (BTreeSet<String>, u64) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let (mut found, mut looks) = (BTreeSet::new(), 0);
            while !stop.load(Ordering::Relaxed) {
                let all = daykeep::process::all().unwrap();
                for process in &all {
                    let line = process.argv.join(" ");
                    // What these tests said themselves, each in a process of its own: to psql, which sets the password, to grep, and to a
                    // daykeep that is to refuse it. Nothing else that they start is spared.
                    let is_test =
                        |argv: &[String]| argv.first().is_some_and(|name| name.contains("/deps/secrets-"));
                    let by_test = all.iter().any(|other| other.pid == process.parent && is_test(&other.argv));
                    let is_given =
                        line.starts_with("grep -rlasF ") || line.contains(" restore latest --to-server ");
                    let is_ours = line.contains("ROLE app ") || (by_test && is_given);
                    if !is_ours && SECRETS.iter().any(|secret| line.contains(secret)) {
                        found.insert(line);
                    }
                }
                looks += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            (found, looks)
        });
        let end = AtTheEnd(&stop);
        work();
        drop(end);
        watcher.join().unwrap()
    })
}

#[test]
fn a_password_is_nowhere_but_where_it_was_given() {
    let bench = Bench::new();
    let (found, looks) = watched(|| {
        backups(&bench);
        restores(&bench);
        by_daemon(&bench);
    });
    assert!(looks > 50, "{looks}");
    assert_eq!(found, BTreeSet::new());
}

fn backups(bench: &Bench) {
    bench.fails(None, &["run", NAME], "password");
    bench.fails(Some(WRONG), &["run", NAME], "password authentication failed");
    bench.must(Some(PASSWORD), &["run", NAME]);
    let mut passfile = String::new();
    for password in [WRONG, PASSWORD] {
        let path = bench.hide("pgpass", &format!("*:*:*:app:{password}\n"));
        passfile = path.display().to_string();
        let text = bench.configuration();
        if !text.contains("passfile") {
            bench.configure(
                &text.replace("user = \"app\"", &format!("user = \"app\"\npassfile = \"{passfile}\"")),
            );
        }
        if password == WRONG {
            bench.fails(None, &["run", NAME], "password authentication failed");
        } else {
            bench.must(None, &["run", NAME]);
        }
    }
    assert!(bench.configuration().contains(&passfile));
    bench.must(None, &["drill"]);
    bench.must(None, &["verify"]);
    for arguments in [
        &["show", "latest", "--json"][..],
        &["config", "show"],
        &["config", "check"],
        &["status"],
        &["check"],
    ] {
        bench.daykeep(None, arguments);
    }
    bench.assert_nothing_written("backups");
}

fn restores(bench: &Bench) {
    bench.shop.server.psql("shop", "DELETE FROM stock");
    bench.must(None, &["restore", "latest", "--yes"]);
    assert_eq!(bench.shop.server.psql("shop", "SELECT count(*) FROM stock"), "300");
    bench.must(None, &["restore", "--undo", "--yes"]);
    let mut other = Server::start(None);
    Bench::guard(&other);
    let target = format!("host={} port=5432 user=app", other.socket_dir().display());
    bench.fails(Some(WRONG), &["restore", "latest", "--to-server", &target, "--yes"], "password");
    bench.must(Some(PASSWORD), &["restore", "latest", "--to-server", &target, "--yes"]);
    other.stop();
    bench.assert_nothing_written("restores");
}

fn by_daemon(bench: &Bench) {
    let log = bench.shop.path("daemon.log");
    let file = fs::File::create(&log).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_daykeepd"));
    command
        .arg("--config")
        .arg(bench.shop.path("daykeep.toml"))
        .env("DAYKEEP_LOG", "trace")
        .env("PGPASSWORD", PASSWORD);
    command.env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM");
    let mut daemon =
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
    let limit = Instant::now() + Duration::from_secs(30);
    while !bench.shop.path("s").exists() {
        assert!(Instant::now() < limit, "{}", fs::read_to_string(&log).unwrap());
        std::thread::sleep(Duration::from_millis(10));
    }
    let ordered = |bench: &Bench| {
        let told = bench.daykeep(None, &["run", NAME, "--detach", "--json"]).stdout;
        let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
        bench.daykeep(None, &["watch", &told["job"]["id"].to_string()])
    };
    let output = ordered(bench);
    assert!(output.status.success(), "{}", said(&output));
    bench.shop.server.psql("postgres", &format!("ALTER ROLE app PASSWORD '{WRONG}'"));
    let output = ordered(bench);
    assert!(!output.status.success(), "{}", said(&output));
    bench.daykeep(None, &["status", "--json"]);
    bench.shop.server.psql("postgres", &format!("ALTER ROLE app PASSWORD '{PASSWORD}'"));
    kill(Pid::from_raw(i32::try_from(daemon.id()).unwrap()), Signal::SIGTERM).unwrap();
    daemon.wait().unwrap();
    let told = fs::read_to_string(&log).unwrap();
    assert!(told.contains("kept"), "the daemon did the run: {told}");
    bench.assert_nothing_written("the daemon");
}

#[test]
fn what_is_wrong_with_a_configuration_is_told_without_its_secrets() {
    let bench = Bench::new();
    let text = bench.configuration();
    let after_user = |line: &str| text.replace("user = \"app\"", &format!("user = \"app\"\n{line}"));
    let wrong = [
        after_user(&format!("password = \"{PASSWORD}\"")),
        after_user(&format!("passwort = \"{PASSWORD}\"")),
        after_user(&format!("password = \"{PASSWORD}")),
        text.replace("host = \"", &format!("host = \"postgres://app:{PASSWORD}@")),
        format!("{text}\n[repository.{NAME}.hold.http.headers]\nAuthorization = \"Bearer {TOKEN}\"\n"),
    ];
    for wrong in wrong {
        // Not where daykeep writes: the admin's own file may hold what the admin wrote.
        let path = bench.hide("wrong.toml", &wrong);
        let path = path.to_str().unwrap();
        for verb in [&["config", "check"][..], &["run", NAME], &["config", "show"]] {
            bench.daykeep(None, &[&["--config", path], verb].concat());
        }
        let daemon = Command::new(env!("CARGO_BIN_EXE_daykeepd")).args(["--config", path]).output().unwrap();
        assert!(!daemon.status.success());
        assert_silent(&said(&daemon), "daykeepd");
    }
    for conninfo in [
        format!("host=/x password={PASSWORD}"),
        format!("host=/x passwort={PASSWORD}"),
        format!("postgres://app:{PASSWORD}@host/db"),
        format!("host=/x password='{PASSWORD}"),
    ] {
        bench.fails(None, &["restore", "latest", "--to-server", &conninfo, "--yes"], "");
    }
    bench.assert_nothing_written("configurations");
}

/// A switch that answers every question with an error that repeats it, as some do in a debug mode.
fn echo(listener: &TcpListener) {
    for stream in listener.incoming().map_while(Result::ok) {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while reader.read_line(&mut head).unwrap_or(0) > 2 {}
        let answer =
            format!("HTTP/1.1 500 Oops\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{head}", head.len());
        let _ = reader.get_mut().write_all(answer.as_bytes());
    }
}

#[test]
fn a_token_is_not_told_even_if_the_switch_repeats_it() {
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/maintenance", listener.local_addr().unwrap());
    std::thread::spawn(move || echo(&listener));
    bench.hide("token", &format!("Bearer {TOKEN}\n"));
    let http = format!(
        "[repository.{NAME}.hold.http]\nurl = \"{url}\"\nfield = \"/status\"\npause = {{ status = \"off\" }}\n\
         release = {{ status = \"on\" }}\nheaders = {{ Authorization = {{ credential = \"token\" }} }}\n"
    );
    bench.configure(&bench.configuration().replace(&format!("[repository.{NAME}.hold.none]\n"), &http));
    let mut command = bench.shop.daykeep(&["run", NAME]);
    command
        .env("CREDENTIALS_DIRECTORY", bench.own.path())
        .env("DAYKEEP_LOG", "trace")
        .env("PGPASSWORD", PASSWORD);
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("500 Internal Server Error: "), "{}", said(&output));
    assert!(said(&output).contains("***"), "{}", said(&output));
    assert_silent(&said(&output), "daykeep run");
    bench.assert_nothing_written("a switch");
}

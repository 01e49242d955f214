//! The daemon as a process: its socket, its signals, its words to the service manager.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "a test that is not run says why")]

#[path = "support/daemon.rs"]
mod harness;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::Value;

use harness::{Place, SOON, ask, until};

#[test]
fn curl_shows_the_status() {
    let place = Place::new();
    place.configure(&place.small("schedule = \"0 1 * * *\"\ntimezone = \"Asia/Kolkata\"", ""));
    let daemon = place.start();
    let curl = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--unix-socket"])
        .arg(place.socket())
        .arg("http://localhost/v1/status")
        .output()
        .unwrap();
    assert!(curl.status.success(), "{}", String::from_utf8_lossy(&curl.stderr));
    let status: Value = serde_json::from_slice(&curl.stdout).unwrap();
    assert_eq!(status["schema"], 1);
    assert_eq!(status["newest_day_age_seconds"], Value::Null);
    assert_eq!(status["held"], false);
    assert_eq!(status["daemon"]["pid"], daemon.child.id());
    let small = &status["repositories"][0];
    assert_eq!(small["name"], "small");
    assert_eq!(small["next_run"]["why"], "schedule");
    let local = small["next_run"]["local"].as_str().unwrap();
    assert!(local.ends_with("T01:00:00+05:30"), "{local}");
    assert_eq!(small["running"], Value::Null);

    let repositories = daemon.get("/v1/repositories");
    assert_eq!(repositories["repositories"][0]["hold"], "command");
    assert_eq!(repositories["repositories"][0]["trees"][0], "files");
    let days = daemon.get("/v1/repositories/small/days");
    assert_eq!(
        days["days"].as_array().unwrap().len(),
        0,
        "a vault without a run has no days, and that is no error"
    );
    assert_eq!(daemon.get("/v1/jobs")["jobs"].as_array().unwrap().len(), 0);
}

#[test]
fn every_refusal_is_json_with_a_word_and_a_sentence() {
    let place = Place::new();
    let daemon = place.start();
    for (method, path, status, code, message) in [
        ("GET", "/v2/status", 404, "not_found", "there is nothing at /v2/status"),
        ("DELETE", "/v1/status", 405, "method_not_allowed", "/v1/status does not take DELETE"),
        (
            "GET",
            "/v1/repositories/small/runs",
            405,
            "method_not_allowed",
            "/v1/repositories/small/runs does not take GET",
        ),
        ("GET", "/v1/jobs/7", 404, "no_such_job", "there is no job 7"),
        ("GET", "/v1/jobs/x", 404, "no_such_job", "there is no job x"),
        ("POST", "/v1/jobs/7/cancel", 404, "no_such_job", "there is no job 7"),
        ("POST", "/v1/repositories/big/runs", 404, "no_such_repository", "there is no repository \"big\""),
        ("GET", "/v1/repositories/big/days", 404, "no_such_repository", "there is no repository \"big\""),
    ] {
        let (found, body) = daemon.ask(method, path);
        let body: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{method} {path}: {body}"));
        assert_eq!((found, body["error"]["code"].as_str()), (status, Some(code)), "{method} {path}: {body}");
        assert_eq!(body["error"]["message"], message, "{method} {path}");
        assert_eq!(body["schema"], 1);
    }
    let (status, body) = daemon.ask("GET", "/v1/jobs?limit=many");
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("repository=NAME and limit=NUMBER"), "{body}");
}

#[test]
fn a_body_that_is_too_long_is_refused() {
    let place = Place::new();
    let _daemon = place.start();
    let mut stream = UnixStream::connect(place.socket()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let body = "x".repeat(100_000);
    write!(stream, "POST /v1/jobs/1/cancel HTTP/1.1\r\nHost: l\r\nContent-Length: {}\r\n\r\n", body.len())
        .unwrap();
    // It may hang up before all of it was sent.
    let _ = stream.write_all(body.as_bytes());
    let mut answer = [0_u8; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[test]
fn the_socket_is_for_user_and_group_and_a_dead_one_is_replaced() {
    let place = Place::new();
    let mut daemon = place.start();
    let mode = fs::metadata(place.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "whatever the umask is");
    daemon.signal(Signal::SIGKILL);
    daemon.ended();
    assert!(place.socket().exists(), "a killed daemon leaves its socket");
    let mut daemon = place.start();
    daemon.get("/v1/status");
    daemon.signal(Signal::SIGINT);
    assert_eq!(daemon.ended().code(), Some(0));
    assert!(!place.socket().exists(), "a stopped one does not");
}

#[test]
fn a_second_daemon_is_refused() {
    let place = Place::new();
    let _daemon = place.start();
    let (code, said) = fails(&place);
    assert_eq!(code, Some(1));
    assert!(said.contains("another daykeepd uses") && said.contains("/state: stop it first"), "{said}");

    let text = fs::read_to_string(place.path("daykeep.toml")).unwrap();
    place.configure(&text.replace("/state\"", "/state2\""));
    let (code, said) = fails(&place);
    assert_eq!(code, Some(1));
    assert!(said.contains("another process listens at"), "{said}");

    fs::write(place.path("file"), "").unwrap();
    place.configure(&text.replace("/state\"", "/state2\"").replace("/s\"", "/file\""));
    let (code, said) = fails(&place);
    assert_eq!(code, Some(1));
    assert!(said.contains("is there and is no socket"), "{said}");
    assert!(place.path("file").exists());
}

/// Starts a daemon that does not come up.
fn fails(place: &Place) -> (Option<i32>, String) {
    let output = place.command().stderr(std::process::Stdio::piped()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_wrong_configuration_is_shown_with_its_place() {
    let place = Place::new();
    place.configure(&place.small("schedule = \"0 25 * * *\"\nvolt = 1", ""));
    let (code, said) = fails(&place);
    assert_eq!(code, Some(2));
    assert!(said.contains("the hour 25 is out of range: 0 to 23") && said.contains("^^"), "{said}");
    assert!(said.contains("volt"), "every error at once: {said}");
    assert!(!place.socket().exists());

    fs::remove_file(place.path("daykeep.toml")).unwrap();
    let (code, said) = fails(&place);
    assert_eq!(code, Some(2));
    assert!(said.contains("cannot read") && said.contains("daykeep.toml"), "{said}");

    let version = Command::new(env!("CARGO_BIN_EXE_daykeepd")).arg("--version").output().unwrap();
    assert_eq!(version.stdout, format!("daykeepd {}\n", env!("CARGO_PKG_VERSION")).as_bytes());
}

#[test]
fn a_broken_file_keeps_the_old_configuration_and_says_so() {
    let place = Place::new();
    let daemon = place.start();
    let good = fs::read_to_string(place.path("daykeep.toml")).unwrap();

    place.configure("[repository.small]\nvault = 3\n");
    daemon.signal(Signal::SIGHUP);
    let status = daemon.until("/v1/status", "the refusal", |status| !status["config"]["error"].is_null());
    let error = status["config"]["error"].as_str().unwrap();
    assert!(error.starts_with("line "), "{error}");
    assert_eq!(status["repositories"][0]["name"], "small", "the old configuration is in force");
    // What the service manager is told may come a moment after the status.
    let mut told = String::new();
    until("the service manager knows", || {
        told += &place.notices().concat();
        let reloading = told.find("RELOADING=1\nMONOTONIC_USEC=");
        reloading.is_some() && reloading < told.rfind("READY=1") && told.contains("is refused")
    });
    let log = place.log();
    assert!(log.contains(&format!("SIGHUP from process {}", std::process::id())), "{log}");
    assert!(log.contains("the configuration is refused, the one before it stays in force"), "{log}");
    assert!(daemon.ask("GET", "/metrics").1.contains("daykeep_config_last_reload_successful 0.0"));

    place.configure(&good.replace("small", "other"));
    daemon.signal(Signal::SIGHUP);
    let status = daemon.until("/v1/status", "the reload", |status| status["config"]["error"].is_null());
    assert_eq!(status["repositories"][0]["name"], "other");
    let (code, body) = daemon.post("/v1/repositories/small/runs");
    assert_eq!((code, body["error"]["code"].as_str()), (404, Some("no_such_repository")));
}

#[test]
fn a_stop_is_told_and_no_open_stream_delays_it() {
    let place = Place::new();
    let mut daemon = place.start();
    let mut events = BufReader::new(UnixStream::connect(place.socket()).unwrap());
    events.get_ref().set_read_timeout(Some(SOON)).unwrap();
    write!(events.get_mut(), "GET /v1/events HTTP/1.1\r\nHost: l\r\n\r\n").unwrap();
    let mut line = String::new();
    events.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    let _silent = UnixStream::connect(place.socket()).unwrap();
    let mut half = UnixStream::connect(place.socket()).unwrap();
    half.write_all(b"GET /v1/st").unwrap();

    let begun = Instant::now();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let mut rest = String::new();
    // The stream may end with a reset instead of an end.
    let _ = events.read_to_string(&mut rest);
    assert!(rest.contains(r#"{"type":"end","reason":"the daemon stops"}"#), "{rest}");
    assert!(place.notices().concat().contains("STOPPING=1"));
    let log = place.log();
    assert!(
        log.contains(&format!("SIGTERM from process {}, uid {}: stopping", std::process::id(), geteuid())),
        "{log}"
    );
}

#[test]
fn the_loop_gives_a_sign_of_life_and_else_sleeps() {
    let place = Place::new();
    let daemon = place.start_by(place.command().env("WATCHDOG_USEC", "1500000"));
    std::thread::sleep(Duration::from_millis(300));
    place.notices();
    let before = wakeups(daemon.child.id());
    std::thread::sleep(Duration::from_secs(3));
    let signs = place.notices().iter().filter(|notice| notice.contains("WATCHDOG=1")).count();
    assert!((5..=8).contains(&signs), "a sign every 500 ms: {signs} in 3 s");
    let woken = wakeups(daemon.child.id()) - before;
    assert!(woken < 60, "{woken} wake-ups in 3 s, with {signs} signs of life");
}

/// How often the threads of a process went to sleep.
fn wakeups(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let texts =
        threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("status")).unwrap_or_default());
    let sleeps = |text: String| {
        let line =
            text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:").map(str::to_owned))?;
        line.trim().parse::<u64>().ok()
    };
    texts.filter_map(sleeps).sum()
}

#[test]
fn a_thousand_bad_clients_do_not_keep_a_good_one_waiting() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(4096), hard).unwrap();
    let place = Place::new();
    let daemon = place.start();
    let mut clients = Vec::new();
    for number in 0..1000 {
        let mut client = UnixStream::connect(place.socket()).unwrap();
        let bytes: &[u8] = match number % 4 {
            // Says nothing.
            0 => b"",
            // Never ends its request.
            1 => b"GET /v1/status HTTP/1.1\r\nHost: l\r\nX: ",
            // Speaks another language.
            2 => b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\xff\xff\x00\r\n\r\n",
            // Never reads.
            _ => b"GET /v1/events HTTP/1.1\r\nHost: l\r\n\r\n",
        };
        client.write_all(bytes).unwrap();
        clients.push(client);
    }
    for _ in 0..5 {
        let begun = Instant::now();
        daemon.get("/v1/status");
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    drop(clients);
    daemon.get("/v1/status");
}

#[test]
fn a_client_that_says_nothing_is_hung_up_on() {
    let place = Place::new();
    let _daemon = place.start();
    let mut silent = UnixStream::connect(place.socket()).unwrap();
    silent.set_read_timeout(Some(SOON)).unwrap();
    let begun = Instant::now();
    let mut answer = Vec::new();
    silent.read_to_end(&mut answer).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[test]
fn others_who_can_connect_may_look_but_not_start() {
    if !geteuid().is_root() {
        eprintln!("not run: only root can become another user");
        return;
    }
    let place = Place::new();
    let text = fs::read_to_string(place.path("daykeep.toml")).unwrap();
    place.configure(&text.replace("[daemon]", "[daemon]\ngroup = \"games\""));
    let daemon = place.start();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let games = nix::unistd::Group::from_name("games").unwrap().unwrap().gid.as_raw();
    let owner = std::os::unix::fs::MetadataExt::gid(&fs::metadata(place.socket()).unwrap());
    assert_eq!(owner, games, "the socket belongs to the configured group");

    let (_, refused) = curl_as(&place, &["--regid=nogroup"], "GET", "/v1/status");
    assert!(refused.is_empty(), "0660 keeps others out: {refused}");
    fs::set_permissions(place.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    let (code, _) = curl_as(&place, &["--regid=nogroup"], "GET", "/v1/status");
    assert_eq!(code, "200");
    for path in ["/v1/repositories/small/runs", "/v1/jobs/1/cancel"] {
        let (code, body) = curl_as(&place, &["--regid=nogroup"], "POST", path);
        assert_eq!(code, "403", "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["error"]["code"], "forbidden");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(
            message.contains("may look, but not start or cancel") && message.contains("\"games\""),
            "{message}"
        );
    }
    assert_eq!(daemon.get("/v1/jobs")["jobs"].as_array().unwrap().len(), 0);
    // A member gets as far as to hear that there is no such job.
    let (code, body) = curl_as(&place, &["--regid=games"], "POST", "/v1/jobs/1/cancel");
    assert_eq!(code, "404", "{body}");
}

/// Asks as the user nobody; gives the HTTP status and the body.
fn curl_as(place: &Place, setpriv: &[&str], method: &str, path: &str) -> (String, String) {
    let output = Command::new("setpriv")
        .args(["--reuid=nobody", "--clear-groups"])
        .args(setpriv)
        .args(["curl", "--silent", "--request", method, "--write-out", "\n%{http_code}", "--unix-socket"])
        .arg(place.socket())
        .arg(format!("http://localhost{path}"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, code) = text.rsplit_once('\n').unwrap();
    (code.to_owned(), body.to_owned())
}

#[test]
fn the_unit_is_what_systemd_takes_and_tight() {
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else {
        eprintln!("not run: no systemd-analyze");
        return;
    };
    assert!(version.status.success());
    let unit =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/daykeep.service")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("daykeep.service");
    let here =
        |name: &str| Path::new(env!("CARGO_BIN_EXE_daykeepd")).with_file_name(name).display().to_string();
    let unit =
        unit.replace("/usr/sbin/daykeepd", &here("daykeepd")).replace("/usr/bin/daykeep", &here("daykeep"));
    fs::write(&path, unit).unwrap();
    let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&verify.stderr);
    assert!(verify.status.success() && said.is_empty(), "{said}");
    // Exposure in tenths: what the work needs leaves 4.1 of 10; a line that goes missing raises it.
    let security = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=42"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(security.status.success(), "{}", String::from_utf8_lossy(&security.stdout));
}

#[test]
fn a_question_without_a_daemon_says_what_to_do() {
    let place = Place::new();
    let client = daykeep::api::client::Client::new(place.socket());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(client.status()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("no daemon answers at {}: is daykeepd running?", place.socket().display())
    );
    let daemon = place.start();
    let status = runtime.block_on(client.status()).unwrap();
    assert_eq!(status.daemon.pid, daemon.child.id());
    let error = runtime.block_on(client.start("big", &daykeep::api::order::Order::Backup)).unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (Some("no_such_repository"), "there is no repository \"big\"")
    );
    drop(daemon);
    assert!(ask(&place.socket(), "GET", "/v1/status").is_err());
}

#[test]
fn every_route_and_word_of_the_program_is_in_the_documentation() {
    let read = |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let docs = read("docs/api.md");
    let server = read("src/api/server.rs");
    let mut routes = 0;
    for route in server.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(docs.contains(&format!(" {route}`")), "docs/api.md does not tell of {route}");
        routes += 1;
    }
    assert!(routes >= 10);
    let metrics = read("src/daemon/metrics.rs");
    let told =
        [".each(", ".family(", ".register("].map(|call| metrics.split(call).skip(1).collect::<Vec<_>>());
    let names =
        told.concat().into_iter().filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
    for name in names {
        assert!(docs.contains(&format!("`daykeep_{name}")), "docs/api.md does not tell of {name}");
    }
}

//! The adapter `none`: an instant without an open write transaction, on a real server.

use std::io::Write as _;
use std::process::{Child, Stdio};

use crate::driver::{Place, wait_until};
use crate::support::postgres::Server;

/// psql with a transaction that has written, until it is dropped.
struct Writer(Child);

impl Writer {
    fn new(server: &Server) -> Self {
        let mut psql = server.client("psql");
        psql.args(["-X", "-q", "-d", "postgres"]).stdin(Stdio::piped());
        let mut child = psql.spawn().expect("psql");
        let stdin = child.stdin.as_mut().expect("a pipe");
        stdin.write_all(b"BEGIN; CREATE TABLE half ();\n").expect("psql listens");
        let count =
            "SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()";
        wait_until("it writes", || server.psql("postgres", count) == "1");
        Self(child)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn configure(place: &Place, server: &Server, drain: &str) {
    let database = format!("host = \"{}\"\nport = 5432\nuser = \"postgres\"", server.socket_dir().display());
    place.configure(&format!("max = \"30s\"\ndrain = \"{drain}\""), "none", "", Some(&database));
}

#[test]
fn it_waits_for_an_instant_without_a_writer() {
    let server = Server::start_with(None, &[("max_prepared_transactions", "2")]);
    let place = Place::new();
    configure(&place, &server, "20s");
    let writer = Writer::new(&server);
    let mut run = place.run();
    std::thread::sleep(std::time::Duration::from_millis(300));
    drop(writer);
    let held = run.expect("held");
    assert_eq!(held["evidence"]["adapter"], "none");
    assert_eq!(held["evidence"]["paused_by_us"], false);
    assert_eq!(held["evidence"]["proofs"][0], "no write transaction was open; nothing was paused");
    assert!(!place.has_record() && place.guards().is_empty(), "there is nothing to release");
    run.tell("still");
    run.expect("still");
    // Who writes now is not kept from it, but it is on record.
    let writer = Writer::new(&server);
    run.tell("still");
    let proofs = run.expect("still")["evidence"]["proofs"].to_string();
    assert!(proofs.contains("wrote at the end of the freeze"), "{proofs}");
    drop(writer);
    run.tell("release");
    run.expect("released");

    configure(&place, &server, "1s");
    let writer = Writer::new(&server);
    let text = place.run().expect_error("Busy");
    assert!(text.contains("session ") && text.contains("of postgres in database postgres"), "{text}");
    drop(writer);

    server.psql("postgres", "BEGIN; CREATE TABLE later (); PREPARE TRANSACTION 'two-phase'");
    let text = place.run().expect_error("Busy");
    assert!(text.contains("prepared transaction 'two-phase' of postgres in database postgres"), "{text}");
    server.psql("postgres", "ROLLBACK PREPARED 'two-phase'");
    place.held();
    let findings = place.probe();
    assert_eq!(findings[0]["ok"], true, "{findings:?}");
}

#[test]
fn an_unreachable_server_is_an_error_with_its_place() {
    let place = Place::new();
    let database = "host = \"/nonexistent\"\nport = 5432\nuser = \"postgres\"";
    place.configure("max = \"30s\"\ndrain = \"1s\"", "none", "", Some(database));
    let text = place.run().expect_error("Database");
    assert!(
        text.starts_with("cannot ask the database whether the repository is idle: cannot connect"),
        "{text}"
    );
    assert!(text.contains("/nonexistent"), "{text}");
    assert_eq!(place.probe()[0]["ok"], false);
}

#[test]
fn without_a_database_there_is_nothing_to_ask() {
    let place = Place::new();
    place.configure("max = \"30s\"\ndrain = \"1s\"", "none", "", None);
    let held = place.run().expect("held");
    assert_eq!(held["evidence"]["proofs"][0], "nothing was paused, and there is no database to ask");
}

#[test]
fn a_restore_is_kept_although_nothing_is_paused() {
    let server = Server::start_with(None, &[]);
    let place = Place::new();
    configure(&place, &server, "5s");
    let mut run = place.start("restore", |_| {});
    let held = run.expect("held");
    assert_eq!(held["evidence"]["proofs"][0], "no write transaction was open; nothing was paused");
    run.tell("keep");
    run.expect("kept");
    run.kill();
    wait_until("the guard has gone", || place.guards().is_empty());
    assert_eq!(place.leftovers(false)[0]["outcome"], "Kept");
    place.run().expect_error("Kept");
    // The server is lost between the kill and the next try.
    place.configure(
        "max = \"30s\"\ndrain = \"5s\"",
        "none",
        "",
        Some("host = \"/nonexistent\"\nport = 5432\nuser = \"postgres\""),
    );
    let mut run = place.start("resume", |_| {});
    let proofs = run.expect("held")["evidence"]["proofs"].to_string();
    assert!(proofs.contains("nothing was paused; no writer was looked for: cannot ask"), "{proofs}");
    run.tell("release");
    run.expect("released");
    assert!(!place.has_record());
}

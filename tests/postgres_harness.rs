//! The servers that other tests stand on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use support::postgres::{Server, bin_dir, majors};

#[test]
fn a_server_lives_and_dies_with_its_test() {
    let mut server = Server::start(None);
    server.psql("postgres", "CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    server.restart();
    assert_eq!(server.psql("postgres", "SELECT a FROM t"), "1");
    server.psql("postgres", "CHECKPOINT");
    server.stop_immediately();
    server.run();
    assert_eq!(server.psql("postgres", "SELECT a FROM t"), "1");
    let data = server.data_dir();
    drop(server);
    assert!(!data.exists());
}

#[test]
fn a_server_is_reached_as_its_configuration_says() {
    let server = Server::start(None);
    let config = server.config();
    assert_eq!(config.user.as_deref(), Some("postgres"));
    let shown = server.psql("postgres", "SHOW server_version_num");
    assert_eq!(shown.parse::<u32>().map(|number| number / 10_000), Ok(server.major()));
    assert_eq!(server.psql("postgres", "SHOW listen_addresses"), "");
}

#[test]
fn a_missing_version_says_what_to_do() {
    let message = std::panic::catch_unwind(|| bin_dir(9)).expect_err("nobody has 9");
    assert!(message.downcast_ref::<String>().is_some_and(|text| text.ends_with("run tests/servers.sh")));
    assert!(!majors().is_empty());
}

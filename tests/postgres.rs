//! Ways to a real server: password file, TLS, and the same parameters for libpq's programs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a test looks at files and starts programs itself")]

mod support;

use std::path::Path;
use std::process::Command;

use daykeep::config;
use daykeep::postgres::{connect, libpq_env};
use futures_util::StreamExt as _;
use support::postgres::{Server, check};
use tempfile::TempDir;

/// A server that wants TLS and a password over TCP, its certificate (for `localhost`), and its port.
fn guarded_server(dir: &Path) -> (Server, u16) {
    let server = Server::start(None);
    server.psql("postgres", "CREATE ROLE app LOGIN PASSWORD 'se:cret'");
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]);
    openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
    // rustls takes a certificate for the server's own only when it is no CA.
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    check(
        openssl.arg("-keyout").arg(dir.join("server.key")).arg("-out").arg(dir.join("server.crt")),
        "openssl",
    );
    for name in ["server.key", "server.crt"] {
        // Written over what the server owns already, so that it may read its key.
        let target = server.make_dir("tls").join(name);
        std::fs::copy(dir.join(name), &target).unwrap();
        std::fs::set_permissions(&target, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let owner = std::fs::metadata(target.parent().unwrap()).unwrap();
        let (uid, gid) =
            (std::os::unix::fs::MetadataExt::uid(&owner), std::os::unix::fs::MetadataExt::gid(&owner));
        std::os::unix::fs::chown(&target, Some(uid), Some(gid)).unwrap();
    }
    let tls = server.make_dir("tls");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    server.append_conf(&format!(
        "listen_addresses = '127.0.0.1'\nport = {port}\nssl = on\nssl_cert_file = '{0}/server.crt'\nssl_key_file = '{0}/server.key'\n",
        tls.display()
    ));
    std::fs::write(
        server.data_dir().join("pg_hba.conf"),
        "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n",
    )
    .unwrap();
    (server, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_server_is_reached_as_libpq_reaches_it() {
    let dir = TempDir::new().unwrap();
    let (mut server, port) = guarded_server(dir.path());
    server.stop();
    start_on(&mut server, port);
    let passfile = dir.path().join("pgpass");
    daykeep::fs::write_durable(&passfile, format!("localhost:{port}:postgres:app:se\\:cret\n").as_bytes())
        .unwrap();
    let with = |sslmode: &str, rootcert: Option<&str>| config::Server {
        host: Some("localhost".into()),
        port: Some(port),
        user: Some("app".into()),
        passfile: Some(passfile.clone()),
        sslmode: Some(sslmode.into()),
        sslrootcert: rootcert.map(|name| dir.path().join(name)),
        ..config::Server::default()
    };
    for (sslmode, rootcert) in [
        ("require", None),
        ("prefer", None),
        ("verify-ca", Some("server.crt")),
        ("verify-full", Some("server.crt")),
    ] {
        let server = with(sslmode, rootcert);
        let client = connect(&server, "postgres", "daykeep test")
            .await
            .unwrap_or_else(|error| panic!("{sslmode}: {error}"));
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        assert!(client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0), "{sslmode}");
        client.close().await;
        let mut psql = Command::new("psql");
        psql.args(["-X", "-A", "-t", "-c", "SELECT current_user"]);
        for (name, value) in libpq_env(&server, "daykeep test").unwrap() {
            match value {
                Some(value) => psql.env(name, value),
                None => psql.env_remove(name),
            };
        }
        assert_eq!(check(&mut psql, sslmode), b"app\n");
    }
    refusals(dir.path(), &with).await;
}

async fn refusals(dir: &Path, with: &impl Fn(&str, Option<&str>) -> config::Server) {
    let said = async |server: config::Server| {
        connect(&server, "postgres", "daykeep test").await.map(|_| ()).unwrap_err().to_string()
    };
    let plain = said(with("disable", None)).await;
    assert!(plain.contains("no pg_hba.conf entry") && plain.contains("as \"app\""), "{plain}");
    let mut other = Command::new("openssl");
    other.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=x",
    ]);
    check(other.arg("-keyout").arg(dir.join("other.key")).arg("-out").arg(dir.join("other.crt")), "openssl");
    let unknown = said(with("verify-ca", Some("other.crt"))).await;
    assert!(unknown.contains("error performing TLS handshake: invalid peer certificate"), "{unknown}");
    let by_address = |sslmode: &str| config::Server {
        host: Some("127.0.0.1".into()),
        ..with(sslmode, Some("server.crt"))
    };
    let wrong_name = said(by_address("verify-full")).await;
    assert!(wrong_name.contains("not valid for name"), "{wrong_name}");
    // The chain is good: what is missing now is a password for this host.
    let no_password = said(by_address("verify-ca")).await;
    assert!(no_password.contains("password"), "{no_password}");
    let none = said(with("verify-full", Some("none.crt"))).await;
    assert!(none.contains("none.crt"), "{none}");
    std::fs::set_permissions(dir.join("pgpass"), std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .unwrap();
    let open = said(with("require", None)).await;
    assert!(open.contains("was passed over because its mode is 0644") && !open.contains("se:cret"), "{open}");
}

/// Every way that a server can be reached by: rows in pieces, long values, and the way to stop it.
#[tokio::test(flavor = "multi_thread")]
async fn rows_come_in_pieces_whatever_the_way() {
    let dir = TempDir::new().unwrap();
    let (mut server, port) = guarded_server(dir.path());
    let abstract_name = format!("@daykeep-test-{}", std::process::id());
    server.append_conf(&format!(
        "unix_socket_directories = '{}, {abstract_name}'\n",
        server.socket_dir().display()
    ));
    std::fs::write(
        server.data_dir().join("pg_hba.conf"),
        "local all all trust\nhost all all 127.0.0.1/32 trust\n",
    )
    .unwrap();
    server.stop();
    start_on(&mut server, port);
    let over = |host: &str, sslmode: &str| config::Server {
        host: Some(host.into()),
        port: Some(port),
        user: Some("postgres".into()),
        sslmode: Some(sslmode.into()),
        ..config::Server::default()
    };
    let socket = server.socket_dir().to_str().unwrap().to_owned();
    fetch(&over(&socket, "prefer"), false).await;
    fetch(&over(&abstract_name, "prefer"), false).await;
    fetch(&over("localhost", "disable"), false).await;
    fetch(&over("localhost", "require"), true).await;
    fetch(&over("localhost", "prefer"), true).await;
    server.psql("postgres", "ALTER SYSTEM SET ssl = off");
    server.psql("postgres", "SELECT pg_reload_conf()");
    while !server.psql("postgres", "SHOW ssl").contains("off") {}
    fetch(&over("localhost", "prefer"), false).await;
    let refused = connect(&over("localhost", "require"), "postgres", "daykeep test").await.unwrap_err();
    assert!(refused.to_string().contains("server does not support TLS"), "{refused}");
    let absent = connect(&over("/nowhere", "prefer"), "postgres", "daykeep test").await.unwrap_err();
    assert!(absent.is_absence());
    let told = "error connecting to server: No such file or directory (os error 2)";
    assert!(absent.to_string().ends_with(told), "{absent}");
}

async fn fetch(server: &config::Server, tls: bool) {
    let client = connect(server, "postgres", "daykeep test").await.unwrap();
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0), tls, "{server:?}");
    let sql = "COPY (SELECT n, repeat('x', CASE WHEN n = 777 THEN 20000000 ELSE n % 100 END) \
               FROM generate_series(1, 50000) n) TO STDOUT";
    let mut stream = std::pin::pin!(client.copy_out(sql).await.unwrap());
    let (mut text, mut pieces) = (Vec::new(), 0);
    while let Some(piece) = stream.next().await {
        let piece = piece.unwrap();
        assert!(piece.len() <= 64 * 1024, "{}", piece.len());
        text.extend_from_slice(&piece);
        pieces += 1;
    }
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len(), 50_000);
    for (n, line) in (1_usize..).zip(lines) {
        let length = if n == 777 { 20_000_000 } else { n % 100 };
        assert_eq!(line.len(), n.to_string().len() + 1 + length + 1, "row {n} of {server:?}");
    }
    assert!(pieces < 5000, "{pieces} pieces");
    let canceller = client.canceller();
    let (slept, ()) = tokio::join!(client.batch_execute("SELECT pg_sleep(300)"), async {
        while client_sleeps(server).await == 0 {}
        canceller.cancel().await;
    });
    let code = slept.unwrap_err().code().cloned();
    assert_eq!(code, Some(tokio_postgres::error::SqlState::QUERY_CANCELED));
    client.close().await;
}

async fn client_sleeps(server: &config::Server) -> i64 {
    let client = connect(server, "postgres", "daykeep test").await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'";
    let count = client.query_one(sql, &[]).await.unwrap().get(0);
    client.close().await;
    count
}

/// The harness looks for the socket of port 5432; this server has another.
fn start_on(server: &mut Server, port: u16) {
    let real = server.socket_dir().join(format!(".s.PGSQL.{port}"));
    std::os::unix::fs::symlink(real, server.socket_dir().join(".s.PGSQL.5432")).unwrap();
    server.run();
}

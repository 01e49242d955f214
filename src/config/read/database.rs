//! `[repository.NAME.database]`

use crate::config::key::{Key, Kind, Section};
use crate::config::read::table::Table;
use crate::config::value::Value;
use crate::config::{Database, Databases, Server};

const HOST: Key = Key::optional(
    "host",
    Kind::Text,
    "PGHOST, or the server's socket on this machine",
    "\"/var/run/postgresql\"",
    "Host name, address, or the directory of the server's unix socket.",
);
const PORT: Key = Key::optional("port", Kind::Number(1, 65535), "PGPORT, or 5432", "5432", "Port.");
const USER: Key = Key::optional(
    "user",
    Kind::Text,
    "PGUSER, or the user that daykeep runs as",
    "\"postgres\"",
    "The role. It must be able to read everything that is dumped; a superuser can.",
);
const DBNAME: Key = Key::optional(
    "dbname",
    Kind::Text,
    "PGDATABASE, or `postgres`",
    "\"postgres\"",
    "The database to connect to for what concerns the whole server.",
);
const SERVICE: Key = Key::optional(
    "service",
    Kind::Text,
    "PGSERVICE, if it is set",
    "\"app\"",
    "A section of a service file (pg_service.conf) that says how to reach the server. Not together with `host` or \
     `port`.",
);
const SERVICEFILE: Key = Key::optional(
    "servicefile",
    Kind::Path,
    "PGSERVICEFILE, or ~/.pg_service.conf",
    "\"/etc/daykeep/pg_service.conf\"",
    "The service file.",
);
const PASSFILE: Key = Key::optional(
    "passfile",
    Kind::Path,
    "PGPASSFILE, or ~/.pgpass",
    "\"/etc/daykeep/pgpass\"",
    "The password file. Mode 0600, or it is not read.",
);
const PASSWORD_CREDENTIAL: Key = Key::optional(
    "password_credential",
    Kind::Text,
    "the password file is asked",
    "\"app-password\"",
    "The name of the systemd credential (LoadCredential=) that holds the password. Not together with `passfile`.",
);
const SSLMODE: Key = Key::optional(
    "sslmode",
    Kind::Word(&["disable", "prefer", "require", "verify-ca", "verify-full"]),
    "PGSSLMODE, or \"prefer\"",
    "\"verify-full\"",
    "How the connection is protected.",
);
const SSLROOTCERT: Key = Key::optional(
    "sslrootcert",
    Kind::Path,
    "PGSSLROOTCERT, or the machine's certificates",
    "\"/etc/ssl/certs/ca-certificates.crt\"",
    "Certificates of the authorities that may vouch for the server.",
);
const ONLY: Key = Key::optional(
    "only",
    Kind::Texts,
    "every database",
    "[\"fossology\"]",
    "Dump these databases and no other. Not together with `except`.",
);
const EXCEPT: Key = Key::optional(
    "except",
    Kind::Texts,
    "every database",
    "[\"scratch\"]",
    "Dump every database but these. Databases that accept no connections are never dumped.",
);
const GLOBALS: Key = Key::defaulted(
    "globals",
    Kind::Switch,
    "true",
    "Dump roles, memberships and tablespaces too. Their passwords need a superuser.",
);
const JOBS: Key = Key::defaulted(
    "jobs",
    Kind::Number(1, 64),
    "2",
    "Connections that copy rows at the same time, over all databases.",
);
const COMPRESSION: Key = Key::defaulted("compression", Kind::Number(1, 19), "2", "zstd level of the rows.");
const BIN_DIR: Key = Key::optional(
    "bin_dir",
    Kind::Path,
    "the newest on this machine that is not older than the server",
    "\"/usr/lib/postgresql/18/bin\"",
    "The directory of pg_dump and pg_dumpall.",
);
const LOCK_TIMEOUT: Key = Key::defaulted(
    "lock_timeout",
    Kind::Duration,
    "\"30s\"",
    "How long taking the freeze point may wait for a lock on a table. The repository stands still meanwhile.",
);

/// `[repository.NAME.database]`
pub(crate) static DATABASE: Section = Section {
    name: "database",
    named: None,
    doc: "The PostgreSQL server. What is left out is looked for where libpq looks: the service file, the PG* \
          environment, the defaults. A password never stands in this file: it comes from a password file (`passfile`, \
          PGPASSFILE, ~/.pgpass), a service file or a systemd credential.",
    keys: &[
        HOST,
        PORT,
        USER,
        DBNAME,
        SERVICE,
        SERVICEFILE,
        PASSFILE,
        PASSWORD_CREDENTIAL,
        SSLMODE,
        SSLROOTCERT,
        ONLY,
        EXCEPT,
        GLOBALS,
        JOBS,
        COMPRESSION,
        BIN_DIR,
        LOCK_TIMEOUT,
    ],
    sections: &[],
};

/// Some(None): there is none.
#[expect(clippy::option_option, reason = "outer None: wrong, which has been told; inner None: not there")]
pub(crate) fn database(repository: &Table<'_>) -> Option<Option<Database>> {
    if !repository.has(DATABASE.name) {
        return Some(None);
    }
    let table = repository.section(&DATABASE)?;
    table.refuse_unknown_but(|name, value| {
        let is_password = matches!(name, "password" | "pgpassword" | "passwd" | "pass" | "PGPASSWORD");
        if is_password {
            table.source.hide(value.span.clone());
            table.source.fault(
                table.place_of(name),
                "a password must not stand in this file",
                Some(
                    "put it into ~/.pgpass or the file named by `passfile` or PGPASSFILE, into a service file \
                     (`service`), or into a systemd credential (`password_credential`)"
                        .to_owned(),
                ),
            );
        }
        is_password
    });
    let server = server(&table);
    let databases = databases(&table);
    let globals = table.get(&GLOBALS, Value::switch);
    let jobs = table.get(&JOBS, |value| value.number(1, 64));
    let compression = table.get(&COMPRESSION, |value| value.number(1, 19));
    let bin_dir = table.get_optional(&BIN_DIR, Value::path);
    let lock_timeout = table.get(&LOCK_TIMEOUT, Value::duration);
    Some(Some(Database {
        server: server?,
        databases: databases?,
        globals: globals?,
        jobs: usize::try_from(jobs?).ok()?,
        compression: i32::try_from(compression?).ok()?,
        bin_dir: bin_dir?,
        lock_timeout: lock_timeout?,
    }))
}

fn server(table: &Table<'_>) -> Option<Server> {
    let host = table.get_optional(&HOST, host);
    let port = table.get_optional(&PORT, |value| value.number(1, 65535));
    let user = table.get_optional(&USER, Value::text);
    let dbname = table.get_optional(&DBNAME, Value::text);
    let service = table.get_optional(&SERVICE, Value::text);
    let servicefile = table.get_optional(&SERVICEFILE, Value::path);
    let passfile = table.get_optional(&PASSFILE, Value::path);
    let password_credential = table.get_optional(&PASSWORD_CREDENTIAL, Value::credential);
    let sslmode = table.get_optional(&SSLMODE, |value| {
        value.word(&["disable", "prefer", "require", "verify-ca", "verify-full"]).map(str::to_owned)
    });
    let sslrootcert = table.get_optional(&SSLROOTCERT, Value::path);
    refuse_both(table, &SERVICE, &HOST, "the service says which server: remove one of the two");
    refuse_both(table, &SERVICE, &PORT, "the service says which server: remove one of the two");
    refuse_both(
        table,
        &PASSFILE,
        &PASSWORD_CREDENTIAL,
        "the password comes from one of the two: remove the other",
    );
    Some(Server {
        host: host?,
        port: port?.and_then(|port| u16::try_from(port).ok()),
        user: user?,
        dbname: dbname?,
        service: service?,
        servicefile: servicefile?,
        passfile: passfile?,
        password_credential: password_credential?,
        sslmode: sslmode?,
        sslrootcert: sslrootcert?,
    })
}

fn host(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if text.contains("://") || text.contains('=') {
        value.source.hide(value.span.clone());
        return value.wrong(
            "this is a connection string, not a host",
            "write `host`, `port`, `user` and `dbname` as keys of their own".to_owned(),
        );
    }
    if text.contains(',') {
        return value.wrong(
            format!("`{text}` is more than one host"),
            "a repository has one server: one that another could stand in for cannot be held still"
                .to_owned(),
        );
    }
    if text.contains('/') && !text.starts_with('/') {
        return value.wrong(
            format!("`{text}` is neither a host nor an absolute path"),
            "the directory of a unix socket starts with `/`".to_owned(),
        );
    }
    Some(text)
}

fn databases(table: &Table<'_>) -> Option<Databases> {
    let only = table.get_optional(&ONLY, |value| match value.texts()? {
        names if names.is_empty() => value.wrong(
            "this list is empty: no database would be dumped",
            "leave out `only` to dump every database, or the whole table to dump none".to_owned(),
        ),
        names if names.iter().any(|name| name == "template0") => value.wrong(
            "`template0` accepts no connections, and cannot be dumped",
            "remove it: every restored server has its own".to_owned(),
        ),
        names => Some(names),
    });
    let except = table.get_optional(&EXCEPT, Value::texts);
    refuse_both(table, &ONLY, &EXCEPT, "remove one of the two");
    Some(match (only?, except?) {
        (Some(only), _) => Databases::Only(only),
        (None, except) => Databases::AllBut(except.unwrap_or_default()),
    })
}

/// Tells that two keys cannot be together, at the later one.
pub(crate) fn refuse_both(table: &Table<'_>, a: &Key, b: &Key, help: &str) {
    if table.has(a.name) && table.has(b.name) {
        let later = [a, b].into_iter().map(|key| table.place_of(key.name)).max_by_key(|span| span.start);
        table.source.fault_of_whole(
            later.unwrap_or_default(),
            format!("`{}` and `{}` cannot be together", a.name, b.name),
            Some(help.to_owned()),
        );
    }
}

//! An application beside the scheduler that nobody pauses, as FOSSology's web pages are: it stores a file and then commits
//! its row, changes rows, and makes and drops tables.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use md5::Md5;
use sha1::{Digest as _, Sha1};
use tokio_postgres::Client;

use crate::support::repository::Repository;
use crate::support::scheduler::DATABASE;

/// How many accounts there are, and what each has at first.
pub const ACCOUNTS: i64 = 20;
/// See [`ACCOUNTS`].
pub const BALANCE: i64 = 1000;

const TABLES: &str = "
    CREATE TABLE account (id integer PRIMARY KEY, balance bigint NOT NULL, note text NOT NULL DEFAULT '');
    CREATE TABLE entry (id bigserial PRIMARY KEY, account integer NOT NULL REFERENCES account, amount bigint NOT NULL);
    CREATE TABLE tally (uploads bigint NOT NULL);
    CREATE TABLE refilled (number integer PRIMARY KEY);
    INSERT INTO account SELECT number, 1000 FROM generate_series(0, 19) AS number;
    INSERT INTO tally VALUES (0);
    INSERT INTO refilled SELECT generate_series(1, 500)";

/// The application at work, in threads of this program. Dropped, it ends.
#[derive(Debug)]
pub struct Application {
    ending: Arc<AtomicBool>,
    uploads: Arc<AtomicU64>,
    moves: Arc<AtomicU64>,
    tables: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Application {
    /// Makes its tables and begins.
    pub fn start(repository: &Repository) -> Self {
        repository.fossology.server.psql(DATABASE, TABLES);
        let mut application = Self {
            ending: Arc::default(),
            uploads: Arc::default(),
            moves: Arc::default(),
            tables: Arc::default(),
            threads: Vec::new(),
        };
        let files = repository.fossology.repository();
        // Unlike the scheduler and its agents, it says who it is.
        let string =
            format!("{} application_name=web", repository.fossology.server.connection_string(DATABASE));
        let counts = application.uploads.clone();
        application
            .work(&string, 150, counts, async move |client, number| upload(client, &files, number).await);
        let counts = application.moves.clone();
        application.work(&string, 20, counts, async |client, number| move_amount(client, number).await);
        let counts = application.tables.clone();
        application.work(&string, 60, counts, async |client, number| make_tables(client, number).await);
        application
    }

    /// Uploads so far.
    pub fn uploads(&self) -> u64 {
        self.uploads.load(Ordering::SeqCst)
    }

    /// Ends it; how many amounts were moved, and how many tables were made.
    pub fn stop(mut self) -> (usize, usize) {
        self.end(true);
        let count = |counter: &AtomicU64| usize::try_from(counter.load(Ordering::SeqCst)).unwrap();
        (count(&self.moves), count(&self.tables))
    }

    /// A thread that does something again and again.
    fn work<F>(&mut self, string: &str, pause_ms: u64, done: Arc<AtomicU64>, mut one: F)
    where
        F: AsyncFnMut(&mut Client, u64) + Send + 'static,
    {
        let (string, ending) = (string.to_owned(), Arc::clone(&self.ending));
        self.threads.push(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (mut client, connection) =
                    tokio_postgres::connect(&string, tokio_postgres::NoTls).await.expect("the server");
                tokio::spawn(connection);
                while !ending.load(Ordering::SeqCst) {
                    one(&mut client, done.load(Ordering::SeqCst)).await;
                    done.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                }
            });
        }));
    }

    fn end(&mut self, must_have_worked: bool) {
        self.ending.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || !must_have_worked, "the application failed");
        }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.end(false);
    }
}

/// The file first, whole; then everything that names it, in one transaction.
async fn upload(client: &mut Client, files: &Path, number: u64) {
    let content =
        format!("upload {number} of the application\n").repeat(1 + usize::try_from(number % 90).unwrap());
    let name = name_of(content.as_bytes());
    for kind in ["gold", "files"] {
        let path = files.join(place(kind, &name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let half = PathBuf::from(format!("{}.I", path.display()));
        fs::write(&half, &content).unwrap();
        fs::rename(&half, &path).unwrap();
    }
    let parts: Vec<String> = name.split('.').map(str::to_uppercase).collect();
    let sql = format!(
        "BEGIN;
         INSERT INTO pfile (pfile_sha1, pfile_md5, pfile_size) VALUES ('{}', '{}', {});
         INSERT INTO upload (upload_desc, upload_filename, user_fk, upload_mode, pfile_fk)
             VALUES ('by the application', 'web-{number}.tar.gz', 1, 104, currval('pfile_pfile_pk_seq'));
         INSERT INTO uploadtree (upload_fk, pfile_fk, ufile_mode, ufile_name)
             VALUES (currval('upload_upload_pk_seq'), currval('pfile_pfile_pk_seq'), 33188, 'web-{number}.tar.gz');
         UPDATE tally SET uploads = uploads + 1;
         COMMIT",
        parts[0], parts[1], parts[2]
    );
    client.batch_execute(&sql).await.expect("an upload");
}

/// From one account to another, with its entries, in one transaction.
async fn move_amount(client: &mut Client, number: u64) {
    let (from, to, amount) = (number % 20, (number * 7 + 3) % 20, number % 13);
    let sql = format!(
        "BEGIN;
         UPDATE account SET balance = balance - {amount}, note = repeat('{number} ', 20) WHERE id = {from};
         INSERT INTO entry (account, amount) VALUES ({from}, -{amount}), ({to}, {amount});
         UPDATE account SET balance = balance + {amount} WHERE id = {to};
         COMMIT"
    );
    client.batch_execute(&sql).await.expect("a move");
}

/// Tables that come and go, change their shape and are emptied and filled again.
async fn make_tables(client: &mut Client, number: u64) {
    let sql = match number % 4 {
        0 => format!(
            "CREATE TABLE scratch_{number} AS SELECT * FROM account;
             ALTER TABLE scratch_{number} ADD COLUMN more text DEFAULT 'x';
             CREATE INDEX ON scratch_{number} (balance);
             DROP TABLE IF EXISTS scratch_{}",
            number.saturating_sub(8)
        ),
        1 => "CREATE TEMPORARY TABLE mine ON COMMIT PRESERVE ROWS AS SELECT * FROM entry; DROP TABLE mine"
            .to_owned(),
        2 => {
            "BEGIN; TRUNCATE refilled; INSERT INTO refilled SELECT generate_series(1, 500); COMMIT".to_owned()
        }
        _ => "ALTER TABLE refilled ALTER number TYPE bigint; ALTER TABLE refilled ALTER number TYPE integer"
            .to_owned(),
    };
    client.batch_execute(&sql).await.expect("tables");
}

/// What FOSSology calls a file with this content.
pub fn name_of(content: &[u8]) -> String {
    let hex = |bytes: &[u8]| {
        use std::fmt::Write as _;
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    };
    format!("{}.{}.{}", hex(&Sha1::digest(content)), hex(&Md5::digest(content)), content.len())
}

/// Where FOSSology keeps it.
pub fn place(kind: &str, name: &str) -> PathBuf {
    ["localhost", kind, &name[0..2], &name[2..4], &name[4..6], name].iter().collect()
}

//! An agent: a process that writes files and the rows that name them.
#![allow(
    clippy::zombie_processes,
    reason = "an agent that leaves a child behind is one of those that are played"
)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use md5::Md5;
use sha1::{Digest as _, Sha1};
use tokio_postgres::Client;

/// What the scheduler hands an agent beside its command line.
pub const VARIABLES: [&str; 7] = [
    "STANDIN_DATABASE",
    "STANDIN_REPOSITORY",
    "STANDIN_AGENT",
    "STANDIN_UPLOAD",
    "STANDIN_MS",
    "STANDIN_FILES",
    "STANDIN_BYTES",
];

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is set by the scheduler"))
}

/// Does the job.
pub async fn work() {
    let client = crate::connect(&variable("STANDIN_DATABASE")).await;
    let duration = Duration::from_millis(variable("STANDIN_MS").parse().expect("milliseconds"));
    match variable("STANDIN_AGENT").as_str() {
        "ununpack" => unpack(&client, duration).await,
        "forker" => {
            // What `system("tar ...")` leaves when its agent dies.
            // Not by way of f64: 5.137 would become 5.1370000000000005, which nobody looks for.
            let seconds = format!("{}.{:03}", duration.as_secs(), duration.subsec_millis());
            let child =
                std::process::Command::new("sleep").arg(seconds).spawn().expect("sleep can be started");
            tokio::time::sleep(duration / 2).await;
            drop(child);
        }
        _ => tokio::time::sleep(duration).await,
    }
}

/// Gold and the files in it: each file is there, whole, before its row is.
async fn unpack(client: &Client, duration: Duration) {
    let repository = PathBuf::from(variable("STANDIN_REPOSITORY"));
    let upload: i32 = variable("STANDIN_UPLOAD").parse().expect("an upload_pk");
    let files: u32 = variable("STANDIN_FILES").parse().expect("a number");
    let bytes: u32 = variable("STANDIN_BYTES").parse().expect("a number");
    // The first file of an upload is the upload itself: real gold is among the files, too.
    let gold = store(client, &repository, &["gold", "files"], &content(upload, u32::MAX, bytes)).await;
    client
        .execute("UPDATE upload SET pfile_fk = $1 WHERE upload_pk = $2", &[&gold, &upload])
        .await
        .expect("the upload can be changed");
    let root = insert_tree(client, upload, None, 0, "source.tar").await;
    for number in 0..files {
        tokio::time::sleep(duration / files.max(1)).await;
        let size = bytes * (number + 1) / files;
        let pfile = store(client, &repository, &["files"], &content(upload, number, size)).await;
        insert_tree(client, upload, Some(root), pfile, &format!("file-{number}.c")).await;
    }
    client
        .execute(
            "INSERT INTO ununpack_ars (agent_fk, upload_fk, ars_success, ars_endtime) VALUES (1, $1, true, now())",
            &[&upload],
        )
        .await
        .expect("the result can be noted");
}

async fn insert_tree(client: &Client, upload: i32, parent: Option<i32>, pfile: i32, name: &str) -> i32 {
    let sql = "INSERT INTO uploadtree (parent, realparent, upload_fk, pfile_fk, ufile_mode, ufile_name)
               VALUES ($1, $1, $2, $3, 33188, $4) RETURNING uploadtree_pk";
    client.query_one(sql, &[&parent, &upload, &pfile, &name]).await.expect("a row of the tree").get(0)
}

/// Text that is unlike that of any other file, and compresses as source code does.
fn content(upload: i32, number: u32, bytes: u32) -> Vec<u8> {
    let mut text = format!("/* upload {upload}, file {number} */\n").into_bytes();
    let mut seed = u64::from(number) << 32 | u64::from(upload.unsigned_abs());
    while text.len() < bytes as usize {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend_from_slice(
            format!("int f_{:x}(void) {{ return {}; }}\n", seed >> 40, seed >> 50).as_bytes(),
        );
    }
    text
}

/// Puts content into the repository and gives its `pfile_pk`.
async fn store(client: &Client, repository: &Path, kinds: &[&str], content: &[u8]) -> i32 {
    let (sha1, md5) = (hex(&Sha1::digest(content)), hex(&Md5::digest(content)));
    for kind in kinds {
        let directory =
            repository.join("localhost").join(kind).join(&sha1[0..2]).join(&sha1[2..4]).join(&sha1[4..6]);
        fs::create_dir_all(&directory).expect("a directory of the repository");
        let path = directory.join(format!("{sha1}.{md5}.{}", content.len()));
        let half = PathBuf::from(format!("{}.I", path.display()));
        fs::write(&half, content).expect("a file of the repository");
        fs::rename(&half, &path).expect("a file of the repository");
    }
    let size = i64::try_from(content.len()).expect("a size");
    let sql = "INSERT INTO pfile (pfile_sha1, pfile_md5, pfile_size) VALUES ($1, $2, $3)
               ON CONFLICT (pfile_md5, pfile_sha1, pfile_size) DO UPDATE SET pfile_size = EXCLUDED.pfile_size
               RETURNING pfile_pk";
    let row = client.query_one(sql, &[&sha1.to_uppercase(), &md5.to_uppercase(), &size]).await;
    row.expect("a row of pfile").get(0)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

//! The agent `ununpack`, and the part of `wget_agent` that it needs here: an upload's gold is a tar, and what is in it becomes files.

use std::fs;
use std::io::Read as _;
use std::time::Duration;

use tokio_postgres::Client;

use crate::repository::{Name, Repository};

/// What an upload that nobody has made yet is to hold.
#[derive(Debug, Clone, Copy)]
pub struct Measures {
    /// How many files.
    pub files: u32,
    /// Bytes of the largest of them.
    pub bytes: u32,
}

/// Unpacks an upload, as long as `duration`. One that was unpacked is left alone, and a tree that has rows gets no more.
pub async fn unpack(
    client: &Client,
    repository: &Repository,
    upload: i32,
    measures: Measures,
    duration: Duration,
) {
    let unpacked = "SELECT coalesce(bool_or(ars_success), false) FROM ununpack_ars WHERE upload_fk = $1";
    if client.query_one(unpacked, &[&upload]).await.expect("the results can be read").get(0) {
        return;
    }
    let begun = "INSERT INTO ununpack_ars (agent_fk, upload_fk) VALUES (1, $1) RETURNING ars_pk";
    let ars: i32 = client.query_one(begun, &[&upload]).await.expect("the beginning can be noted").get(0);
    let (gold, name) = match gold_of(client, upload).await {
        Some(gold) => gold,
        None => fetch(client, repository, upload, measures).await,
    };
    let path = repository.path_of("gold", &name);
    let content = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let has_tree = "SELECT EXISTS (SELECT FROM uploadtree WHERE upload_fk = $1)";
    let has_tree: bool = client.query_one(has_tree, &[&upload]).await.expect("the tree can be read").get(0);
    repository.store(client, &content).await;
    let root =
        if has_tree { None } else { Some(insert_tree(client, upload, None, gold, "source.tar").await) };
    for (name, content) in members(&content) {
        tokio::time::sleep(duration / measures.files.max(1)).await;
        let pfile = repository.store(client, &content).await;
        if root.is_some() {
            insert_tree(client, upload, root, pfile, &name).await;
        }
    }
    let done = "UPDATE ununpack_ars SET ars_success = true, ars_endtime = now() WHERE ars_pk = $1";
    client.execute(done, &[&ars]).await.expect("the result can be noted");
}

async fn gold_of(client: &Client, upload: i32) -> Option<(i32, Name)> {
    let sql = "SELECT pfile_pk, pfile_sha1::text, pfile_md5::text, pfile_size
               FROM upload JOIN pfile ON pfile_pk = pfile_fk WHERE upload_pk = $1";
    let row = client.query_opt(sql, &[&upload]).await.expect("the upload can be read")?;
    Some((row.get(0), Name::of_row(row.get(1), row.get(2), row.get(3))))
}

/// What the web pages would have brought: a tar of files that no other upload has.
async fn fetch(client: &Client, repository: &Repository, upload: i32, measures: Measures) -> (i32, Name) {
    let mut tar = tar::Builder::new(Vec::new());
    for number in 0..measures.files {
        let size = measures.bytes * (number + 1) / measures.files;
        let content = content(upload, number, size);
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("file-{number}.c"), content.as_slice()).expect("a tar");
    }
    let tar = tar.into_inner().expect("a tar");
    let gold = repository.store_gold(client, &tar).await;
    let sql = "UPDATE upload SET pfile_fk = $1 WHERE upload_pk = $2";
    client.execute(sql, &[&gold, &upload]).await.expect("the upload can be changed");
    gold_of(client, upload).await.expect("the upload has gold now")
}

fn members(tar: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(tar);
    let member = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.expect("a member");
        let name = entry.path().expect("a name").display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("a member's content");
        (name, content)
    };
    archive.entries().expect("gold is a tar").map(member).collect()
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

//! The repository's files: `<host>/<kind>/aa/bb/cc/<sha1>.<md5>.<size>`, each there, whole, before its row is.

use std::fs;
use std::path::{Path, PathBuf};

use md5::Md5;
use sha1::{Digest as _, Sha1};
use tokio_postgres::Client;

/// Where files go. With several hosts, each has an equal range of the names (`[REPOSITORY]` in fossology.conf).
#[derive(Debug)]
pub struct Repository {
    root: PathBuf,
    hosts: Vec<String>,
}

/// The name of a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    sha1: String,
    md5: String,
    size: i64,
}

impl Name {
    /// What a row of `pfile` says.
    pub fn of_row(sha1: &str, md5: &str, size: i64) -> Self {
        Self { sha1: sha1.to_lowercase(), md5: md5.to_lowercase(), size }
    }

    fn of(content: &[u8]) -> Self {
        let size = i64::try_from(content.len()).expect("a size");
        Self { sha1: hex(&Sha1::digest(content)), md5: hex(&Md5::digest(content)), size }
    }

    fn levels(&self) -> PathBuf {
        [&self.sha1[0..2], &self.sha1[2..4], &self.sha1[4..6]].iter().collect()
    }
}

impl Repository {
    /// `hosts`: their names, with commas between.
    pub fn new(root: &Path, hosts: &str) -> Self {
        Self { root: root.to_owned(), hosts: hosts.split(',').map(str::to_owned).collect() }
    }

    /// Where a file of this name is to be.
    pub fn path_of(&self, kind: &str, name: &Name) -> PathBuf {
        let first = usize::from_str_radix(&name.sha1[0..2], 16).expect("a digest");
        let host = &self.hosts[first * self.hosts.len() / 256];
        let file = format!("{}.{}.{}", name.sha1, name.md5, name.size);
        self.root.join(host).join(kind).join(name.levels()).join(file)
    }

    /// Puts an upload in: its gold, and the same inode among the files. Gives its `pfile_pk`.
    pub async fn store_gold(&self, client: &Client, content: &[u8]) -> i32 {
        let name = Name::of(content);
        let gold = self.path_of("gold", &name);
        put(&gold, content);
        let files = self.path_of("files", &name);
        fs::create_dir_all(files.parent().expect("a directory")).expect("a directory of the repository");
        if !files.exists() {
            fs::hard_link(&gold, &files).expect("a second name of the gold");
        }
        row(client, &name).await
    }

    /// Puts a file in and gives its `pfile_pk`.
    pub async fn store(&self, client: &Client, content: &[u8]) -> i32 {
        let name = Name::of(content);
        put(&self.path_of("files", &name), content);
        row(client, &name).await
    }
}

fn put(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().expect("a directory")).expect("a directory of the repository");
    let half = PathBuf::from(format!("{}.I", path.display()));
    fs::write(&half, content).expect("a file of the repository");
    fs::rename(&half, path).expect("a file of the repository");
}

async fn row(client: &Client, name: &Name) -> i32 {
    let sql = "INSERT INTO pfile (pfile_sha1, pfile_md5, pfile_size) VALUES ($1, $2, $3)
               ON CONFLICT (pfile_md5, pfile_sha1, pfile_size) DO UPDATE SET pfile_size = EXCLUDED.pfile_size
               RETURNING pfile_pk";
    let row = client.query_one(sql, &[&name.sha1.to_uppercase(), &name.md5.to_uppercase(), &name.size]).await;
    row.expect("a row of pfile").get(0)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

//! An agent: a process that writes files and the rows that name them, or reads them.
#![allow(
    clippy::zombie_processes,
    reason = "an agent that leaves a child behind is one of those that are played"
)]

use std::env;
use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio_postgres::Client;

use crate::repository::{Name, Repository};
use crate::unpack::{Measures, unpack};

/// What the scheduler hands an agent beside its command line.
pub const VARIABLES: [&str; 8] = [
    "STANDIN_DATABASE",
    "STANDIN_REPOSITORY",
    "STANDIN_AGENT",
    "STANDIN_UPLOAD",
    "STANDIN_MS",
    "STANDIN_FILES",
    "STANDIN_BYTES",
    "STANDIN_HOSTS",
];

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is set by the scheduler"))
}

fn number<T: std::str::FromStr>(name: &str) -> T {
    variable(name).parse().unwrap_or_else(|_| panic!("{name} is a number"))
}

/// Does the job.
pub async fn work() {
    let client = crate::connect(&variable("STANDIN_DATABASE")).await;
    let repository = Repository::new(Path::new(&variable("STANDIN_REPOSITORY")), &variable("STANDIN_HOSTS"));
    let duration = Duration::from_millis(number("STANDIN_MS"));
    match variable("STANDIN_AGENT").as_str() {
        "ununpack" => {
            let measures = Measures { files: number("STANDIN_FILES"), bytes: number("STANDIN_BYTES") };
            unpack(&client, &repository, number("STANDIN_UPLOAD"), measures, duration).await;
        }
        "nomos" => analyse(&client, &repository, number("STANDIN_UPLOAD")).await,
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

/// Reads every file of an upload, and fails when one is not there, as every agent does that looks into files.
async fn analyse(client: &Client, repository: &Repository, upload: i32) {
    let sql = "SELECT pfile_sha1::text, pfile_md5::text, pfile_size FROM uploadtree
               JOIN pfile ON pfile_pk = uploadtree.pfile_fk WHERE upload_fk = $1";
    let rows = client.query(sql, &[&upload]).await.expect("the tree can be read");
    assert!(!rows.is_empty(), "upload {upload} has no files");
    for row in rows {
        let path = repository.path_of("files", &Name::of_row(row.get(0), row.get(1), row.get(2)));
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

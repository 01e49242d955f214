//! What is missing, whose it is, and what getting it back will cost. Nothing is changed.

use std::collections::BTreeMap;

use serde::Serialize;
use tokio_postgres::Row;

use super::forecast::{Past, together};
use super::missing::{self, Counts, is_there};
use super::session::{open, rows, run};
use super::{Error, Site, cannot_read};
use crate::event::Context;
use crate::postgres::Client;
use crate::tree::DayTree;

/// What unpacking again would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Rows of `pfile` that were looked at.
    pub rows: u64,
    /// Files that are missing in `files`, and their bytes: what the repository will grow by.
    pub missing_files: u64,
    /// See `missing_files`.
    pub missing_bytes: u64,
    /// Missing files that no upload needs any more: nothing brings them back, and nobody asks for them.
    pub unneeded_files: u64,
    /// The uploads that miss files, by their numbers.
    pub uploads: Vec<Upload>,
    /// Unpack jobs of the past that the time is judged by.
    pub past_jobs: u64,
    /// Seconds that unpacking will take, one upload after the other; None: no unpack job of the past tells.
    pub seconds: Option<f64>,
}

/// An upload that misses files.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Upload {
    /// `upload_pk`.
    pub upload: i64,
    /// What was uploaded.
    pub name: String,
    /// How many of its files are missing, and their bytes. Uploads may share files.
    pub missing_files: u64,
    /// See `missing_files`.
    pub missing_bytes: u64,
    /// Bytes of all its files: unpacking writes all of them, also what is there.
    pub bytes: u64,
    /// What it is unpacked from; None: the upload names none.
    pub gold: Option<Gold>,
    /// Seconds that unpacking it will take.
    pub seconds: Option<f64>,
    /// The `jq_pk` of an unpack job that is queued already.
    pub queued: Option<i64>,
    /// The `jq_pk` of its other jobs that have not ended: they will wait.
    pub waiting: Vec<i64>,
}

impl Upload {
    /// Whether there is something to unpack.
    #[must_use]
    pub fn can_be_unpacked(&self) -> bool {
        self.gold.as_ref().is_some_and(|gold| gold.present)
    }
}

/// The file that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gold {
    /// Its name in `gold`.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Whether it is in the tree.
    pub present: bool,
}

/// Each file of an upload once, however often it is in it; and its gold, which is in `files`, too. `uploadtree` is the parent of the
/// tables that large uploads have of their own.
const OF: &str = "
    CREATE TEMPORARY TABLE daykeep_upload AS
    SELECT f.upload, count(m.pfile) AS missing, sum(m.size) AS missing_bytes, sum(p.pfile_size) AS bytes
    FROM (SELECT upload_fk AS upload, pfile_fk AS pfile FROM uploadtree WHERE pfile_fk > 0
          UNION SELECT upload_pk, pfile_fk FROM upload WHERE pfile_fk IS NOT NULL) f
    JOIN upload u ON u.upload_pk = f.upload
    JOIN pfile p ON p.pfile_pk = f.pfile
    LEFT JOIN pg_temp.daykeep_missing m ON m.pfile = f.pfile
    GROUP BY f.upload HAVING count(m.pfile) > 0";

/// The longest job of an upload: one that found everything unpacked took no time, and tells nothing.
const PAST: &str = "
    CREATE TEMPORARY TABLE daykeep_past AS
    SELECT j.job_upload_fk AS upload, max(extract(epoch FROM q.jq_endtime - q.jq_starttime))::float8 AS seconds
    FROM jobqueue q JOIN job j ON j.job_pk = q.jq_job_fk
    WHERE q.jq_type = 'ununpack' AND q.jq_end_bits = 1 AND q.jq_starttime < q.jq_endtime
    GROUP BY j.job_upload_fk";

const PAST_TOGETHER: &str = "
    SELECT count(*), coalesce(sum(g.pfile_size), 0)::bigint, coalesce(sum(p.seconds), 0)::float8
    FROM pg_temp.daykeep_past p JOIN upload u ON u.upload_pk = p.upload JOIN pfile g ON g.pfile_pk = u.pfile_fk";

const UPLOADS: &str = "
    SELECT s.upload::bigint, coalesce(u.upload_filename, '')::text, s.missing, s.missing_bytes::bigint, s.bytes::bigint,
           lower(g.pfile_sha1 || '.' || g.pfile_md5 || '.' || g.pfile_size), g.pfile_size::bigint, past.seconds
    FROM pg_temp.daykeep_upload s JOIN upload u ON u.upload_pk = s.upload
    LEFT JOIN pfile g ON g.pfile_pk = u.pfile_fk
    LEFT JOIN pg_temp.daykeep_past past ON past.upload = s.upload
    ORDER BY s.upload";

const UNNEEDED: &str = "
    SELECT count(*) FROM pg_temp.daykeep_missing m
    WHERE NOT EXISTS (SELECT FROM uploadtree t JOIN upload u ON u.upload_pk = t.upload_fk WHERE t.pfile_fk = m.pfile)
      AND NOT EXISTS (SELECT FROM upload u WHERE u.pfile_fk = m.pfile)";

/// What has not ended, of uploads that miss files.
const QUEUED: &str = "
    SELECT j.job_upload_fk::bigint, q.jq_pk::bigint, q.jq_type::text
    FROM jobqueue q JOIN job j ON j.job_pk = q.jq_job_fk JOIN pg_temp.daykeep_upload s ON s.upload = j.job_upload_fk
    WHERE q.jq_endtime IS NULL ORDER BY q.jq_pk";

/// Holds the rows against the tree.
///
/// # Errors
/// The server cannot be asked or is not FOSSology's, or the tree cannot be read.
pub async fn plan(site: &Site, context: &Context) -> Result<Plan, Error> {
    let tree = DayTree::open(&site.root)?;
    let client = open(site).await?;
    let work = made(site, &tree, &client, context);
    let plan = tokio::select! {
        plan = work => plan,
        () = context.cancel.cancelled() => {
            client.canceller().cancel().await;
            Err(Error::Cancelled)
        }
    };
    client.close().await;
    plan
}

async fn made(site: &Site, tree: &DayTree, client: &Client, context: &Context) -> Result<Plan, Error> {
    let Counts { rows: looked_at, missing, bytes } = missing::find(site, tree, client, context).await?;
    run(client, OF, "ask which uploads the missing files belong to").await?;
    run(client, PAST, "read the unpack jobs of the past").await?;
    let past = past(client).await?;
    let mut uploads = Vec::new();
    for row in rows(client, UPLOADS, &[], "read the uploads").await? {
        let mut upload = upload(&row, &past).map_err(|error| cannot_read("upload", &error))?;
        if let Some(gold) = &mut upload.gold {
            let size = i64::try_from(gold.bytes).ok();
            gold.present = is_there(site, tree, "gold", &gold.name, size)?;
        }
        uploads.push(upload);
    }
    note_jobs(client, &mut uploads).await?;
    let unneeded = rows(client, UNNEEDED, &[], "count the files that no upload needs").await?;
    let unneeded: i64 = match unneeded.first() {
        Some(row) => row.try_get(0).map_err(|error| cannot_read("uploadtree", &error))?,
        None => 0,
    };
    let possible = uploads.iter().filter(|upload| upload.can_be_unpacked());
    Ok(Plan {
        rows: looked_at,
        missing_files: missing,
        missing_bytes: bytes,
        unneeded_files: positive(unneeded),
        past_jobs: past.jobs,
        seconds: together(possible.map(|upload| upload.seconds)),
        uploads,
    })
}

async fn past(client: &Client) -> Result<Past, Error> {
    let bad = |error: tokio_postgres::Error| cannot_read("jobqueue", &error);
    match rows(client, PAST_TOGETHER, &[], "read the unpack jobs of the past").await?.first() {
        Some(row) => Ok(Past {
            jobs: positive(row.try_get(0).map_err(bad)?),
            bytes: positive(row.try_get(1).map_err(bad)?),
            seconds: row.try_get(2).map_err(bad)?,
        }),
        None => Ok(Past::default()),
    }
}

fn upload(row: &Row, past: &Past) -> Result<Upload, tokio_postgres::Error> {
    let gold = match (row.try_get::<_, Option<String>>(5)?, row.try_get::<_, Option<i64>>(6)?) {
        (Some(name), bytes) => Some(Gold { name, bytes: positive(bytes.unwrap_or(0)), present: false }),
        (None, _) => None,
    };
    Ok(Upload {
        upload: row.try_get(0)?,
        name: row.try_get(1)?,
        missing_files: positive(row.try_get(2)?),
        missing_bytes: positive(row.try_get::<_, Option<i64>>(3)?.unwrap_or(0)),
        bytes: positive(row.try_get::<_, Option<i64>>(4)?.unwrap_or(0)),
        seconds: past.expect(row.try_get(7)?, gold.as_ref().map(|gold| gold.bytes)),
        gold,
        queued: None,
        waiting: Vec::new(),
    })
}

/// Counts and sizes are never negative in FOSSology's tables.
pub(super) fn positive(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

async fn note_jobs(client: &Client, uploads: &mut [Upload]) -> Result<(), Error> {
    let mut places: BTreeMap<i64, &mut Upload> =
        uploads.iter_mut().map(|upload| (upload.upload, upload)).collect();
    for row in rows(client, QUEUED, &[], "read the jobs that have not ended").await? {
        let bad = |error: tokio_postgres::Error| cannot_read("jobqueue", &error);
        let upload: i64 = row.try_get(0).map_err(bad)?;
        let (job, kind): (i64, String) = (row.try_get(1).map_err(bad)?, row.try_get(2).map_err(bad)?);
        let Some(upload) = places.get_mut(&upload) else { continue };
        match kind.as_str() {
            "ununpack" => upload.queued = upload.queued.or(Some(job)),
            // It brings the gold, and so cannot wait for what needs it.
            "wget_agent" => {}
            _ => upload.waiting.push(job),
        }
    }
    Ok(())
}

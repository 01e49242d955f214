//! Asking FOSSology to unpack uploads again.

use serde::Serialize;

use super::session::{open, rows, run};
use super::{Error, Plan, Site, Upload, cannot_read};
use crate::event::{Context, Notices as _};
use crate::hold;
use crate::postgres::Client;

/// What was queued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The uploads that will be unpacked.
    pub queued: Vec<Queued>,
    /// The uploads whose gold is missing, too: their files do not come back.
    pub without_gold: Vec<i64>,
    /// Whether the scheduler runs and was told.
    pub told: bool,
}

/// An upload that will be unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Queued {
    /// The upload.
    pub upload: i64,
    /// The job in `jobqueue`.
    pub jq_pk: i64,
    /// False: it was queued before.
    pub new: bool,
    /// The jobs that were made to wait for it by this call.
    pub waiting: Vec<i64>,
}

/// Nobody else queues for this upload meanwhile.
const LOCK: &str = "SELECT upload_pk FROM upload WHERE upload_pk = $1::bigint FOR UPDATE";

const ALREADY: &str = "
    SELECT q.jq_pk::bigint FROM jobqueue q JOIN job j ON j.job_pk = q.jq_job_fk
    WHERE q.jq_type = 'ununpack' AND q.jq_endtime IS NULL AND j.job_upload_fk = $1::bigint ORDER BY q.jq_pk LIMIT 1";

/// Without it, the agent exits at once: unpacked already.
const RESET: &str = "UPDATE ununpack_ars SET ars_success = FALSE WHERE upload_fk = $1::bigint AND ars_success RETURNING ars_pk";

/// In the name of who uploaded it, or had a job for it; of the first of all users, if these are gone.
const JOB: &str = "
    INSERT INTO job (job_queued, job_priority, job_name, job_upload_fk, job_user_fk)
    SELECT now(), 0, 'reunpack', u.upload_pk, coalesce(
        (SELECT user_pk FROM users WHERE user_pk = u.user_fk),
        (SELECT j.job_user_fk FROM job j JOIN users ON user_pk = j.job_user_fk WHERE j.job_upload_fk = u.upload_pk
         ORDER BY j.job_pk DESC LIMIT 1),
        (SELECT min(user_pk) FROM users))
    FROM upload u WHERE u.upload_pk = $1::bigint
    RETURNING job_pk::bigint, job_user_fk IS NOT NULL";

const ROW: &str = "
    INSERT INTO jobqueue (jq_job_fk, jq_type, jq_args, jq_end_bits) VALUES ($1::bigint, 'ununpack', $2::text, 0)
    RETURNING jq_pk::bigint";

/// What has not ended waits, but for what the unpack job waits for itself.
const WAIT: &str = "
    WITH RECURSIVE before (jq) AS (
        SELECT $2::bigint UNION
        SELECT d.jdep_jq_depends_fk::bigint FROM jobdepends d JOIN before b ON d.jdep_jq_fk = b.jq)
    INSERT INTO jobdepends (jdep_jq_fk, jdep_jq_depends_fk)
    SELECT q.jq_pk, $2::bigint FROM jobqueue q JOIN job j ON j.job_pk = q.jq_job_fk
    WHERE j.job_upload_fk = $1::bigint AND q.jq_endtime IS NULL AND q.jq_type NOT IN ('ununpack', 'wget_agent')
      AND q.jq_pk NOT IN (SELECT jq FROM before)
      AND NOT EXISTS (SELECT FROM jobdepends d WHERE d.jdep_jq_fk = q.jq_pk AND d.jdep_jq_depends_fk = $2::bigint)
    RETURNING jdep_jq_fk::bigint";

/// Queues what `plan` says, for the uploads of `only` or, if it is empty, for all; a second time queues nothing twice. Uploads without
/// gold are left out, and named.
///
/// # Errors
/// The server refuses. What was queued before stays queued.
pub async fn queue(site: &Site, plan: &Plan, only: &[i64], context: &Context) -> Result<Outcome, Error> {
    let client = open(site).await?;
    let mut outcome = Outcome { queued: Vec::new(), without_gold: Vec::new(), told: false };
    let meant = |upload: &&Upload| only.is_empty() || only.contains(&upload.upload);
    for upload in plan.uploads.iter().filter(meant) {
        if context.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if upload.can_be_unpacked() {
            outcome.queued.push(in_one_transaction(&client, upload.upload).await?);
        } else {
            outcome.without_gold.push(upload.upload);
        }
    }
    client.close().await;
    outcome.told = told(site, &outcome, context).await;
    Ok(outcome)
}

async fn in_one_transaction(client: &Client, upload: i64) -> Result<Queued, Error> {
    run(client, "BEGIN", "begin").await?;
    match one(client, upload).await {
        Ok(queued) => {
            run(client, "COMMIT", "queue the unpack job").await?;
            Ok(queued)
        }
        Err(error) => {
            // A session that is lost has rolled back already.
            let _ = client.batch_execute("ROLLBACK").await;
            Err(error)
        }
    }
}

async fn one(client: &Client, upload: i64) -> Result<Queued, Error> {
    if rows(client, LOCK, &[&upload], "lock the upload").await?.is_empty() {
        return Err(Error::NoUpload { upload });
    }
    rows(client, RESET, &[&upload], "reset ununpack_ars").await?;
    let already = numbers(client, ALREADY, &[&upload], "look for queued jobs").await?;
    let (jq_pk, new) = match already.first() {
        Some(jq_pk) => (*jq_pk, false),
        None => (insert(client, upload).await?, true),
    };
    let waiting = numbers(client, WAIT, &[&upload, &jq_pk], "make the upload's jobs wait").await?;
    Ok(Queued { upload, jq_pk, new, waiting })
}

async fn insert(client: &Client, upload: i64) -> Result<i64, Error> {
    let bad = |error: tokio_postgres::Error| cannot_read("job", &error);
    let made = rows(client, JOB, &[&upload], "queue the unpack job").await?;
    let Some(job) = made.first() else { return Err(Error::NoUpload { upload }) };
    if !job.try_get::<_, bool>(1).map_err(bad)? {
        return Err(Error::NoUser { upload });
    }
    let job: i64 = job.try_get(0).map_err(bad)?;
    let made = numbers(client, ROW, &[&job, &upload.to_string()], "queue the unpack job").await?;
    made.first().copied().ok_or(Error::NoUpload { upload })
}

async fn numbers(
    client: &Client,
    sql: &str,
    values: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    action: &str,
) -> Result<Vec<i64>, Error> {
    let found = rows(client, sql, values, action).await?;
    found.iter().map(|row| row.try_get(0).map_err(|error| cannot_read("jobqueue", &error))).collect()
}

/// A scheduler that cannot be told finds the jobs by itself.
async fn told(site: &Site, outcome: &Outcome, context: &Context) -> bool {
    let Some(address) = site.scheduler.as_ref().filter(|_| !outcome.queued.is_empty()) else { return false };
    hold::announce_jobs(address).await.unwrap_or_else(|error| {
        context
            .observer
            .warn(format!("the jobs are queued; the scheduler finds them within two minutes: {error}"));
        false
    })
}

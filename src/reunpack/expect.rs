//! What a day of gold alone will cost after its restore, asked of the snapshot that the day shows: on the day of the disaster there is no database to ask.

use futures_util::{StreamExt as _, pin_mut};
use tokio_postgres::Row;

use super::forecast::Past;
use super::{Error, cannot_read, plan::positive};
use crate::config::{Check, CheckQuery, Repository};
use crate::database::{Frozen, Prepared};
use crate::manifest::ToUnpack;

/// Files and their bytes; uploads with gold; of those that were unpacked before, how many, their gold's bytes and the time; and the gold's bytes of the
/// others. The longest job of an upload counts, as in the plan.
const EXPECT: &str = "
    WITH past AS (
        SELECT j.job_upload_fk AS upload, max(extract(epoch FROM q.jq_endtime - q.jq_starttime))::float8 AS seconds
        FROM jobqueue q JOIN job j ON j.job_pk = q.jq_job_fk
        WHERE q.jq_type = 'ununpack' AND q.jq_end_bits = 1 AND q.jq_starttime < q.jq_endtime GROUP BY 1),
    gold AS (
        SELECT g.pfile_size AS bytes, past.seconds FROM upload u JOIN pfile g ON g.pfile_pk = u.pfile_fk
        LEFT JOIN past ON past.upload = u.upload_pk)
    SELECT (SELECT count(*) FROM pfile), (SELECT coalesce(sum(pfile_size), 0)::bigint FROM pfile), count(*), count(seconds),
           coalesce(sum(bytes) FILTER (WHERE seconds IS NOT NULL), 0)::bigint, coalesce(sum(seconds), 0)::float8,
           coalesce(sum(bytes) FILTER (WHERE seconds IS NULL), 0)::bigint
    FROM gold";

fn gold_only(repository: &Repository) -> Option<&Check> {
    let is_it = |check: &&Check| matches!(check.query, CheckQuery::Fossology { files: false, .. });
    repository.checks.values().find(is_it)
}

/// Whether the server understands the question, before anything is held for it.
pub(super) async fn ask(repository: &Repository, prepared: &Prepared) -> Result<(), Error> {
    if let Some(check) = gold_only(repository) {
        prepared.columns_of(&check.database, EXPECT).await?;
    }
    Ok(())
}

/// What is to be unpacked after a restore; None for a repository that keeps files, too.
///
/// # Errors
/// The snapshot cannot be read.
pub async fn to_unpack_at(repository: &Repository, snapshots: &Frozen) -> Result<Option<ToUnpack>, Error> {
    let Some(check) = gold_only(repository) else { return Ok(None) };
    let rows = snapshots.rows(&check.database, EXPECT).await?;
    pin_mut!(rows);
    match rows.next().await {
        Some(row) => read(&row?).map(Some).map_err(|error| cannot_read("jobqueue", &error)),
        None => Ok(None),
    }
}

fn read(row: &Row) -> Result<ToUnpack, tokio_postgres::Error> {
    let past =
        Past { jobs: positive(row.try_get(3)?), bytes: positive(row.try_get(4)?), seconds: row.try_get(5)? };
    Ok(ToUnpack {
        files: positive(row.try_get(0)?),
        bytes: positive(row.try_get(1)?),
        uploads: positive(row.try_get(2)?),
        seconds: past.with_others(positive(row.try_get(6)?)),
    })
}

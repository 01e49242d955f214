//! The jobs that have no end, as the snapshot of the freeze point shows them.

use futures_util::{StreamExt as _, pin_mut};
use tokio_postgres::Row;

use super::{Error, cannot_read, expect};
use crate::config::{Adapter, Repository};
use crate::database::{self, Frozen, Prepared};
use crate::event::{Context, Notices as _};
use crate::manifest::{JobState, UnfinishedJob, UnfinishedJobs};

/// How many jobs a day names; it counts all.
const NAMED: usize = 1000;

/// What `fo_scheduler --reset` would run again. '9999-12-31' marks a job that was paused before it began.
const UNFINISHED: &str = "\
    SELECT q.jq_pk::bigint, q.jq_job_fk::bigint, q.jq_type::text, q.jq_args::text, j.job_upload_fk::bigint, j.job_name::text, \
           q.jq_starttime IS NULL, q.jq_starttime >= '9999-12-31' OR coalesce(q.jq_endtext, '') = 'Paused' \
    FROM jobqueue q LEFT JOIN job j ON j.job_pk = q.jq_job_fk \
    WHERE q.jq_endtime IS NULL ORDER BY q.jq_pk";

/// The database of a repository whose scheduler is FOSSology's.
fn database_of(repository: &Repository) -> Option<&str> {
    match &repository.hold.adapter {
        Adapter::Fossology(fossology) => Some(&fossology.database),
        _ => None,
    }
}

/// Whether the server understands the question, before anything is held for it.
///
/// # Errors
/// It does not: the database is not FOSSology's.
pub async fn ask(repository: &Repository, prepared: &Prepared) -> Result<(), Error> {
    expect::ask(repository, prepared).await?;
    let Some(name) = database_of(repository) else { return Ok(()) };
    match prepared.columns_of(name, UNFINISHED).await {
        // It is not dumped: `unfinished_at` tells.
        Ok(_) | Err(database::Error::NoDatabase { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The unfinished jobs at the freeze point; None for a repository without FOSSology's scheduler.
///
/// # Errors
/// The snapshot cannot be read.
pub async fn unfinished_at(
    repository: &Repository,
    snapshots: &Frozen,
    context: &Context,
) -> Result<Option<UnfinishedJobs>, Error> {
    let Some(name) = database_of(repository) else { return Ok(None) };
    let rows = match snapshots.rows(name, UNFINISHED).await {
        Err(database::Error::NoDatabase { .. }) => {
            context.observer.warn(format!(
                "the day does not say which jobs were unfinished: database {name}, which has them, is not dumped"
            ));
            return Ok(None);
        }
        rows => rows?,
    };
    pin_mut!(rows);
    let mut found = UnfinishedJobs::default();
    while let Some(row) = rows.next().await {
        let row = row?;
        found.count += 1;
        if found.jobs.len() < NAMED {
            found.jobs.push(job(&row).map_err(|error| cannot_read("jobqueue", &error))?);
        }
    }
    Ok(Some(found))
}

fn job(row: &Row) -> Result<UnfinishedJob, tokio_postgres::Error> {
    let (not_begun, paused): (bool, Option<bool>) = (row.try_get(6)?, row.try_get(7)?);
    let state = match (paused.unwrap_or(false), not_begun) {
        (true, _) => JobState::Paused,
        (false, true) => JobState::Waiting,
        (false, false) => JobState::Running,
    };
    let args: Option<String> = row.try_get(3)?;
    Ok(UnfinishedJob {
        jq_pk: row.try_get(0)?,
        job_pk: row.try_get(1)?,
        kind: row.try_get(2)?,
        args: args.as_deref().map(without_passwords),
        upload: row.try_get(4)?,
        state,
        name: row.try_get(5)?,
    })
}

/// The arguments of a download may end in `--password SECRET`, and its address may be `https://user:secret@host/`.
fn without_passwords(args: &str) -> String {
    let mut kept = Vec::new();
    for word in args.split(' ') {
        let lower = word.to_ascii_lowercase();
        if lower.starts_with('-') && (lower.contains("password") || lower.contains("passwd")) {
            // Quoting is not worth a guess: nothing behind it is shown.
            kept.push(format!("{} ***", word.split('=').next().unwrap_or_default()));
            break;
        }
        kept.push(without_user(word));
    }
    kept.join(" ")
}

fn without_user(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let authority = rest.find(['/', '?', '#']).map_or(rest, |end| &rest[..end]);
    match authority.rfind('@') {
        Some(at) => format!("{scheme}://***{}", &rest[at..]),
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::without_passwords;

    #[test]
    fn passwords_are_not_kept() {
        assert_eq!(without_passwords("17"), "17");
        let args = "17 - https://host.example/a.git Git --username me --password it's my secret";
        assert_eq!(
            without_passwords(args),
            "17 - https://host.example/a.git Git --username me --password ***"
        );
        assert_eq!(without_passwords("--http-password=secret x"), "--http-password ***");
        assert_eq!(without_passwords("3 - ftp://me:p@ss@host/x@1"), "3 - ftp://***@host/x@1");
        assert_eq!(without_passwords("3 - http://host/x@1"), "3 - http://host/x@1");
    }
}

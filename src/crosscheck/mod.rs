//! The cross-check: every row's file is in the day (promise 3).
//!
//! In a run the rows come from the snapshots of the freeze point, so that what is compared is the day itself: its dump with its
//! trees. After a restore and in a drill they come from the restored server ([`Rows`]). A repository that has lost files before
//! daykeep came says how many in `allow_missing`; one more fails the check. Each row costs one look at the tree; nothing is kept in
//! memory but the first few that are missing.

mod ask;
mod error;
mod rows;

use std::collections::BTreeMap;
use std::path::PathBuf;

use futures_util::StreamExt as _;
use tokio_postgres::types::Type;

use crate::config::{Check, CheckQuery, fossology_paths};
use crate::event::{Context, Event, Notices as _, Phase, Unit};
use crate::manifest::CheckRecord;
use crate::tree::DayTree;

pub use ask::{ask, ask_all};
pub use error::Error;
pub use rows::Rows;

/// How many missing files an error names.
const EXAMPLES: usize = 5;
/// How often progress is told: once in so many rows.
const PROGRESS_ROWS: u64 = 10_000;

/// Runs every configured check; the first that finds a row without its file fails. `root_of` tells where the tree of a name lies:
/// in a day, or where it was restored to.
///
/// # Errors
/// See [`cross_check`].
pub async fn every_row_has_its_file(
    checks: &BTreeMap<String, Check>,
    rows: &impl Rows,
    root_of: &(dyn Fn(&str) -> PathBuf + Sync),
    context: &Context,
) -> Result<Vec<CheckRecord>, Error> {
    let mut records = Vec::new();
    for check in checks.values() {
        let tree = DayTree::open(&root_of(&check.tree))?;
        records.push(cross_check(check, rows, &tree, context).await?);
    }
    Ok(records)
}

/// Holds the rows of a check against a tree.
///
/// # Errors
/// [`Error::FilesMissing`] when rows have no file, with the first of them and what is hurt; or the query or the tree cannot be
/// read.
pub async fn cross_check(
    check: &Check,
    rows: &impl Rows,
    tree: &DayTree,
    context: &Context,
) -> Result<CheckRecord, Error> {
    let mut found = Found::default();
    match &check.query {
        CheckQuery::Sql(sql) => {
            count_missing(check, sql, &Places::AsGiven, rows, tree, &mut found, context).await?;
        }
        CheckQuery::Fossology { depth, hosts, files } => {
            let gold = Places::Fossology { kind: "gold", depth: *depth, hosts };
            count_missing(check, GOLD, &gold, rows, tree, &mut found, context).await?;
            if *files {
                let leaves = Places::Fossology { kind: "files", depth: *depth, hosts };
                count_missing(check, FILES, &leaves, rows, tree, &mut found, context).await?;
            }
        }
    }
    let Found { rows: count, missing, examples } = found;
    let (name, allowed) = (check.name.clone(), check.allow_missing);
    if missing == 0 {
        context.observer.info(format!("cross-check {name}: {count} rows, every file is there"));
        return Ok(CheckRecord { name, rows: count, missing, allowed });
    }
    let examples = name_what_is_hurt(check, examples, rows).await?;
    if missing > allowed {
        return Err(Error::FilesMissing { check: name, missing, rows: count, allowed, examples });
    }
    context.observer.warn(format!(
        "cross-check {name}: {missing} of {count} rows have no file, as allow_missing = {allowed} allows: {}",
        examples.join("; ")
    ));
    Ok(CheckRecord { name, rows: count, missing, allowed })
}

/// Uploads and their gold file. The names in the repository are lower case, the hashes in the rows upper case.
const GOLD: &str = "select lower(p.pfile_sha1 || '.' || p.pfile_md5 || '.' || p.pfile_size), p.pfile_size::bigint, \
     'upload ' || u.upload_pk || ' (' || coalesce(u.upload_filename, '') || ')' \
     from upload u join pfile p on p.pfile_pk = u.pfile_fk";

/// Every file that was unpacked. Which upload it belongs to is asked only for those that are missing: the join over
/// `uploadtree` is the largest that FOSSology has.
const FILES: &str =
    "select lower(pfile_sha1 || '.' || pfile_md5 || '.' || pfile_size), pfile_size::bigint from pfile";

/// The uploads that a file belongs to; $NAME is replaced by a quoted literal.
const UPLOADS_OF: &str = "select distinct 'upload ' || u.upload_pk || ' (' || coalesce(u.upload_filename, '') || ')' \
     from pfile p join uploadtree t on t.pfile_fk = p.pfile_pk join upload u on u.upload_pk = t.upload_fk \
     where p.pfile_sha1 = $SHA1 and p.pfile_md5 = $MD5 limit 3";

/// Where a row's file may be.
enum Places<'a> {
    /// The row gives the path.
    AsGiven,
    /// `<host>/<kind>/aa/bb/cc/<name>` for any of the hosts.
    Fossology { kind: &'static str, depth: u32, hosts: &'a [String] },
}

impl Places<'_> {
    fn of(&self, name: &str) -> Vec<String> {
        match self {
            Self::AsGiven => vec![name.trim_start_matches('/').to_owned()],
            Self::Fossology { kind, depth, hosts } => fossology_paths(hosts, kind, *depth, name),
        }
    }
}

/// What a check found so far.
#[derive(Default)]
struct Found {
    rows: u64,
    missing: u64,
    examples: Vec<Missing>,
}

/// A row without its file.
struct Missing {
    path: String,
    name: String,
    owner: Option<String>,
    found_size: Option<u64>,
}

async fn count_missing(
    check: &Check,
    sql: &str,
    places: &Places<'_>,
    rows: &impl Rows,
    tree: &DayTree,
    found: &mut Found,
    context: &Context,
) -> Result<(), Error> {
    let mut answer = rows.rows(&check.database, sql).await?;
    while let Some(row) = answer.next().await {
        let row = Row::read(check, &row?)?;
        let Some(row) = row else { continue };
        found.rows += 1;
        if found.rows.is_multiple_of(PROGRESS_ROWS) {
            if context.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            context.observer.observe(&Event::Progress {
                phase: Phase::CrossCheck,
                unit: Unit::Rows,
                current: found.rows,
                total: None,
            });
        }
        let paths = places.of(&row.path);
        let mut found_size = None;
        let mut present = false;
        for path in &paths {
            match tree.stat_beneath(path.as_bytes())? {
                Some(size) if row.size.is_none_or(|expected| expected == size) => present = true,
                Some(size) => found_size = Some(size),
                None => {}
            }
        }
        if !present {
            found.missing += 1;
            if found.examples.len() < EXAMPLES {
                let path = paths.into_iter().next().unwrap_or_default();
                found.examples.push(Missing { path, name: row.path, owner: row.owner, found_size });
            }
        }
    }
    Ok(())
}

/// One row of a check's answer.
struct Row {
    path: String,
    size: Option<u64>,
    owner: Option<String>,
}

impl Row {
    /// None for a row whose path is NULL: it names no file.
    fn read(check: &Check, row: &tokio_postgres::Row) -> Result<Option<Self>, Error> {
        let problem = |problem: String| Error::CheckQuery { check: check.name.clone(), problem };
        let path: Option<String> = row.try_get(0).map_err(|error| {
            problem(format!("the first column must be the path as text, relative to the tree ({error})"))
        })?;
        let Some(path) = path else { return Ok(None) };
        let size = match row.columns().get(1).map(tokio_postgres::Column::type_) {
            None => None,
            Some(&Type::INT8) => row.try_get::<_, Option<i64>>(1).ok().flatten(),
            Some(&Type::INT4) => row.try_get::<_, Option<i32>>(1).ok().flatten().map(i64::from),
            Some(other) => {
                return Err(problem(format!(
                    "the second column must be the size in bytes as integer or bigint, not {other}"
                )));
            }
        };
        let owner = match row.columns().get(2) {
            None => None,
            Some(_) => row.try_get::<_, Option<String>>(2).map_err(|error| {
                problem(format!(
                    "the third column must say as text what is hurt when the file is missing ({error})"
                ))
            })?,
        };
        Ok(Some(Self { path, size: size.and_then(|size| u64::try_from(size).ok()), owner }))
    }
}

/// The sentences about the first missing files: the path, and what is hurt.
async fn name_what_is_hurt(
    check: &Check,
    missing: Vec<Missing>,
    rows: &impl Rows,
) -> Result<Vec<String>, Error> {
    let mut sentences = Vec::new();
    for Missing { path, name, owner, found_size } in missing {
        let owner = match (&check.query, owner) {
            (_, Some(owner)) => Some(owner),
            (CheckQuery::Fossology { .. }, None) => uploads_of(check, &name, rows).await?,
            (CheckQuery::Sql(_), None) => None,
        };
        let what = match found_size {
            Some(size) => format!("{path} has {size} bytes, not what its row says"),
            None => path,
        };
        sentences.push(match owner {
            Some(owner) => format!("{what}, of {owner}"),
            None => what,
        });
    }
    Ok(sentences)
}

async fn uploads_of(check: &Check, name: &str, rows: &impl Rows) -> Result<Option<String>, Error> {
    let mut parts = name.split('.').map(str::to_uppercase);
    let (Some(sha1), Some(md5)) = (parts.next(), parts.next()) else { return Ok(None) };
    // Both come out of the database's own hash columns; quoting keeps whatever is there a literal.
    let quoted = |text: String| format!("'{}'", text.replace('\'', "''"));
    let sql = UPLOADS_OF.replace("$SHA1", &quoted(sha1)).replace("$MD5", &quoted(md5));
    let mut answer = rows.rows(&check.database, &sql).await?;
    let mut uploads = Vec::new();
    while let Some(row) = answer.next().await {
        if let Ok(Some(upload)) = row?.try_get::<_, Option<String>>(0) {
            uploads.push(upload);
        }
    }
    Ok(if uploads.is_empty() { None } else { Some(uploads.join(", ")) })
}

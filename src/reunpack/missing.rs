//! Which files of `pfile` are not in the tree: into a temporary table of the session, so that the server can say what needs them.

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _, pin_mut};

use super::session::run;
use super::{Error, Site, cannot_read};
use crate::config::fossology_paths;
use crate::database::Live;
use crate::event::{Context, Event, Phase, Unit};
use crate::postgres::Client;
use crate::tree::DayTree;

/// The names in the repository are lower case, the hashes in the rows upper case.
const PFILES: &str = "SELECT pfile_pk::bigint, lower(pfile_sha1 || '.' || pfile_md5 || '.' || pfile_size), pfile_size::bigint FROM pfile";

/// Of the session, and gone with it.
const TABLE: &str = "CREATE TEMPORARY TABLE daykeep_missing (pfile bigint, size bigint)";
const COPY: &str = "COPY pg_temp.daykeep_missing (pfile, size) FROM STDIN";
const ANALYZE: &str = "CREATE INDEX ON pg_temp.daykeep_missing (pfile); ANALYZE pg_temp.daykeep_missing";

/// Bytes of COPY text that go out together.
const CHUNK: usize = 64 * 1024;
/// How often progress is told: once in so many rows.
const PROGRESS_ROWS: u64 = 10_000;

/// What was counted on the way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Rows of `pfile`.
    pub(super) rows: u64,
    /// Those without a file of their size in `files`.
    pub(super) missing: u64,
    /// What those are together.
    pub(super) bytes: u64,
}

/// A file of the repository: of `kind`, with this name and size.
pub(super) fn is_there(
    site: &Site,
    tree: &DayTree,
    kind: &str,
    name: &str,
    size: Option<i64>,
) -> Result<bool, Error> {
    for path in fossology_paths(&site.hosts, kind, site.depth, name) {
        let found = tree.stat_beneath(path.as_bytes())?;
        if found.is_some_and(|found| size.is_none_or(|size| i64::try_from(found) == Ok(size))) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Fills `pg_temp.daykeep_missing`. The rows come over a connection of their own: one cannot read and write at once.
pub(super) async fn find(
    site: &Site,
    tree: &DayTree,
    client: &Client,
    context: &Context,
) -> Result<Counts, Error> {
    run(client, TABLE, "make a table of missing files").await?;
    let live = Live::connect(&site.server).await?;
    let rows = live.rows(&site.database, PFILES).await?;
    pin_mut!(rows);
    let failed = |error: &tokio_postgres::Error| client.failed("note the missing files", error);
    let copy = client.copy_in::<_, Bytes>(COPY).await.map_err(|error| failed(&error))?;
    pin_mut!(copy);
    let mut counts = Counts::default();
    let mut text = BytesMut::with_capacity(CHUNK);
    while let Some(row) = rows.next().await {
        let row = row?;
        let bad = |error: tokio_postgres::Error| cannot_read("pfile", &error);
        let name: Option<String> = row.try_get(1).map_err(bad)?;
        let Some(name) = name else { continue };
        let size: Option<i64> = row.try_get(2).map_err(bad)?;
        counts.rows += 1;
        if counts.rows.is_multiple_of(PROGRESS_ROWS) {
            tell(counts.rows, context)?;
        }
        if is_there(site, tree, "files", &name, size)? {
            continue;
        }
        let size = size.unwrap_or(0);
        counts.missing += 1;
        counts.bytes = counts.bytes.saturating_add(u64::try_from(size).unwrap_or(0));
        let pfile: i64 = row.try_get(0).map_err(bad)?;
        text.put_slice(format!("{pfile}\t{size}\n").as_bytes());
        if text.len() >= CHUNK - 64 {
            copy.send(text.split().freeze()).await.map_err(|error| failed(&error))?;
        }
    }
    copy.send(text.freeze()).await.map_err(|error| failed(&error))?;
    copy.finish().await.map_err(|error| failed(&error))?;
    run(client, ANALYZE, "look at the missing files").await?;
    Ok(counts)
}

fn tell(rows: u64, context: &Context) -> Result<(), Error> {
    if context.cancel.is_cancelled() {
        return Err(Error::Cancelled);
    }
    let (phase, unit) = (Phase::CrossCheck, Unit::Rows);
    context.observer.observe(&Event::Progress { phase, unit, current: rows, total: None });
    Ok(())
}

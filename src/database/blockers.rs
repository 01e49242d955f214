//! Who keeps a lock from us, and whom we keep from one.

use std::fmt::Write as _;
use std::future::Future;
use std::time::Duration;

use super::Error;
use crate::postgres::Client;

/// How often is looked while a lock is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How much of a blocker's query is shown.
const QUERY_SHOWN: usize = 200;

/// Waits for `work`, looking meanwhile who blocks the session `pid`; gives the work's outcome and what was seen last.
pub async fn watched<T>(watch: &Client, pid: i32, work: impl Future<Output = T>) -> (T, String) {
    let mut seen = String::new();
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            outcome = &mut work => return (outcome, seen),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        // Whom we cannot see we cannot name: the wait itself goes on.
        let look = look(watch, pid);
        tokio::select! {
            outcome = &mut work => return (outcome, seen),
            now = look => {
                if let Some(now) = now {
                    seen = now;
                }
            }
        }
    }
}

/// Whether any session stands in the queue for a lock on one of these tables.
///
/// # Errors
/// The server refuses.
pub async fn somebody_waits(watch: &Client, database: u32, tables: &[u32]) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks \
                 WHERE NOT granted AND locktype = 'relation' AND database = $1 AND relation = ANY ($2::oid[]))";
    let row = watch.query_one(sql, &[&database, &tables]).await.and_then(|row| row.try_get(0));
    row.map_err(|error| watch.failed("look at the queue for locks", &error).into())
}

async fn look(watch: &Client, pid: i32) -> Option<String> {
    let sql = "SELECT b.pid, coalesce(a.usename::text, ''), coalesce(a.state, ''), coalesce(a.query, '') \
               FROM (SELECT DISTINCT unnest(pg_catalog.pg_blocking_pids($1))) AS b(pid) \
               LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid ORDER BY b.pid";
    let rows = watch.query(sql, &[&pid]).await.ok()?;
    let mut text = String::new();
    for row in &rows {
        let blocker: i32 = row.try_get(0).ok()?;
        let (user, state): (String, String) = (row.try_get(1).ok()?, row.try_get(2).ok()?);
        let query: String = row.try_get(3).ok()?;
        let query: String = query.split_whitespace().collect::<Vec<_>>().join(" ");
        let shown: String = query.chars().take(QUERY_SHOWN).collect();
        // Writing to a String cannot fail.
        let _ = if blocker == 0 {
            write!(text, "; blocked by a prepared transaction (pg_prepared_xacts)")
        } else {
            write!(text, "; blocked by pid {blocker} of {user} ({state}): {shown}")
        };
    }
    (!text.is_empty()).then_some(text)
}

//! What may still be at work when the scheduler is gone: agents, their children, their sessions.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_postgres::types::{FromSql, ToSql};

use crate::config::FossologyHold;
use crate::hold::Error;
use crate::process::{self, Process};
use crate::{config, postgres};

/// What every agent has in its command line.
const AGENT_WORD: &str = "--scheduler_start";

/// Agents and the scheduler have a session each, with an empty application_name, which shows agents on other hosts too. Those who
/// may not read other roles' activity see no `backend_type`.
const SESSIONS: &str = "\
    SELECT format('session %s of %s', pid, usename) FROM pg_stat_activity \
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename IS NOT NULL \
      AND (backend_type IS NULL OR backend_type = 'client backend') \
      AND CASE WHEN $1::text[] = '{}' THEN coalesce(application_name, '') = '' ELSE usename = ANY ($1::text[]) END \
    ORDER BY pid";

/// Started and not ended; '9999-12-31' marks what was paused before it started.
const UNFINISHED: &str = "\
    SELECT jq_pk::bigint FROM jobqueue \
    WHERE jq_starttime IS NOT NULL AND jq_starttime < '9999-12-31' AND jq_endtime IS NULL ORDER BY jq_pk";

/// How long the database may take for an answer: a lock on `jobqueue` must not hold the hold up.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// How the scheduler's program is called: `fo_scheduler`.
const SCHEDULER_NAME: &str = "_scheduler";

/// Agents of this installation on this host. A group in which an agent was seen is remembered for as long as anything is in it: its
/// children belong to the job after the agent itself has ended. So is the scheduler's session, which agents and their children do not
/// leave: it has even those whose agent ended unseen.
#[derive(Debug, Clone, Default)]
pub(super) struct Agents {
    word: String,
    groups: BTreeSet<i32>,
    session: Option<i32>,
}

impl Agents {
    /// `word`: only command lines that contain it too.
    pub(super) fn new(word: &str) -> Self {
        Self { word: word.to_owned(), groups: BTreeSet::new(), session: None }
    }

    /// Remembers the session of the scheduler with this process id, if it leads one and is on this host.
    pub(super) fn remember_session(&mut self, scheduler: i64) -> Result<(), Error> {
        let is_it = |one: &&Process| {
            let name = one.argv.first().and_then(|program| program.rsplit('/').next());
            i64::from(one.pid) == scheduler
                && one.session == one.pid
                && name.is_some_and(|name| name.ends_with(SCHEDULER_NAME))
        };
        self.session = process::all()?.iter().find(is_it).map(|one| one.session);
        Ok(())
    }

    /// Those that run now, with what they started.
    pub(super) fn look(&mut self) -> Result<Vec<Process>, Error> {
        let all = process::all()?;
        let own = process::Identity::own()?.pid;
        let is_agent = |process: &&Process| {
            process.argv.iter().any(|word| word == AGENT_WORD)
                && process.argv.iter().any(|word| word.contains(&self.word))
        };
        let agents: Vec<&Process> = all.iter().filter(is_agent).collect();
        let own_group = all.iter().find(|process| process.pid == own).map(|process| process.group);
        self.groups.extend(agents.iter().map(|agent| agent.group).filter(|group| Some(*group) != own_group));
        // A group that is empty is over: its number may become that of a stranger's.
        self.groups.retain(|group| all.iter().any(|one| one.group == *group));
        let mut members: BTreeSet<i32> = agents.iter().map(|agent| agent.pid).collect();
        members.extend(all.iter().filter(|one| self.groups.contains(&one.group)).map(|one| one.pid));
        members.extend(self.left_in_session(&all));
        // Children in a group of their own belong to the job, too.
        loop {
            let more: Vec<i32> = all
                .iter()
                .filter(|one| members.contains(&one.parent) && !members.contains(&one.pid))
                .map(|one| one.pid)
                .collect();
            if more.is_empty() {
                break;
            }
            members.extend(more);
        }
        Ok(all.into_iter().filter(|one| members.contains(&one.pid)).collect())
    }
}

impl Agents {
    /// What is in the scheduler's session but for itself. While it lives, what it has in its own group is its own affair: the first proof
    /// waits for it.
    fn left_in_session(&mut self, all: &[Process]) -> Vec<i32> {
        let Some(session) = self.session else { return Vec::new() };
        let members: Vec<&Process> = all.iter().filter(|one| one.session == session).collect();
        if members.is_empty() {
            self.session = None;
        }
        let lives = members.iter().any(|one| one.pid == session);
        members.iter().filter(|one| !lives || one.group != session).map(|one| one.pid).collect()
    }
}

/// A process, for a message.
pub(super) fn text_of(process: &Process) -> String {
    let program = process.argv.first().map_or("(unknown)", String::as_str);
    let name = program.rsplit('/').next().unwrap_or(program);
    let job = process.argv.iter().find_map(|word| word.strip_prefix("--jobId="));
    match job {
        Some(job) => format!("agent {name} (pid {}, job {job})", process.pid),
        None => format!("{name} (pid {}), started by an agent", process.pid),
    }
}

fn asked(source: postgres::Error) -> Error {
    Error::Database { source: Box::new(source) }
}

/// The database's side.
pub(super) struct Database {
    server: config::Server,
    dbname: String,
    roles: Vec<String>,
    client: Option<postgres::Client>,
}

impl Database {
    pub(super) fn new(server: config::Server, settings: &FossologyHold) -> Self {
        Self { server, dbname: settings.database.clone(), roles: settings.roles.clone(), client: None }
    }

    /// Sessions of agents and the scheduler.
    pub(super) async fn sessions(&mut self) -> Result<Vec<String>, Error> {
        let roles = self.roles.clone();
        self.ask(SESSIONS, &[&roles], "look for the agents' sessions").await
    }

    /// Jobs that have begun and not ended, as the table says.
    pub(super) async fn unfinished(&mut self) -> Result<Vec<i64>, Error> {
        self.ask(UNFINISHED, &[], "read jobqueue").await
    }

    /// The first column of an answer that comes in time.
    async fn ask<T>(
        &mut self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
        action: &str,
    ) -> Result<Vec<T>, Error>
    where
        T: for<'a> FromSql<'a>,
    {
        let client = self.client().await?;
        let failed = |error| asked(client.failed(action, &error));
        let Ok(rows) = tokio::time::timeout(ANSWER_LIMIT, client.query(sql, parameters)).await else {
            let what = format!("database {}, asked to {action}", self.dbname);
            // The question is still open on this connection.
            self.client = None;
            return Err(Error::DatabaseSilent { what, limit: ANSWER_LIMIT });
        };
        rows.map_err(failed)?.iter().map(|row| row.try_get(0).map_err(failed)).collect()
    }

    async fn client(&mut self) -> Result<&postgres::Client, Error> {
        if self.client.as_ref().is_none_or(|client| client.is_closed()) {
            let connected = postgres::connect(&self.server, &self.dbname, "daykeep hold").await;
            let client = connected.map_err(asked)?;
            return Ok(self.client.insert(client));
        }
        self.client.as_ref().ok_or_else(|| Error::Unreachable {
            what: self.dbname.clone(),
            source: std::io::ErrorKind::NotConnected.into(),
        })
    }
}

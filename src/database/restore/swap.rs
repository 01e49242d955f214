//! What was loaded takes the place of what is there, all databases at once; and back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_postgres::error::SqlState;

use super::apply::{self, Extent};
use super::globals::Globals;
use super::load::Loaded;
use super::plan::{Action, Survey};
use super::{Beside, RestoreError, Wish, control, session, survey};
use crate::config;
use crate::event::Context;
use crate::postgres::{self, Client, identifier};

/// How long sessions may take to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long is waited before they are ended once more.
const AGAIN: Duration = Duration::from_millis(50);

/// One database that changes places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Its name.
    pub name: String,
    /// What the loaded one is called before.
    pub new: String,
    /// Its `pg_database.oid`.
    pub new_oid: u32,
    /// What the replaced one is called after.
    pub old: String,
    /// Its `pg_database.oid`; None: there was none.
    pub old_oid: Option<u32>,
    /// Whether the replaced one accepted connections.
    pub old_allowed: bool,
}

/// Roles and tablespaces, as scripts of `pg_dumpall --globals-only`. They hold the hashes of passwords.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobalsChange {
    /// As the day has them.
    pub day: String,
    /// As the server had them; None when only those that were missing come.
    pub before: Option<String>,
}

impl std::fmt::Debug for GlobalsChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GlobalsChange")
    }
}

/// All that it takes to put what was loaded in the place of what is there, and to take that back. It is to be recorded, for its owner
/// alone, before [`Swap::forward`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::unsafe_derive_deserialize,
    reason = "the unsafe code is tokio's, in select, and keeps no promise of ours"
)]
pub struct Swap {
    /// The tag of all names.
    pub tag: u64,
    /// The databases.
    pub pairs: Vec<Pair>,
    /// Roles and tablespaces; None: the day holds none.
    pub globals: Option<GlobalsChange>,
    /// Roles that were made for this restore.
    pub roles: Vec<String>,
    /// Tablespaces that were made for it.
    pub tablespaces: Vec<String>,
    /// A killed restore goes on with it.
    pub resumable: bool,
}

/// How far a swap is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing was renamed, or it was taken back.
    Before,
    /// Everything was renamed.
    After,
}

impl Swap {
    /// Finds out what will be renamed. `roles` and `tablespaces` are those that [`load`](super::load) told it would make, by
    /// this run or by an earlier one of the same tag. Changes nothing.
    ///
    /// # Errors
    /// Something was not loaded, the server cannot be asked, or the run is cancelled.
    pub async fn plan(
        wish: &Wish<'_>,
        survey: &Survey,
        loaded: &[Loaded],
        roles: Vec<String>,
        tablespaces: Vec<String>,
        context: &Context,
    ) -> Result<Self, RestoreError> {
        let mut pairs = Vec::new();
        for plan in survey.databases.iter().filter(|plan| plan.action != Action::LeaveAlone) {
            let loaded = loaded.iter().find(|loaded| loaded.name == plan.name).ok_or_else(|| {
                RestoreError::Neither { what: format!("database {:?} of the day is not loaded", plan.name) }
            })?;
            let (old_oid, old_allowed) = match plan.action {
                Action::Replace { oid, allows_connections, .. } => (Some(oid), allows_connections),
                _ => (None, false),
            };
            pairs.push(Pair {
                name: plan.name.clone(),
                new: loaded.beside.clone(),
                new_oid: loaded.oid,
                old: plan.aside.clone(),
                old_oid,
                old_allowed,
            });
        }
        let globals = match &survey.globals {
            None => None,
            Some(day) if wish.globals => {
                let before = survey::live_globals(wish, &survey.programs, context).await?;
                Some(GlobalsChange { day: day.clone(), before: Some(before) })
            }
            Some(day) => Some(GlobalsChange { day: day.clone(), before: None }),
        };
        let (tag, resumable) = (wish.tag, wish.target.is_resumable());
        Ok(Self { tag, pairs, globals, roles, tablespaces, resumable })
    }

    /// Which way round the server's databases are.
    ///
    /// # Errors
    /// The server cannot be asked, or its databases are neither those before nor those after.
    pub async fn state(&self, server: &config::Server) -> Result<State, RestoreError> {
        let client = control::anywhere(server, self.tag).await?;
        let state = self.ask_state(&client).await;
        client.close().await;
        state
    }

    /// Puts what was loaded in place: roles, memberships, settings and all names at once. Done already, it does nothing.
    ///
    /// # Errors
    /// The server refuses: then nothing has happened but that the databases may refuse connections. Say it again, or
    /// [`Swap::back`].
    pub async fn forward(&self, server: &config::Server, context: &Context) -> Result<(), RestoreError> {
        self.turn(server, State::After, context).await
    }

    /// Takes it back, wherever it stands: databases, roles, memberships and settings are as they were before. What was
    /// loaded, and the roles and tablespaces that were made for it, are dropped; a role that is used elsewhere by now stays, and is
    /// told.
    ///
    /// # Errors
    /// The server refuses, or what was moved aside has been dropped already. It can be said again.
    pub async fn back(&self, server: &config::Server, context: &Context) -> Result<(), RestoreError> {
        self.turn(server, State::Before, context).await?;
        self.beside().discard(server, context).await
    }

    /// Drops what was replaced: from here on there is no way back.
    ///
    /// # Errors
    /// What was loaded is not in place, or the server refuses. It can be said again.
    pub async fn drop_old(&self, server: &config::Server, context: &Context) -> Result<(), RestoreError> {
        if self.state(server).await? != State::After {
            return Err(RestoreError::Neither {
                what: "what was restored is not in place: there is nothing to confirm".to_owned(),
            });
        }
        if self.pairs.iter().all(|pair| pair.old_oid.is_none()) {
            // Nothing was replaced. The session to rename from has gone with the swap.
            return Ok(());
        }
        let client = control::open(server, self.tag).await?;
        for pair in &self.pairs {
            if let Some(oid) = pair.old_oid {
                super::discard::drop_with_subscriptions(server, &client, &pair.old, oid, context).await?;
            }
        }
        control::close(server, self.tag, client).await
    }

    /// What stands beside before the swap.
    #[must_use]
    pub fn beside(&self) -> Beside {
        Beside { tag: self.tag, roles: self.roles.clone(), tablespaces: self.tablespaces.clone() }
    }

    async fn turn(&self, server: &config::Server, to: State, context: &Context) -> Result<(), RestoreError> {
        let names = self.pairs.iter().map(|pair| pair.name.as_str());
        let client = control::open_for(server, self.tag, self.resumable, names).await?;
        let turning = async {
            if self.ask_state(&client).await? != to {
                if to == State::Before {
                    self.still_there(&client).await?;
                }
                self.forbid(&client, to).await?;
                self.rename(&client, to, context).await
            } else if to == State::Before {
                // A swap that was killed before its commit may have forbidden connections.
                self.allow(&client).await
            } else {
                Ok(())
            }
        };
        let turned = tokio::select! {
            turned = turning => turned,
            () = context.cancel.cancelled() => Err(RestoreError::Cancelled),
        };
        let closed = control::close(server, self.tag, client).await;
        turned.and(closed)
    }

    async fn ask_state(&self, client: &Client) -> Result<State, RestoreError> {
        let sql = "SELECT oid, datname::text FROM pg_catalog.pg_database";
        let failed = |error| client.failed("list the databases", &error);
        let rows = client.query(sql, &[]).await.map_err(failed)?;
        let there = rows.iter().map(|row| Ok((row.try_get::<_, u32>(0)?, row.try_get::<_, String>(1)?)));
        let there: BTreeMap<u32, String> = there.collect::<Result<_, _>>().map_err(failed)?;
        state_of(&self.pairs, &there)
    }

    /// Without what was moved aside there is no way back.
    async fn still_there(&self, client: &Client) -> Result<(), RestoreError> {
        let there = control::databases_of(client, "").await?;
        let replaced = self.pairs.iter().filter(|pair| pair.old_oid.is_some());
        let gone: Vec<String> = replaced
            .filter(|pair| !there.contains(&pair.old))
            .map(|pair| format!("{:?}", pair.name))
            .collect();
        if gone.is_empty() { Ok(()) } else { Err(RestoreError::Confirmed { databases: gone }) }
    }

    /// Nobody new comes in any more.
    async fn forbid(&self, client: &Client, to: State) -> Result<(), RestoreError> {
        for pair in &self.pairs {
            let (leaving, coming) = match to {
                State::After => (pair.old_oid.map(|_| &pair.name), Some(&pair.new)),
                State::Before => (Some(&pair.name), pair.old_oid.map(|_| &pair.old)),
            };
            for name in [leaving, coming].into_iter().flatten() {
                let sql = format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", identifier(name));
                session::execute(client, &format!("close database {name:?}"), &sql).await?;
            }
        }
        Ok(())
    }

    async fn allow(&self, client: &Client) -> Result<(), RestoreError> {
        for pair in self.pairs.iter().filter(|pair| pair.old_oid.is_some() && pair.old_allowed) {
            let sql = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", identifier(&pair.name));
            session::execute(client, &format!("open database {:?} again", pair.name), &sql).await?;
        }
        Ok(())
    }

    /// Ends the sessions and does everything in one transaction, again and again until nobody is in the way.
    async fn rename(&self, client: &Client, to: State, context: &Context) -> Result<(), RestoreError> {
        let begun = context.clock.monotonic();
        loop {
            self.end_sessions(client).await?;
            session::execute(client, "begin", "BEGIN").await?;
            let Err(error) = self.in_transaction(client, to).await else { return Ok(()) };
            session::execute(client, "roll back", "ROLLBACK").await?;
            let in_use = matches!(&error, RestoreError::Postgres(error)
                if matches!(&**error, postgres::Error::Statement { code: Some(code), .. }
                    if code == SqlState::OBJECT_IN_USE.code()));
            let waited = context.clock.monotonic().saturating_sub(begun);
            if !in_use {
                return Err(error);
            }
            if waited > PATIENCE {
                return Err(RestoreError::Busy { waited, who: self.who(client).await? });
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn in_transaction(&self, client: &Client, to: State) -> Result<(), RestoreError> {
        self.apply_globals(client, to).await?;
        for (from, name, allow) in self.renames(to) {
            let action = format!("rename database {from:?} to {name:?}");
            let sql = format!("ALTER DATABASE {} RENAME TO {}", identifier(&from), identifier(&name));
            session::execute(client, &action, &sql).await?;
            let sql = format!("ALTER DATABASE {} ALLOW_CONNECTIONS {allow}", identifier(&name));
            session::execute(client, &action, &sql).await?;
        }
        session::execute(client, "commit", "COMMIT").await
    }

    /// From, to, and whether it accepts connections then; in an order in which each name is free when it is taken.
    fn renames(&self, to: State) -> Vec<(String, String, bool)> {
        let mut renames = Vec::with_capacity(2 * self.pairs.len());
        for Pair { name, new, old, old_oid, old_allowed, .. } in &self.pairs {
            match to {
                State::After => {
                    if old_oid.is_some() {
                        renames.push((name.clone(), old.clone(), false));
                    }
                    renames.push((new.clone(), name.clone(), true));
                }
                State::Before => {
                    renames.push((name.clone(), new.clone(), false));
                    if old_oid.is_some() {
                        renames.push((old.clone(), name.clone(), *old_allowed));
                    }
                }
            }
        }
        renames
    }

    async fn apply_globals(&self, client: &Client, to: State) -> Result<(), RestoreError> {
        let Some(globals) = &self.globals else { return Ok(()) };
        let created: BTreeSet<String> = self.roles.iter().cloned().collect();
        match (to, &globals.before) {
            (State::After, Some(_)) => apply::apply(client, &Globals::parse(&globals.day), Extent::All).await,
            (State::After, None) => {
                apply::apply(client, &Globals::parse(&globals.day), Extent::Roles(&created)).await
            }
            (State::Before, Some(before)) => apply::apply(client, &Globals::parse(before), Extent::All).await,
            // What was made for the restore is dropped whole.
            (State::Before, None) => Ok(()),
        }
    }

    async fn end_sessions(&self, client: &Client) -> Result<(), RestoreError> {
        let sql = "SELECT count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity \
                   WHERE datid = ANY ($1) AND pid <> pg_catalog.pg_backend_pid()";
        let ended = client.query(sql, &[&self.oids()]).await;
        ended.map(drop).map_err(|error| client.failed("end the sessions of others", &error).into())
    }

    /// Who is in the databases.
    async fn who(&self, client: &Client) -> Result<String, RestoreError> {
        let sql = "SELECT coalesce(string_agg(DISTINCT pg_catalog.format('%s (%s, process %s)', datname, \
                     coalesce(nullif(application_name, ''), backend_type), pid), ', '), 'nobody that is seen') \
                   FROM pg_catalog.pg_stat_activity WHERE datid = ANY ($1)";
        let row = client.query_one(sql, &[&self.oids()]).await;
        row.and_then(|row| row.try_get(0))
            .map_err(|error| client.failed("look at the sessions", &error).into())
    }

    fn oids(&self) -> Vec<u32> {
        self.pairs.iter().flat_map(|pair| [Some(pair.new_oid), pair.old_oid]).flatten().collect()
    }
}

/// Which way round the pairs are, given the names of all databases by their OIDs.
fn state_of(pairs: &[Pair], there: &BTreeMap<u32, String>) -> Result<State, RestoreError> {
    let is = |oid: u32, name: &str| there.get(&oid).is_none_or(|known| known == name);
    let before = |pair: &Pair| {
        is(pair.new_oid, &pair.new)
            && pair.old_oid.is_none_or(|oid| there.get(&oid).is_some_and(|known| *known == pair.name))
    };
    let after = |pair: &Pair| {
        there.get(&pair.new_oid).is_some_and(|known| *known == pair.name)
            && pair.old_oid.is_none_or(|oid| is(oid, &pair.old))
    };
    if pairs.iter().all(after) && !pairs.is_empty() {
        return Ok(State::After);
    }
    if let Some(pair) = pairs.iter().find(|pair| !before(pair)) {
        let shown = |oid: Option<u32>| match oid.and_then(|oid| there.get(&oid)) {
            Some(name) => format!("is called {name:?}"),
            None => "is gone".to_owned(),
        };
        return Err(RestoreError::Neither {
            what: format!(
                "of database {:?}, the restored one {} and the one before {}",
                pair.name,
                shown(Some(pair.new_oid)),
                shown(pair.old_oid)
            ),
        });
    }
    Ok(State::Before)
}

#[cfg(test)]
mod tests {
    use super::{Pair, State, state_of};

    fn pair(number: u32, replaces: bool) -> Pair {
        Pair {
            name: format!("d{number}"),
            new: format!("daykeep_new_7_{number}"),
            new_oid: 100 + number,
            old: format!("daykeep_old_7_{number}"),
            old_oid: replaces.then_some(number),
            old_allowed: true,
        }
    }

    fn state(there: &[(u32, &str)]) -> Result<State, String> {
        let there = there.iter().map(|(oid, name)| (*oid, (*name).to_owned())).collect();
        state_of(&[pair(1, true), pair(2, false)], &there).map_err(|error| error.to_string())
    }

    #[test]
    fn the_oids_tell_which_way_round_it_is() {
        let new = [(101, "daykeep_new_7_1"), (102, "daykeep_new_7_2")];
        assert_eq!(state(&[(1, "d1"), new[0], new[1]]), Ok(State::Before));
        assert_eq!(state(&[(1, "d1")]), Ok(State::Before), "taken back and discarded");
        let after = [(101, "d1"), (102, "d2")];
        assert_eq!(state(&[(1, "daykeep_old_7_1"), after[0], after[1]]), Ok(State::After));
        assert_eq!(state(&after), Ok(State::After), "confirmed");
        let error = state(&[(1, "daykeep_old_7_1"), new[0], new[1]]).unwrap_err();
        assert_eq!(
            error,
            "the databases of the server are neither those before nor those after the restore: of database \"d1\", the restored one \
             is called \"daykeep_new_7_1\" and the one before is called \"daykeep_old_7_1\""
        );
        assert!(state(&[]).unwrap_err().ends_with("the restored one is gone and the one before is gone"));
    }
}

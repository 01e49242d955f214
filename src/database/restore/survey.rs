//! Everything that a restore would meet, found out before anything is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::globals::Globals;
use super::plan::{Action, Creation, DatabasePlan, RolePlan, Survey};
use super::{RestoreError, Wish, check, control, databases, new_name, old_name, program_failed};
use crate::database::{archive, globals as dumpall};
use crate::event::Context;
use crate::fs::{self, OnPath as _};
use crate::manifest::{DatabaseEntry, DatabaseRecord, LONGEST_PAGE, Manifest};
use crate::postgres::{self, Client, Programs};

/// Looks at the day and the server. What stands in the way is all in [`Survey::problems`]; an error is what ends the looking.
///
/// Nothing is changed: the roles of the day are tried in a transaction that is rolled back, and each database is tried with a
/// name that is taken, which the server tells only after it has found nothing else wrong.
///
/// # Errors
/// The day has no such database or cannot be read, the server cannot be reached, a program is missing, or the run is cancelled.
pub async fn survey(wish: &Wish<'_>, context: &Context) -> Result<Survey, RestoreError> {
    tokio::select! {
        outcome = look(wish, context) => outcome,
        () = context.cancel.cancelled() => Err(RestoreError::Cancelled),
    }
}

async fn look(wish: &Wish<'_>, context: &Context) -> Result<Survey, RestoreError> {
    let record = wish
        .manifest
        .database
        .as_ref()
        .ok_or_else(|| RestoreError::NoDatabase { day: wish.manifest.day.clone() })?;
    let chosen = choose(wish, record)?;
    let client = control::anywhere(wish.server(), wish.tag).await?;
    let server = check::server(&client).await?;
    let dumper = archive::major_of(&record.pg_dump_version).unwrap_or(0).max(record.server_version / 10_000);
    let programs =
        postgres::find_programs(wish.bin_dir.as_deref(), dumper.max(server.version / 10_000)).await?;
    let mut survey = Survey {
        server,
        databases: Vec::new(),
        staying: Vec::new(),
        roles: RolePlan::default(),
        new_tablespaces: Vec::new(),
        sessions: Vec::new(),
        needed_bytes: 0,
        free_bytes: None,
        problems: Vec::new(),
        notices: Vec::new(),
        programs,
        creations: Vec::new(),
        globals: None,
    };
    check::rights(&mut survey, record, wish);
    if survey.server.superuser && !survey.server.standby {
        look_at_globals(wish, &client, &mut survey, context).await?;
        look_at_databases(wish, &client, &chosen, &mut survey, context).await?;
        check::connections(&mut survey, wish);
        check::sessions(&client, &mut survey).await?;
        check::space(wish, &client, &mut survey).await?;
    }
    client.close().await;
    Ok(survey)
}

/// The databases that are wished, each once.
fn choose<'a>(wish: &Wish<'_>, record: &'a DatabaseRecord) -> Result<Vec<&'a DatabaseEntry>, RestoreError> {
    let Some(names) = &wish.databases else { return Ok(record.databases.iter().collect()) };
    let names: BTreeSet<&String> = names.iter().collect();
    let find = |name: &&String| {
        record.databases.iter().find(|entry| entry.name == **name).ok_or_else(|| {
            let held = record.databases.iter().map(|entry| format!("{:?}", entry.name)).collect();
            RestoreError::NoSuchDatabase { day: wish.manifest.day.clone(), name: (*name).clone(), held }
        })
    };
    names.iter().map(find).collect()
}

async fn look_at_globals(
    wish: &Wish<'_>,
    client: &Client,
    survey: &mut Survey,
    context: &Context,
) -> Result<(), RestoreError> {
    let path = wish.day.join("database/globals.sql");
    if !fs::exists(&path)? && !wish.manifest.digests.contains_key("database/globals.sql") {
        survey.notices.push("the day holds no roles and tablespaces: they stay as they are".to_owned());
        return Ok(());
    }
    let script = check_file(wish, &path)?;
    let script = check::text(client, script, "globals.sql of the day").await?;
    let now = live_globals(wish, &survey.programs, context).await?;
    let (day, now) = (Globals::parse(&script), Globals::parse(&now));
    survey.roles = role_plan(&day, &now, wish.globals, &survey.server.user);
    check::tablespaces(wish, client, &day, survey).await?;
    check::try_globals(wish, client, &day, survey).await?;
    survey.globals = Some(script);
    Ok(())
}

/// What pg_dumpall says of the server's roles and tablespaces now.
pub(super) async fn live_globals(
    wish: &Wish<'_>,
    programs: &Programs,
    context: &Context,
) -> Result<String, RestoreError> {
    let program = dumpall::command(wish.server(), programs)?;
    let failed = |source| program_failed(dumpall::GLOBALS, source);
    let said = program.run(&context.cancel).await.map_err(failed)?;
    String::from_utf8(said).map_err(|_| RestoreError::Encoding {
        what: "what pg_dumpall says of the server's roles".to_owned(),
        encoding: "the encoding of its maintenance database".to_owned(),
    })
}

/// `own` is the role of this session: what it may do and how it logs in is never changed.
fn role_plan(day: &Globals, now: &Globals, all: bool, own: &str) -> RolePlan {
    let (there, wanted) = (now.roles(), day.roles());
    let (mut before, mut after): (BTreeMap<_, _>, BTreeMap<_, _>) = (now.by_role(), day.by_role());
    for (said, script) in [(&mut before, now), (&mut after, day)] {
        if let (Some(said), Some(attributes)) = (said.get_mut(own), script.attributes(own)) {
            said.remove(attributes);
        }
    }
    let owned = |role: &&str| (*role).to_owned();
    let differs = |role: &&&str| all && there.contains(**role) && before.get(**role) != after.get(**role);
    RolePlan {
        keeps_own: all && wanted.contains(own) && now.attributes(own) != day.attributes(own),
        created: wanted.difference(&there).map(owned).collect(),
        changed: wanted.iter().filter(differs).map(owned).collect(),
        staying: there.difference(&wanted).map(owned).collect(),
    }
}

async fn look_at_databases(
    wish: &Wish<'_>,
    client: &Client,
    chosen: &[&DatabaseEntry],
    survey: &mut Survey,
    context: &Context,
) -> Result<(), RestoreError> {
    let there = databases::databases(client).await?;
    let mut extensions = BTreeSet::new();
    let mut number = 0;
    for entry in chosen {
        let archive_path = wish.day.join("database").join(&entry.directory).join("rest.dump");
        check_digest(wish.day, wish.manifest, &archive_path)?;
        let failed = |source| program_failed(&entry.name, source);
        let list = archive::list(&survey.programs, &archive_path, &context.cancel).await.map_err(failed)?;
        let script = archive::creation(&survey.programs, &archive_path, &list, &context.cancel).await;
        let what = format!("what rest.dump says of database {:?}", entry.name);
        let script = check::text(client, script.map_err(failed)?, &what).await?;
        let creation = databases::creation(&script);
        extensions.extend(databases::extensions_of(&list));
        let live = there.iter().find(|live| live.name == entry.name);
        let action = match live {
            None => Action::Create,
            Some(live) => {
                let bare = databases::is_bare(&list, entry)
                    && databases::holds_nothing(wish, live).await?
                    && databases::same_properties(wish, survey, entry, &creation, context).await?;
                databases::place(wish, live, survey).await?;
                if bare { Action::LeaveAlone } else { live.replaced() }
            }
        };
        if action != Action::LeaveAlone {
            number += 1;
            databases::try_creation(client, entry, &creation, survey).await?;
        }
        survey.databases.push(DatabasePlan {
            name: entry.name.clone(),
            directory: entry.directory.clone(),
            encoding: entry.encoding.clone(),
            action,
            rows: entry.rows,
            row_bytes: entry.row_bytes,
            beside: new_name(wish.tag, number),
            aside: old_name(wish.tag, number),
        });
        survey.creations.push(Creation { statements: creation, list });
    }
    check::extensions(client, &extensions, survey).await?;
    check::names(wish, &there, survey);
    let chosen: BTreeSet<&str> = chosen.iter().map(|entry| entry.name.as_str()).collect();
    let stays = |name: &&String| !chosen.contains(name.as_str()) && !name.starts_with("daykeep_");
    survey.staying = there.iter().map(|live| &live.name).filter(stays).cloned().collect();
    Ok(())
}

/// A file of the day, when it is what the manifest says.
fn check_file(wish: &Wish<'_>, path: &Path) -> Result<Vec<u8>, RestoreError> {
    check_digest(wish.day, wish.manifest, path)?;
    let script = fs::read_regular(path, LONGEST_PAGE)?;
    Ok(script.ok_or(std::io::ErrorKind::NotFound).on("read", path)?)
}

/// Holds a file of the day against the digest that the manifest has of it.
pub(super) fn check_digest(day: &Path, manifest: &Manifest, path: &Path) -> Result<(), RestoreError> {
    let name = path.strip_prefix(day).unwrap_or(path).to_string_lossy();
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::open_regular(path)?).on("read", path)?;
    match manifest.digests.get(name.as_ref()) {
        Some(digest) if *digest != hasher.finalize().to_hex().as_str() => Err(RestoreError::Damaged {
            path: path.to_owned(),
            problem: "its BLAKE3 digest is not the one in manifest.json".to_owned(),
        }),
        _ => Ok(()),
    }
}

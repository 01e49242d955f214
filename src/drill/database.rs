//! The databases of a day, restored into a scratch server and compared.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::Check;
use crate::crosscheck;
use crate::database::restore::{RestoreError, Target, Wish, fill};
use crate::database::{CompareError, Live, Recorded};
use crate::drill::{Error, Outcome, Request, Steps, is_in, room};
use crate::event::{Context, Notices as _, Phase};
use crate::manifest::{DatabaseRecord, DatabaseSeal};
use crate::postgres::{Cluster, Scratch, ScratchDir};
use crate::vault::Day;

/// What stands beside on the way in is called by this number: nothing else is on the server.
const TAG: u64 = 1;
/// Connections besides those that load and build indexes.
const OTHER_CONNECTIONS: usize = 20;

/// A scratch server that holds the day.
pub(super) struct Loaded {
    scratch: Scratch,
    live: Live,
}

impl Loaded {
    pub async fn stop(self) {
        self.scratch.stop().await;
    }
}

/// Starts a scratch server and restores every database of the day into it. None: the day has none, or they cannot be restored, which
/// is told in the outcome.
pub(super) async fn load(
    request: &Request,
    day: &Day,
    place: &ScratchDir,
    step: &mut Steps<'_>,
    outcome: &mut Outcome,
) -> Result<Option<Loaded>, Error> {
    let Some(record) = &day.manifest().database else { return Ok(None) };
    let context = step.context;
    step.begin(Phase::Scratch)?;
    let cluster = Cluster {
        major: record.server_version / 10_000,
        bin_dir: request.bin_dir.as_deref(),
        encoding: encoding(record),
        locale: None,
        connections: 3 * request.jobs + OTHER_CONNECTIONS,
    };
    let scratch = Scratch::start(place, &cluster, &context.cancel).await?;
    outcome.server = Some(scratch.programs().version.text.clone());

    step.begin(Phase::Load)?;
    let empty = scratch.empty();
    let wish = Wish {
        day: day.path(),
        manifest: day.manifest(),
        target: Target::Scratch { empty, tablespaces: empty.tablespaces() },
        bin_dir: request.bin_dir.clone(),
        databases: None,
        globals: true,
        jobs: request.jobs,
        tag: TAG,
    };
    match fill(&wish, context).await {
        Ok(survey) => outcome.notes.extend(survey.notices),
        Err(error) if room::is_full(place.path(), &error.to_string()) => {
            return Err(Error::Full { directory: request.directory.clone(), cause: error.to_string() });
        }
        Err(error) if is_of_the_day(&error, day) => {
            outcome.findings.push(format!("the databases cannot be restored: {error}"));
            scratch.stop().await;
            return Ok(None);
        }
        Err(error) => return Err(Error::Load(error)),
    }
    let live = Live::connect(scratch.server()).await?;
    Ok(Some(Loaded { scratch, live }))
}

/// The first databases of the scratch server have that of the day's own, so that nothing is to be made anew for it.
fn encoding(record: &DatabaseRecord) -> &str {
    let of = |name: &str| record.databases.iter().find(|entry| entry.name == name);
    of("template1").or_else(|| of("postgres")).map_or("UTF8", |entry| entry.encoding.as_str())
}

/// Whether a restore failed because of what the day holds, and not because of this machine.
fn is_of_the_day(error: &RestoreError, day: &Day) -> bool {
    match error {
        RestoreError::Records(_)
        | RestoreError::Damaged { .. }
        | RestoreError::DamagedRows { .. }
        | RestoreError::Count { .. }
        | RestoreError::Program { .. }
        | RestoreError::Encoding { .. }
        | RestoreError::Globals { .. } => true,
        // The server answers, and takes no statement of the day's.
        RestoreError::Postgres(error) => {
            matches!(&**error, crate::postgres::Error::Statement { code: Some(_), .. })
        }
        RestoreError::File(error) => is_in(day, &error.path),
        _ => false,
    }
}

/// Runs the cross-checks with the restored rows and the trees below `roots`.
pub(super) async fn cross_check(
    loaded: &Loaded,
    checks: &BTreeMap<String, Check>,
    roots: &Path,
    outcome: &mut Outcome,
    context: &Context,
) -> Result<(), Error> {
    for (name, check) in checks {
        let one = BTreeMap::from([(name.clone(), check.clone())]);
        let root_of = |tree: &str| roots.join(tree);
        match crosscheck::every_row_has_its_file(&one, &loaded.live, &root_of, context).await {
            Ok(records) => outcome.checks.extend(records),
            Err(crosscheck::Error::Cancelled) => return Err(Error::Cancelled),
            // What a query lacks, the day lacks: it was answered when the day was made.
            Err(error) => outcome.findings.push(error.to_string()),
        }
    }
    Ok(())
}

/// Compares all of the server with what was recorded.
pub(super) async fn compare(
    request: &Request,
    day: &Day,
    loaded: &Loaded,
    seals: Option<&[DatabaseSeal]>,
    outcome: &mut Outcome,
    context: &Context,
) -> Result<(), Error> {
    let Some(record) = &day.manifest().database else { return Ok(()) };
    let programs = crate::database::archive_programs(record, request.bin_dir.as_deref()).await?;
    let recorded = Recorded { day: day.path(), databases: &record.databases, seal: seals, only: None };
    let compared = crate::database::compare(&loaded.live, &recorded, &programs, request.jobs, context).await;
    match compared {
        Ok(comparison) => {
            outcome.findings.extend(comparison.differences.iter().map(ToString::to_string));
            outcome.comparison = Some(comparison);
            Ok(())
        }
        Err(CompareError::Records(error)) => {
            outcome.findings.push(error.to_string());
            Ok(())
        }
        Err(error) => {
            if !error.is_cancelled() {
                context.observer.warn(format!("what was restored cannot be compared: {error}"));
            }
            Err(error.into())
        }
    }
}

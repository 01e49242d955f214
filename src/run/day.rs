//! Filling the day after the release: the dump from the snapshots, and what is left of the trees.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::config::Repository;
use crate::database;
use crate::event::Context;
use crate::manifest::{CheckRecord, DatabaseRecord, FORMAT, Manifest, RecordWriter, TreeRecord};
use crate::run::Error;
use crate::run::freeze::{Frozen, blocking};
use crate::vault::DayWriter;

/// A day whose database and trees are complete, but not yet checked against each other.
pub(super) struct Filled {
    pub(super) snapshots: Option<database::Frozen>,
    pub(super) trees: BTreeMap<String, TreeRecord>,
    pub(super) database: Option<DatabaseRecord>,
    instant: Timestamp,
    hold: crate::manifest::HoldEvidence,
}

/// A day that is complete and cross-checked.
pub(super) struct Contents {
    filled: Filled,
    checks: Vec<CheckRecord>,
}

/// Dumps from the snapshots and finishes the trees, both at once.
pub(super) async fn fill(
    frozen: Frozen,
    repository: &Repository,
    writer: &DayWriter,
    context: &Context,
) -> Result<Filled, Error> {
    let Frozen { mut database, trees, instant, released } = frozen;
    let hold = released.evidence().clone();

    let records = writer.records();
    let finishing = {
        let (released, context) = (released.clone(), context.clone());
        let names: Vec<String> = repository.trees.keys().cloned().collect();
        blocking(move || -> Result<BTreeMap<String, TreeRecord>, Error> {
            let mut records = RecordWriter::create(&records)?;
            let mut finished = BTreeMap::new();
            for (name, tree) in names.into_iter().zip(trees) {
                finished.insert(name, tree.finish(released.as_ref(), &mut records, &context)?);
            }
            records.finish()?;
            Ok(finished)
        })
    };
    let dumping = async {
        let Some(frozen) = database.as_mut() else { return Ok(None) };
        let previous = writer.previous().map(|day| day.path().join("database"));
        let target = writer.database();
        let dump = frozen.dump(released.as_ref(), &target, previous.as_deref(), writer.is_base(), context);
        Ok::<_, Error>(Some(dump.await?))
    };
    let (trees, dumped) = tokio::try_join!(finishing, dumping)?;
    Ok(Filled { snapshots: database, trees, database: dumped, instant, hold })
}

impl Filled {
    pub(super) fn checked(self, checks: Vec<CheckRecord>) -> Contents {
        Contents { filled: self, checks }
    }
}

impl Contents {
    /// What the day will say of itself. The vault adds the digests when it seals.
    pub(super) fn into_manifest(
        self,
        repository: &Repository,
        writer: &DayWriter,
        run: u64,
        started: Timestamp,
        context: &Context,
    ) -> Manifest {
        let Self { filled, checks } = self;
        Manifest {
            format: FORMAT,
            made_by: format!("daykeep {}", env!("CARGO_PKG_VERSION")),
            repository: repository.name.clone(),
            day: String::new(),
            sequence: writer.sequence(),
            base: writer.is_base(),
            base_day: String::new(),
            run,
            started,
            sealed: context.clock.now(),
            freeze_point: filled.instant,
            hold: filled.hold,
            database: filled.database,
            trees: filled.trees,
            checks,
            digests: BTreeMap::new(),
            configuration: repository.as_toml.clone(),
        }
    }
}

//! After the release: everything goes from the snapshots to the day.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{FutureExt as _, try_join_all};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::Semaphore;

use super::catalog::{self, Shape, Table};
use super::copy::{self, Bench, ENCODING_KIB, Finder, Task};
use super::frozen::{Frozen, FrozenDatabase, back_to_savepoint};
use super::prepare::Report;
use super::progress::Progress;
use super::rest::{self, Rest};
use super::shelf::Shelf;
use super::toc::Contents;
use super::{DayBefore, Error, directory_name, globals, load, segments, session};
use crate::config;
use crate::event::{Context, Notices as _};
use crate::fs::{self, OnPath as _};
use crate::manifest::{
    DatabaseEntry, DatabaseRecord, DatabaseSeal, Rows, Segment, TableName, TableReader, TableRecord,
    TableSeal,
};
use crate::postgres::{Client, Programs};

/// What the databases of one dump share.
struct Site<'a> {
    config: &'a config::Database,
    report: &'a Report,
    programs: &'a Programs,
    target: &'a Path,
    previous: Option<DayBefore<'a>>,
    memory: Arc<Semaphore>,
    progress: Progress,
    context: &'a Context,
}

/// What a dump says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Dumped {
    /// For the day's manifest.
    pub record: DatabaseRecord,
    /// For its seal: what the server sent, database by database.
    pub seals: Vec<DatabaseSeal>,
}

/// One database's part.
struct Done {
    entry: DatabaseEntry,
    seal: DatabaseSeal,
    new_bytes: u64,
    all_bytes: u64,
}

/// See [`Frozen::dump`].
pub async fn dump(
    frozen: &mut Frozen,
    target: &Path,
    previous: Option<DayBefore<'_>>,
    context: &Context,
) -> Result<Dumped, Error> {
    remove_leftovers(target).await?;
    fs::create_dir_durable(target)?;
    let cancellers: Vec<_> = frozen
        .databases
        .iter()
        .flat_map(|database| database.workers.iter().chain([&database.keeper]))
        .map(Client::canceller)
        .collect();
    let outcome = tokio::select! {
        outcome = dump_all(frozen, target, previous, context) => outcome,
        () = context.cancel.cancelled() => Err(Error::Cancelled),
    };
    if outcome.is_err() {
        // A COPY that nobody reads would go on to its end.
        futures_util::future::join_all(cancellers.iter().map(crate::postgres::Canceller::cancel)).await;
    }
    outcome
}

async fn dump_all(
    frozen: &mut Frozen,
    target: &Path,
    previous: Option<DayBefore<'_>>,
    context: &Context,
) -> Result<Dumped, Error> {
    let globals_bytes = match frozen.globals.take() {
        None => 0,
        Some(mut running) => {
            let path = target.join("globals.sql");
            let pipe = running.take_stdout();
            globals::write_out(&mut running, &[], pipe, globals::GLOBALS, &path, &context.cancel).await?
        }
    };
    let forecast: u64 = frozen.databases.iter().map(|database| database.info.bytes).sum();
    let site = Site {
        config: &frozen.config,
        report: &frozen.report,
        programs: &frozen.programs,
        target,
        previous,
        memory: Arc::new(Semaphore::new(ENCODING_KIB)),
        progress: Progress::new(context.observer.clone(), forecast),
        context,
    };
    let mut done: Vec<Done> = Vec::with_capacity(frozen.databases.len());
    // A database with workers has all the connections that may copy; those without share them.
    let (large, small): (Vec<_>, Vec<_>) =
        frozen.databases.iter_mut().partition(|database| !database.workers.is_empty());
    for database in large {
        done.push(dump_database(database, &site).await?);
    }
    let small: Vec<_> = small.into_iter().map(|database| dump_database(database, &site).boxed()).collect();
    let mut small = stream::iter(small).buffer_unordered(site.config.jobs.max(1));
    while let Some(one) = small.try_next().await? {
        done.push(one);
    }
    drop(small);
    site.progress.finish();
    done.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
    let new_bytes = globals_bytes + done.iter().map(|done| done.new_bytes).sum::<u64>();
    let stored_bytes = globals_bytes + done.iter().map(|done| done.all_bytes).sum::<u64>();
    let (databases, seals) = done.into_iter().map(|done| (done.entry, done.seal)).unzip();
    let record = DatabaseRecord {
        server_version: frozen.report.server_version,
        server_version_text: frozen.report.server_version_text.clone(),
        pg_dump_version: frozen.report.pg_dump_version.clone(),
        wal_begin: frozen.wal_begin.clone(),
        wal_end: frozen.wal_end.clone(),
        system_identifier: frozen.report.system_identifier,
        new_bytes,
        stored_bytes,
        databases,
    };
    Ok(Dumped { record, seals })
}

async fn dump_database(database: &mut FrozenDatabase, site: &Site<'_>) -> Result<Done, Error> {
    let directory = directory_name(&database.info.name);
    let home = site.target.join(&directory);
    fs::create_dir_durable(&home.join("tables"))?;
    let rest = database.rest.take();
    let rest = match rest {
        Some(rest) => rest,
        None => Rest::start(&database.order(site.config, site.programs, site.config.lock_timeout))?,
    };
    let rest_path = home.join("rest.dump");
    let shared: &FrozenDatabase = database;
    let ((contents, rest_bytes), (records, shelf)) = tokio::try_join!(
        async {
            let bytes = rest.write(&rest_path, &site.context.cancel).await?;
            let contents =
                rest::contents(site.programs, &shared.info.name, &rest_path, &site.context.cancel).await?;
            Ok::<_, Error>((contents, bytes))
        },
        dump_rows(shared, site, &home),
    )?;
    let name = &database.info.name;
    let rest_tables = contents.check(name, &database.tables, &database.ours, site.report.standby)?;
    let list_bytes = write_lists(&home, &records, &database.info.encoding)?;
    // The snapshot of the workers is not needed any more; the keeper's proves here that it lasted.
    database.workers.clear();
    back_to_savepoint(&database.keeper).await?;
    let (new_bytes, all_bytes) = shelf.bytes();
    let entry = DatabaseEntry {
        name: name.clone(),
        directory,
        encoding: database.info.encoding.clone(),
        tables: records.len() as u64,
        rest_tables,
        rows: records.iter().map(|record| record.rows.count).sum(),
        row_bytes: records.iter().flat_map(|record| &record.segments).map(|segment| segment.bytes).sum(),
    };
    let beside = rest_bytes + list_bytes;
    let seal = seal(name, &records, &database.tables, &contents);
    Ok(Done { entry, seal, new_bytes: new_bytes + beside, all_bytes: all_bytes + beside })
}

/// What the server sent: the rows as they were summed on their way, and the names of the tables that pg_dump answers for.
fn seal(database: &str, records: &[TableRecord], tables: &[Table], contents: &Contents) -> DatabaseSeal {
    let ours: HashSet<u32> = records.iter().map(|record| record.oid).collect();
    let sent = |record: &TableRecord| TableSeal {
        schema: record.schema.clone(),
        name: record.name.clone(),
        rows: record.rows,
    };
    let rest = tables.iter().filter(|table| {
        !ours.contains(&table.oid)
            && (contents.tables.contains(&table.oid) || contents.data.contains(&table.oid))
    });
    DatabaseSeal {
        name: database.to_owned(),
        tables: records.iter().map(sent).collect(),
        rest_tables: rest
            .map(|table| TableName { schema: table.schema.clone(), name: table.name.clone() })
            .collect(),
    }
}

/// A table that is being copied: its segments are filled in as they come.
struct Copied {
    record: TableRecord,
    segments: Vec<Option<Segment>>,
}

/// One entry of the queue: which segment of which table.
struct Job {
    table: usize,
    segment: usize,
    task: Task,
}

async fn dump_rows(
    database: &FrozenDatabase,
    site: &Site<'_>,
    home: &Path,
) -> Result<(Vec<TableRecord>, Arc<Shelf>), Error> {
    let before = site.previous.and_then(|previous| Before::read(previous, &database.info.name, site.context));
    let before = before.map(Arc::new);
    back_to_savepoint(&database.keeper).await?;
    let (jobs, copied) = plan_jobs(database, site, before.as_deref()).await?;
    let shelf = Arc::new(Shelf::new(
        home.join("tables"),
        before.as_ref().map(|before| before.tables.clone()),
        site.previous.map(|previous| sealed(previous.digests, &database.info.name)).unwrap_or_default(),
        site.config.compression,
        site.context.observer.clone(),
    ));
    let bench = Bench { shelf: shelf.clone(), memory: site.memory.clone(), progress: site.progress.clone() };
    let find: Finder = Arc::new(move |digest| before.as_ref().and_then(|before| before.segment(digest)));
    let queue = Mutex::new(jobs);
    let copied = Mutex::new(copied);
    let clients = database.workers.iter().chain([&database.keeper]);
    try_join_all(clients.map(|client| work(client, &queue, &copied, &bench, &find).boxed())).await?;
    let copied = copied.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((copied.into_iter().map(Copied::finish).collect(), shelf))
}

impl Copied {
    fn finish(self) -> TableRecord {
        let segments: Vec<Segment> = self.segments.into_iter().flatten().collect();
        let rows = segments.iter().fold(Rows::default(), |rows, segment| rows.plus(segment.rows));
        TableRecord { rows, segments, ..self.record }
    }
}

/// One connection copies what is next, until nothing is left.
async fn work(
    client: &Client,
    queue: &Mutex<VecDeque<Job>>,
    copied: &Mutex<Vec<Copied>>,
    bench: &Bench,
    find: &Finder,
) -> Result<(), Error> {
    session::speak_server_encoding(client).await?;
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(job) = job else { return Ok(()) };
        let segment = copy::copy(client, &job.task, bench, find).await?;
        let mut copied = copied.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = copied.get_mut(job.table).and_then(|table| table.segments.get_mut(job.segment)) {
            *place = Some(segment);
        }
    }
}

/// Cuts every table that is ours into segments.
async fn plan_jobs(
    database: &FrozenDatabase,
    site: &Site<'_>,
    before: Option<&Before>,
) -> Result<(VecDeque<Job>, Vec<Copied>), Error> {
    let ours: Vec<&Table> = database.ours.iter().filter_map(|place| database.tables.get(*place)).collect();
    let oids: Vec<u32> = ours.iter().map(|table| table.oid).collect();
    let shapes = catalog::shapes(&database.keeper, &oids).await?;
    let mut jobs = VecDeque::new();
    let mut copied = Vec::with_capacity(ours.len());
    let mut expected = 0;
    for (place, (table, shape)) in ours.into_iter().zip(shapes).enumerate() {
        let yesterday = before.and_then(|before| before.table(table));
        expected +=
            yesterday.map_or(shape.bytes, |table| table.segments.iter().map(|segment| segment.bytes).sum());
        let cuts = cuts(&shape, yesterday, site.report.server_version);
        for (number, pages) in cuts.iter().enumerate() {
            let encoding = &database.info.encoding;
            let task = Task {
                number: jobs.len(),
                table: table.shown(),
                sql: load::copy_out(&table.schema, &table.name, &shape.columns, *pages, encoding),
                pages: *pages,
                near: yesterday.and_then(|table| segments::counterpart(table, *pages)).cloned(),
            };
            jobs.push_back(Job { table: place, segment: number, task });
        }
        let record = TableRecord {
            schema: table.schema.clone(),
            name: table.name.clone(),
            oid: table.oid,
            columns: shape.columns,
            rows: Rows::default(),
            segments: Vec::new(),
        };
        copied.push(Copied { record, segments: vec![None; cuts.len()] });
    }
    site.progress.refine(database.info.bytes, expected);
    Ok((jobs, copied))
}

fn cuts(shape: &Shape, yesterday: Option<&TableRecord>, server_version: u32) -> Vec<segments::Pages> {
    // Before 14 a range of pages would read the whole table each time; a row without columns has nothing to select.
    if server_version < 140_000 || shape.columns.is_empty() {
        return vec![(0, None)];
    }
    segments::plan(shape.pages, shape.bytes, yesterday.map_or(&[], |table| &table.segments))
}

type LineOf<'a> = dyn Fn(&TableRecord) -> serde_json::Result<Vec<u8>> + 'a;

/// `tables.jsonl` and `load.txt`; gives their bytes.
fn write_lists(home: &Path, records: &[TableRecord], encoding: &str) -> Result<u64, Error> {
    use std::io::Write as _;
    let mut bytes = 0;
    let lists: [(&str, &LineOf<'_>); 2] = [
        ("tables.jsonl", &|record| {
            let mut line = serde_json::to_vec(record)?;
            line.push(b'\n');
            Ok(line)
        }),
        ("load.txt", &|record| Ok(load::recipe(record, encoding).into_bytes())),
    ];
    for (name, line_of) in lists {
        let path = home.join(name);
        let mut file = std::io::BufWriter::new(fs::create_new(&path)?);
        for record in records {
            let line = line_of(record).map_err(std::io::Error::from).on("write", &path)?;
            file.write_all(&line).on("write", &path)?;
            bytes += line.len() as u64;
        }
        file.flush().on("write", &path)?;
    }
    Ok(bytes)
}

/// The digests of the files of a database's segments, by name.
fn sealed(digests: &BTreeMap<String, String>, database: &str) -> HashMap<String, String> {
    let tables = format!("database/{}/tables/", directory_name(database));
    let below = digests
        .range(tables.clone()..)
        .map_while(|(path, digest)| path.strip_prefix(&tables).map(|name| (name.to_owned(), digest.clone())));
    below.collect()
}

/// What the day before has of one database.
struct Before {
    tables: PathBuf,
    records: Vec<TableRecord>,
    by_oid: HashMap<u32, usize>,
    by_digest: HashMap<String, (usize, usize)>,
}

impl Before {
    /// None when that day does not have the database, or its list is damaged (which is told).
    fn read(previous: DayBefore<'_>, database: &str, context: &Context) -> Option<Self> {
        let directory = previous.directory.join(directory_name(database));
        let list = directory.join("tables.jsonl");
        if !fs::exists(&list).unwrap_or(false) {
            return None;
        }
        let records: Result<Vec<TableRecord>, _> =
            TableReader::open(&list).and_then(std::iter::Iterator::collect);
        let records = match records {
            Ok(records) => records,
            Err(error) => {
                context
                    .observer
                    .warn(format!("the day before cannot be built on, all rows are stored anew: {error}"));
                return None;
            }
        };
        let by_oid = records.iter().enumerate().map(|(place, record)| (record.oid, place)).collect();
        let mut by_digest = HashMap::new();
        for (place, record) in records.iter().enumerate() {
            for (number, segment) in record.segments.iter().enumerate() {
                by_digest.insert(segment.blake3.clone(), (place, number));
            }
        }
        Some(Self { tables: directory.join("tables"), records, by_oid, by_digest })
    }

    /// The same table, by OID; after a restore, by name.
    fn table(&self, table: &Table) -> Option<&TableRecord> {
        let same_oid = self.by_oid.get(&table.oid).and_then(|place| self.records.get(*place));
        same_oid.or_else(|| {
            self.records.iter().find(|record| record.schema == table.schema && record.name == table.name)
        })
    }

    fn segment(&self, digest: &str) -> Option<Segment> {
        let (place, number) = self.by_digest.get(digest)?;
        self.records.get(*place)?.segments.get(*number).cloned()
    }
}

/// Removes what a run that was killed left at the target.
async fn remove_leftovers(target: &Path) -> Result<(), Error> {
    if !fs::exists(target)? {
        return Ok(());
    }
    let owned = target.to_owned();
    let removal = tokio::task::spawn_blocking(move || fs::remove_tree(&owned, 1, &|_| true));
    removal.await.map_err(|_| Error::Thread { dbname: globals::GLOBALS.to_owned() })??;
    Ok(())
}

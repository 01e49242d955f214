//! The vault on real file systems: sealing, killing, racing, removing, full disks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests look at the disk and start processes past the doors")]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use daykeep::clock::FakeClock;
use daykeep::event::{Context, Event, Observer, Recording};
use daykeep::manifest::{
    CheckRecord, DatabaseEntry, DatabaseRecord, DatabaseSeal, FORMAT, FileKind, FileRecord, HoldEvidence,
    Manifest, PathBytes, RecordWriter, Rows, TableSeal, TreeRecord,
};
use daykeep::retention::{Candidate, Plan, Rules, plan};
use daykeep::vault::{
    Day, DayWriter, Difference, Error, Locked, Proof, ProofKind, ProofSeconds, Vault, diff,
};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

mod support;

const REPOSITORY: &str = "fossology";

fn start() -> Timestamp {
    "2026-11-01T01:00:00Z".parse().unwrap()
}

fn night(number: i64) -> Timestamp {
    start() + SignedDuration::from_hours(24 * number)
}

fn manifest(at: Timestamp) -> Manifest {
    Manifest {
        format: FORMAT,
        made_by: "daykeep test".into(),
        repository: String::new(),
        day: String::new(),
        sequence: 0,
        base: false,
        base_day: String::new(),
        run: 0,
        started: at,
        sealed: at,
        freeze_point: at,
        hold: HoldEvidence {
            adapter: "none".into(),
            paused_by_us: true,
            paused_at: at,
            idle_at: at,
            released_at: Some(at),
            held_seconds: 0.5,
            proofs: vec!["seen".into()],
        },
        database: None,
        trees: [("gold".to_owned(), tree_record())].into(),
        checks: Vec::new(),
        unfinished_jobs: None,
        to_unpack: None,
        digests: [("forged".to_owned(), "0".to_owned())].into(),
        configuration: String::new(),
    }
}

fn tree_record() -> TreeRecord {
    TreeRecord {
        source: "/srv/gold".into(),
        entries: 1,
        files: 1,
        bytes: 1,
        copied_files: 1,
        copied_bytes: 1,
        linked_files: 0,
        fence: "walk".into(),
        fence_ms: 1,
    }
}

fn record(path: &str, size: u64) -> FileRecord {
    FileRecord {
        tree: "gold".into(),
        path: PathBytes(path.as_bytes().to_vec()),
        kind: FileKind::File,
        size,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: (1, 2),
        ctime: (3, 4),
        ino: 5,
        blake3: Some(blake3::hash(&size.to_le_bytes()).to_hex().to_string()),
        target: None,
        link_group: None,
        device: None,
        xattrs: std::collections::BTreeMap::default(),
    }
}

/// What a run puts into a day: linked where the day before has it, anew in a base.
fn fill(writer: &DayWriter, records: &[FileRecord]) {
    let gold = writer.trees().join("gold");
    fs::create_dir_all(&gold).unwrap();
    let before = writer.previous().filter(|_| !writer.is_base());
    for (file, old) in [
        (gold.join("same"), before.map(|day| day.trees().join("gold/same"))),
        (writer.database().join("segment.zst"), before.map(|day| day.database().join("segment.zst"))),
    ] {
        let _ = fs::remove_file(&file);
        match old {
            Some(old) => fs::hard_link(old, file).unwrap(),
            None => fs::write(file, "the same").unwrap(),
        }
    }
    fs::write(gold.join("new"), writer.sequence().to_string()).unwrap();
    fs::write(writer.database().join("globals.sql"), format!("-- {}\n", writer.sequence())).unwrap();
    let mut lines = RecordWriter::create(&writer.records()).unwrap();
    for record in records {
        lines.write(record).unwrap();
    }
    lines.finish().unwrap();
}

fn go_on() -> CancellationToken {
    CancellationToken::new()
}

fn keep(locked: &Locked, at: Timestamp) -> Day {
    let writer = locked.begin(7, None, at, &go_on()).unwrap();
    fill(&writer, &[]);
    writer.seal(manifest(at), Vec::new()).unwrap()
}

/// Everything that the manifest says of the day's own files is so, and nothing else is there.
fn assert_whole(day: &Day) {
    for (name, digest) in &day.manifest().digests {
        let bytes = fs::read(day.path().join(name)).unwrap();
        assert_eq!(*digest, blake3::hash(&bytes).to_hex().to_string(), "{name}");
    }
    for name in
        ["database/globals.sql", "database/segment.zst", "files.jsonl.zst", "RESTORE.md", "restore.sh"]
    {
        assert!(day.manifest().digests.contains_key(name), "{name}: {:?}", day.manifest().digests);
    }
    assert!(!day.manifest().digests.contains_key("forged"));
    assert!(day.trees().join("gold/new").exists());
}

fn links(vault: &Vault) -> Vec<(String, String)> {
    let mut links: Vec<_> = fs::read_dir(vault.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_symlink())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_link(&path).unwrap().to_string_lossy().into_owned())
        })
        .collect();
    links.sort();
    links
}

fn assert_links_agree(vault: &Vault, now: Timestamp) {
    let good = vault.days(now).unwrap().good;
    let mut wanted: Vec<_> = good
        .iter()
        .rev()
        .enumerate()
        .map(|(back, day)| {
            let name = if back == 0 { "current".to_owned() } else { format!("day{back}") };
            (name, format!("days/{}", day.name()))
        })
        .collect();
    wanted.sort();
    assert_eq!(links(vault), wanted);
}

fn context(now: Timestamp) -> (Context, Arc<Recording>) {
    let (context, heard) = support::context::recorded();
    (Context { clock: Arc::new(FakeClock::at(now)), ..context }, heard)
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// In memory, where flushing costs nothing: for what is about processes and not about disks.
    fn quick() -> Self {
        tempfile::tempdir_in("/dev/shm").map_or_else(|_| Self::new(), |dir| Self { dir })
    }

    fn vault(&self) -> Vault {
        Vault::create(self.dir.path(), REPOSITORY).unwrap()
    }

    fn lock(&self) -> Locked {
        self.vault().lock("a test", start()).unwrap()
    }
}

#[test]
fn a_sealed_day_is_described_named_and_linked() {
    let place = Place::new();
    let locked = place.lock();
    let writer = locked.begin(7, None, night(0), &go_on()).unwrap();
    assert!(writer.previous().is_none() && writer.is_base() && !writer.picked_up());
    assert_eq!((writer.sequence(), writer.path().to_owned()), (1, locked.days_path().join(".building")));
    fill(&writer, &[]);
    let first = writer.seal(manifest(night(0)), Vec::new()).unwrap();
    assert_eq!(first.name(), "2026-11-01T010000Z");
    assert_eq!(first.manifest().base_day, first.name());
    assert_whole(&first);

    let writer = locked.begin(8, None, night(1), &go_on()).unwrap();
    assert_eq!(writer.previous().unwrap(), &first);
    assert!(!writer.is_base());
    fill(&writer, &[]);
    let second = writer.seal(manifest(night(1)), Vec::new()).unwrap();
    assert_whole(&second);
    let said = second.manifest();
    assert_eq!((said.sequence, said.run, said.base, said.base_day.as_str()), (2, 8, false, first.name()));
    assert_eq!(said.repository, REPOSITORY);
    let guide = fs::read_to_string(second.path().join("RESTORE.md")).unwrap();
    assert!(guide.starts_with("# Restoring fossology to 2026-11-02T010000Z\n"), "{guide}");
    assert!(guide.contains("2026-11-02T01:00:00Z") && !guide.contains("{{"));
    let help = Command::new(second.path().join("restore.sh")).arg("--help").output().unwrap();
    assert!(help.status.success() && help.stdout.starts_with(b"usage: ./restore.sh"));
    assert_eq!(fs::metadata(second.path()).unwrap().permissions().mode() & 0o7777, 0o550);

    let days = locked.days(night(1)).unwrap();
    assert_eq!(days.good, [first, second]);
    assert_eq!(days.quarantined, []);
    assert_links_agree(&locked, night(1));
    assert!(!locked.days_path().join(".building").exists());
}

#[test]
fn a_seal_record_lies_beside_the_days_and_its_digests_can_be_checked_by_hand() {
    let place = Place::new();
    let locked = place.lock();
    let writer = locked.begin(7, None, night(0), &go_on()).unwrap();
    fill(&writer, &[]);
    let rows = Rows { count: 3, digest: 7 };
    let table = TableSeal { schema: "public".into(), name: "t".into(), rows };
    let database = DatabaseSeal { name: "shop".into(), tables: vec![table], rest_tables: Vec::new() };
    let day = writer.seal(manifest(night(0)), vec![database.clone()]).unwrap();
    let said = locked.seal_of(day.name()).unwrap().unwrap();
    assert_eq!((said.day.as_str(), said.repository.as_str()), (day.name(), REPOSITORY));
    assert_eq!(said.databases, [database]);
    assert_eq!((said.trees["gold"].files, said.trees["gold"].entries), (1, 1));
    let text = fs::read(day.path().join("manifest.json")).unwrap();
    let digest = blake3::hash(&text).to_hex().to_string();
    assert_eq!(said.manifest, digest);
    let line = fs::read_to_string(day.path().join("manifest.blake3")).unwrap();
    assert_eq!(line, format!("{digest}  manifest.json\n"));
    assert!(!day.manifest().digests.contains_key("manifest.blake3"));
    assert_eq!(locked.seal_of("2026-11-09T010000Z").unwrap(), None, "an older day has none");

    fs::write(locked.seal_path("2026-11-09T010000Z"), fs::read(locked.seal_path(day.name())).unwrap())
        .unwrap();
    let error = locked.seal_of("2026-11-09T010000Z").unwrap_err().to_string();
    assert!(
        error.ends_with(
            "seals/2026-11-09T010000Z.json is damaged: it is that of the day 2026-11-01T010000Z of fossology"
        ),
        "{error}"
    );

    let mut flipped = fs::read(locked.seal_path(day.name())).unwrap();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    fs::write(locked.seal_path(day.name()), &flipped).unwrap();
    let error = locked.seal_of(day.name()).unwrap_err().to_string();
    assert!(error.ends_with(".json is damaged: it does not have the digest in its last line"), "{error}");

    let changed = String::from_utf8(text).unwrap().replace("daykeep test", "daykeep tesu");
    fs::set_permissions(day.path(), fs::Permissions::from_mode(0o750)).unwrap();
    fs::write(day.path().join("manifest.json"), &changed).unwrap();
    let quarantined = locked.days(night(1)).unwrap().quarantined;
    assert_eq!(
        quarantined[0].reason,
        "its manifest.json does not have the digest in manifest.blake3: one of them is damaged"
    );
    fs::remove_file(day.path().join("manifest.blake3")).unwrap();
    assert_eq!(
        locked.days(night(1)).unwrap().good.len(),
        1,
        "a day made before there were such files is good"
    );
}

#[test]
fn a_pinned_day_stays_and_what_is_recorded_of_a_day_goes_with_it() {
    let place = Place::new();
    let locked = place.lock();
    let days: Vec<Day> = (0..4).map(|number| keep(&locked, night(number))).collect();
    let (context, heard) = context(night(4));
    for day in &days {
        locked.add_proof(day.name(), proof(night(4))).unwrap();
        locked.add_proof(day.name(), proof(night(5))).unwrap();
    }
    assert_eq!(locked.proofs(days[0].name()).unwrap(), [proof(night(4)), proof(night(5))]);
    assert_eq!(locked.proven(days[0].name()).unwrap(), Some(proof(night(5))));

    let pins = (days[1].pin().unwrap(), days[1].pin().unwrap());
    let plan = remove_only(&days, &[days[0].name(), days[1].name()]);
    assert_eq!(locked.prune(&plan, &context).unwrap(), [days[0].name()]);
    assert_eq!(locked.days(night(4)).unwrap().good, days[1..]);
    assert_links_agree(&locked, night(4));
    let told = "the day 2026-11-02T010000Z is in use and stays for now";
    assert!(heard.events().iter().any(|event| matches!(event, Event::Notice { text, .. } if text == told)));
    let record =
        |directory: &str, day: &Day| locked.path().join(directory).join(format!("{}.json", day.name()));
    for directory in ["seals", "proofs"] {
        assert!(!record(directory, &days[0]).exists() && record(directory, &days[1]).exists());
    }
    let error = days[0].pin().unwrap_err();
    assert!(matches!(error, Error::File(_)), "{error}");

    drop(pins);
    // Killed after the rename: the next one finishes it, records first.
    let aside = locked.days_path().join(format!(".removing-{}", days[1].name()));
    fs::rename(days[1].path(), &aside).unwrap();
    let error = days[1].pin().unwrap_err();
    assert!(matches!(error, Error::File(_)), "{error}");
    // One that lay there already: its number is no day's.
    fs::create_dir(locked.days_path().join(format!(".removing-{}-2", days[2].name()))).unwrap();
    locked.sweep(&context).unwrap();
    for directory in ["seals", "proofs"] {
        assert!(!record(directory, &days[1]).exists() && record(directory, &days[2]).exists());
    }
}

#[test]
fn the_newest_proven_day_stays_until_a_newer_one_is_proven() {
    let place = Place::new();
    let locked = place.lock();
    let days: Vec<Day> = (0..5).map(|number| keep(&locked, night(number))).collect();
    let rules = Rules { last: 1, ..Rules::default() };
    let removed = || -> Vec<String> {
        let plan = locked.plan_prune(&rules, &TimeZone::UTC, night(5)).unwrap();
        plan.removed().map(ToOwned::to_owned).collect()
    };
    let names = |numbers: &[usize]| -> Vec<String> {
        numbers.iter().map(|number| days[*number].name().to_owned()).collect()
    };
    assert_eq!(removed(), names(&[0, 1, 2, 3]));
    locked.add_proof(days[0].name(), proof(night(5))).unwrap();
    locked.add_proof(days[1].name(), proof(night(5))).unwrap();
    assert_eq!(removed(), names(&[0, 2, 3]));
    let plan = locked.plan_prune(&rules, &TimeZone::UTC, night(5)).unwrap();
    let spared = plan.decisions.iter().find(|decision| decision.name == days[1].name()).unwrap();
    assert_eq!(spared.reasons, ["the newest proven day always stays"]);
    locked.add_proof(days[3].name(), Proof { ok: false, ..proof(night(5)) }).unwrap();
    assert_eq!(removed(), names(&[0, 2, 3]), "a drill that failed proves nothing");
    locked.add_proof(days[4].name(), proof(night(5))).unwrap();
    assert_eq!(removed(), names(&[0, 1, 2, 3]));
}

fn proof(at: Timestamp) -> Proof {
    let seconds = ProofSeconds { database: 1.0, trees: 2.0, total: 3.5 };
    let (kind, by) = (ProofKind::Drill, "daykeep test".to_owned());
    Proof { at, kind, ok: true, sampled: None, seconds, damages: 0, first: Vec::new(), by }
}

#[test]
fn a_linked_file_is_not_read_again_for_its_digest_and_a_changed_one_is() {
    let place = Place::new();
    let locked = place.lock();
    let first = keep(&locked, night(0));
    // Rot that the digest must not hide: the linked inode is known by yesterday's digest, which verification compares.
    fs::write(first.database().join("segment.zst"), "rotten").unwrap();
    let second = keep(&locked, night(1));
    let digest = |day: &Day, name: &str| day.manifest().digests[name].clone();
    assert_eq!(digest(&first, "database/segment.zst"), digest(&second, "database/segment.zst"));
    assert_ne!(digest(&first, "database/globals.sql"), digest(&second, "database/globals.sql"));
}

#[test]
fn two_days_of_one_second_have_two_names_in_order() {
    let place = Place::new();
    let locked = place.lock();
    let names: Vec<String> = (0..9).map(|_| keep(&locked, night(0)).name().to_owned()).collect();
    assert_eq!(names[1], "2026-11-01T010000Z-2");
    assert!(names.is_sorted());
    let listed: Vec<u64> =
        locked.days(night(0)).unwrap().good.iter().map(|day| day.manifest().sequence).collect();
    assert_eq!(listed, (1..=9).collect::<Vec<_>>());
    let writer = locked.begin(1, None, night(0), &go_on()).unwrap();
    fill(&writer, &[]);
    let error = writer.seal(manifest(night(0)), Vec::new()).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot name the day: ") && error.ends_with(" and the names after it are taken")
    );
}

#[test]
fn an_interrupted_day_is_picked_up_with_its_trees_alone() {
    let place = Place::new();
    let locked = place.lock();
    keep(&locked, night(0));
    let writer = locked.begin(2, None, night(1), &go_on()).unwrap();
    fill(&writer, &[]);
    let copied = fs::metadata(writer.trees().join("gold/new")).unwrap().ino();
    // Killed after the manifest, before the rename.
    fs::write(writer.path().join("manifest.json"), serde_json::to_vec(&manifest(night(1))).unwrap()).unwrap();
    fs::set_permissions(writer.path(), fs::Permissions::from_mode(0o550)).unwrap();
    writer.abandon();
    assert_eq!(locked.days(night(1)).unwrap().good.len(), 1, "a manifest alone makes no day");

    let writer = locked.begin(3, None, night(2), &go_on()).unwrap();
    assert!(writer.picked_up());
    assert_eq!(writer.sequence(), 2);
    assert_eq!(fs::metadata(writer.trees().join("gold/new")).unwrap().ino(), copied);
    let mut left: Vec<_> =
        fs::read_dir(writer.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["database", "trees"]);
    assert_eq!(fs::read_dir(writer.database()).unwrap().count(), 0);
    fill(&writer, &[]);
    assert_whole(&writer.seal(manifest(night(2)), Vec::new()).unwrap());
}

#[test]
fn what_was_built_from_another_day_is_not_picked_up() {
    let place = Place::new();
    let locked = place.lock();
    let writer = locked.begin(1, None, night(0), &go_on()).unwrap();
    fill(&writer, &[]);
    writer.abandon();
    fs::remove_file(locked.days_path().join(".building.json")).unwrap();
    let writer = locked.begin(2, None, night(0), &go_on()).unwrap();
    assert!(!writer.picked_up(), "nobody knows what it was built from");
    assert!(!writer.trees().join("gold").exists());
    fill(&writer, &[]);
    let first = writer.seal(manifest(night(0)), Vec::new()).unwrap();

    let writer = locked.begin(3, None, night(1), &go_on()).unwrap();
    fill(&writer, &[]);
    writer.abandon();
    fs::rename(first.path(), locked.path().join("elsewhere")).unwrap();
    let writer = locked.begin(4, None, night(1), &go_on()).unwrap();
    assert!(!writer.picked_up() && writer.is_base());
    assert!(!writer.trees().join("gold").exists(), "a base must share no inode");
    assert_eq!(
        fs::read_dir(locked.days_path()).unwrap().count(),
        2,
        "only .building and .building.json are there"
    );
}

#[test]
fn a_new_base_begins_a_chain_and_shares_nothing() {
    let place = Place::new();
    let locked = place.lock();
    let mut bases = Vec::new();
    for number in 0..7 {
        // A run that begins some minutes early or late makes no odds.
        let at = night(number) + SignedDuration::from_mins((number % 3) * 20 - 20);
        let writer = locked.begin(1, Some(3), at, &go_on()).unwrap();
        fill(&writer, &[]);
        let day = writer.seal(manifest(at), Vec::new()).unwrap();
        bases.push((day.manifest().base, day.manifest().base_day == day.name()));
    }
    let expected = [true, false, false, true, false, false, true];
    assert_eq!(bases, expected.map(|base| (base, base)));
    let good = locked.days(night(7)).unwrap().good;
    let inode = |day: &Day| fs::metadata(day.trees().join("gold/same")).unwrap().ino();
    let inodes: Vec<u64> = good.iter().map(inode).collect();
    assert!(inodes[0] == inodes[2] && inodes[2] != inodes[3] && inodes[5] != inodes[6]);

    // An interrupted base stays one, and an interrupted link of the chain is no beginning of one.
    locked.begin(1, Some(1), night(8), &go_on()).unwrap().abandon();
    let writer = locked.begin(1, Some(30), night(8), &go_on()).unwrap();
    assert!(writer.is_base() && writer.picked_up());
    fill(&writer, &[]);
    writer.seal(manifest(night(8)), Vec::new()).unwrap();
    locked.begin(1, Some(30), night(9), &go_on()).unwrap().abandon();
    let writer = locked.begin(1, Some(1), night(9), &go_on()).unwrap();
    assert!(writer.is_base() && !writer.picked_up());
}

#[test]
fn what_does_not_hang_together_is_not_sealed() {
    let place = Place::new();
    let locked = place.lock();
    let seal = |damage: &dyn Fn(&DayWriter, &mut Manifest)| {
        let writer = locked.begin(1, None, night(0), &go_on()).unwrap();
        fill(&writer, &[]);
        let mut manifest = manifest(night(0));
        damage(&writer, &mut manifest);
        let error = writer.seal(manifest, Vec::new()).unwrap_err().to_string();
        assert!(locked.days(night(0)).unwrap().good.is_empty());
        error.rsplit_once(".building: ").unwrap().1.to_owned()
    };
    let error = seal(&|_, said| _ = said.trees.insert("silver".into(), tree_record()));
    assert_eq!(error, "the tree silver is not there");
    let error = seal(&|writer, _| fs::remove_file(writer.records()).unwrap());
    assert_eq!(error, "it has trees but no records of their files");
    let check = CheckRecord { name: "pfile".into(), rows: 9, missing: 2, allowed: 1 };
    let error = seal(&|_, said| said.checks.push(check.clone()));
    assert_eq!(error, "the cross-check pfile misses 2 files");
    let error = seal(&|writer, _| symlink("x", writer.database().join("odd")).unwrap());
    assert!(error.ends_with("database/odd is neither a file nor a directory"), "{error}");
}

#[test]
fn what_is_not_whole_is_quarantined_with_its_reason() {
    let place = Place::new();
    let locked = place.lock();
    let now = night(3);
    let good = keep(&locked, night(0));
    let spoil = |name: &str, change: &dyn Fn(&mut serde_json::Value)| {
        let path = locked.days_path().join(name);
        fs::create_dir(&path).unwrap();
        let mut said = serde_json::to_value(good.manifest()).unwrap();
        said["day"] = name.into();
        said["sequence"] = 50.into();
        change(&mut said);
        fs::write(path.join("manifest.json"), serde_json::to_vec(&said).unwrap()).unwrap();
    };
    spoil("2026-11-02T010000Z", &|said| said["freeze_point"] = "2026-11-03T01:00:00Z".into());
    spoil("2026-11-03T010000Z", &|said| said["day"] = "2026-11-01T010000Z".into());
    spoil("2026-11-03T020000Z", &|said| {
        said["freeze_point"] = "2026-11-03T02:00:00Z".into();
        said["repository"] = "other".into();
    });
    spoil("2026-11-03T030000Z", &|said| *said = serde_json::json!({"format": 2, "new": "form"}));
    spoil("2026-11-03T040000Z", &|said| *said = serde_json::json!({"format": 1}));
    spoil("2031-11-03T010000Z", &|said| said["freeze_point"] = "2031-11-03T01:00:00Z".into());
    fs::create_dir(locked.days_path().join("lost+found")).unwrap();
    fs::create_dir(locked.days_path().join("2026-11-03T050000Z")).unwrap();

    let days = locked.days(now).unwrap();
    assert_eq!(days.good, [good]);
    let told: Vec<_> = days.quarantined.iter().map(|day| (day.name.as_str(), day.reason.as_str())).collect();
    assert_eq!(
        told,
        [
            ("2026-11-02T010000Z", "its name does not fit its freeze point, 2026-11-03T01:00:00Z"),
            ("2026-11-03T010000Z", "its manifest.json is that of the day 2026-11-01T010000Z"),
            ("2026-11-03T020000Z", "it is a day of the repository other"),
            ("2026-11-03T030000Z", "it has format 2, and this daykeep reads format 1"),
            (
                "2026-11-03T040000Z",
                "its manifest.json is damaged: missing field `made_by` at line 1 column 12"
            ),
            ("2026-11-03T050000Z", "it has no manifest.json"),
            (
                "2031-11-03T010000Z",
                "it is dated in the future: the clock says 2026-11-04T01:00:00Z; it or the day is wrong"
            ),
            ("lost+found", "its name is not that of a day"),
        ]
    );
    let writer = locked.begin(1, None, now, &go_on()).unwrap();
    assert_eq!(writer.sequence(), 51, "above the numbers of all that can be read");
    assert_eq!(writer.previous().unwrap().name(), "2026-11-01T010000Z");
    assert_links_agree(&locked, now);
    let error = locked.choose("lost+found", now).unwrap_err().to_string();
    assert_eq!(error, "the day lost+found is not used: its name is not that of a day");
}

#[test]
fn a_manifest_that_is_no_file_or_has_no_end_is_not_read() {
    let place = Place::new();
    let locked = place.lock();
    let good = keep(&locked, night(0));
    let day = |name: &str| {
        let path = locked.days_path().join(name);
        fs::create_dir(&path).unwrap();
        path.join("manifest.json")
    };
    nix::unistd::mkfifo(&day("2026-11-03T010000Z"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    symlink("/dev/zero", day("2026-11-03T020000Z")).unwrap();
    let long = fs::File::create(day("2026-11-03T030000Z")).unwrap();
    long.set_len(1 << 40).unwrap();

    let days = locked.days(night(3)).unwrap();
    assert_eq!(days.good, [good]);
    let told: Vec<_> = days.quarantined.iter().filter_map(|day| day.reason.split_once(": ")).collect();
    assert!(told.iter().all(|(what, _)| what.starts_with("cannot read ")), "{told:?}");
    let why: Vec<_> = told.iter().map(|(_, why)| *why).collect();
    assert_eq!(
        why,
        [
            "it is no regular file",
            "it is no regular file",
            "it has 1099511627776 bytes, and no such file has more than 536870912"
        ]
    );
    // Its records outside are read with the same care.
    let seal = locked.seal_path("2026-11-01T010000Z");
    fs::remove_file(&seal).unwrap();
    nix::unistd::mkfifo(&seal, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(locked.seal_of("2026-11-01T010000Z").is_err());
}

#[test]
fn words_choose_days() {
    let place = Place::new();
    let locked = place.lock();
    for number in [0, 1, 2, 9] {
        keep(&locked, night(number));
    }
    keep(&locked, night(2) + SignedDuration::from_hours(22));
    let now = night(10);
    let choose = |which: &str| locked.choose(which, now).unwrap().name().to_owned();
    assert_eq!(choose("latest"), "2026-11-10T010000Z");
    assert_eq!(choose("current"), "2026-11-10T010000Z");
    assert_eq!(choose("day1"), "2026-11-03T230000Z");
    assert_eq!(choose("2026-11-03"), "2026-11-03T230000Z");
    assert_eq!(choose("2026-11-03T010000Z"), "2026-11-03T010000Z");
    let refuse = |which: &str| match locked.choose(which, now).unwrap_err() {
        Error::NoSuchDay { wanted, near, .. } if wanted == which => near,
        error => panic!("{error}"),
    };
    assert_eq!(refuse("2026-11-09"), ["2026-11-10T010000Z", "2026-11-03T230000Z", "2026-11-03T010000Z"]);
    assert_eq!(refuse("2026-11-01T010001Z")[0], "2026-11-01T010000Z");
    assert_eq!(refuse("2026-11-02T010000")[0], "2026-11-02T010000Z");
    assert_eq!([refuse("day5"), refuse("yesterday")], [[""; 0]; 2]);
    let error = locked.choose("2026-10-01", now).unwrap_err().to_string();
    assert!(error.starts_with("there is no day 2026-10-01 in "), "{error}");
    assert!(error.ends_with("; the nearest are 2026-11-01T010000Z, 2026-11-02T010000Z, 2026-11-03T010000Z"));
}

#[test]
fn a_missing_vault_is_told() {
    let place = Place::new();
    let error = Vault::open(place.dir.path(), "nothing").unwrap_err().to_string();
    assert!(error.ends_with("nothing: is the disk mounted, and has a run been made?"), "{error}");
    let error = Vault::create(&place.dir.path().join("mnt"), REPOSITORY).unwrap_err().to_string();
    assert!(error.ends_with("mnt is not there: mount the disk or create it"), "{error}");
    assert!(!place.dir.path().join("mnt").exists());
}

#[test]
fn the_probe_tells_what_the_disk_can_do_and_leaves_nothing() {
    let place = Place::new();
    let vault = place.vault();
    let probe = vault.probe().unwrap();
    assert!(probe.hard_links && probe.nanosecond_times);
    assert!(probe.free_bytes > 0 && probe.total_bytes >= probe.free_bytes, "{probe:?}");
    let names: Vec<_> = fs::read_dir(vault.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["days"]);
}

// Removal.

fn remove_only(days: &[Day], names: &[&str]) -> Plan {
    let candidates: Vec<Candidate> = days
        .iter()
        .map(|day| Candidate {
            name: day.name().to_owned(),
            freeze_point: day.manifest().freeze_point,
            sequence: day.manifest().sequence,
        })
        .collect();
    let mut plan = plan(&Rules { last: u32::MAX, ..Rules::default() }, &candidates, &TimeZone::UTC);
    for decision in &mut plan.decisions {
        decision.keep = !names.contains(&decision.name.as_str());
    }
    plan
}

#[test]
fn pruning_removes_what_the_plan_says_and_never_the_newest() {
    let place = Place::new();
    let locked = place.lock();
    let days: Vec<Day> = (0..5).map(|number| keep(&locked, night(number))).collect();
    let (context, heard) = context(night(5));
    let rules = Rules { last: 3, ..Rules::default() };
    let plan = locked.plan_prune(&rules, &TimeZone::UTC, night(5)).unwrap();
    assert_eq!(locked.prune(&plan, &context).unwrap(), [days[0].name(), days[1].name()]);
    let left = locked.days(night(5)).unwrap();
    assert_eq!(left.good, days[2..]);
    assert_links_agree(&locked, night(5));
    left.good.iter().for_each(assert_whole);
    let said = heard.events().iter().any(
        |event| matches!(event, Event::Notice { text, .. } if text == "removing the day 2026-11-01T010000Z"),
    );
    assert!(said);

    let all: Vec<&str> = days.iter().map(Day::name).collect();
    let plan = remove_only(&days, &all);
    assert_eq!(locked.prune(&plan, &context).unwrap(), [days[2].name(), days[3].name()]);
    assert_eq!(locked.days(night(5)).unwrap().good, days[4..]);
    assert_links_agree(&locked, night(5));
}

#[test]
fn nothing_is_removed_by_a_clock_that_jumped() {
    let place = Place::new();
    let locked = place.lock();
    let days: Vec<Day> = (0..5).map(|number| keep(&locked, night(number))).collect();
    let rules = Rules { last: 1, ..Rules::default() };
    let plan = locked.plan_prune(&rules, &TimeZone::UTC, night(2)).unwrap();
    assert_eq!(plan.removed().count(), 0);
    assert_eq!(
        plan.refused.unwrap(),
        "the day 2026-11-04T010000Z is dated in the future: set the clock right, or remove that day by hand if its date \
         is wrong"
    );
    let before = links(&locked);
    locked.mend_links(night(-40)).unwrap();
    assert_eq!(links(&locked), before, "no clock takes the links away");
    // A run by a clock that went back: its day is not the newest by date.
    let wrong = night(-40);
    let made = keep(&locked, wrong);
    assert_eq!(made.manifest().sequence, 6);
    assert_eq!(locked.plan_prune(&rules, &TimeZone::UTC, wrong).unwrap().removed().count(), 0);
    let plan = locked.plan_prune(&rules, &TimeZone::UTC, night(5)).unwrap();
    assert_eq!(plan.removed().count(), 0);
    assert!(plan.refused.unwrap().contains("was made after 2026-11-05T010000Z but is dated before it"));
    // The clock is right again, and the next day is the newest in every way.
    keep(&locked, night(5));
    let plan = locked.plan_prune(&rules, &TimeZone::UTC, night(5)).unwrap();
    assert_eq!(plan.removed().count(), days.len() + 1);
}

/// Cancels as soon as something moves.
struct Cord(CancellationToken);

impl Observer for Cord {
    fn observe(&self, event: &Event) {
        if matches!(event, Event::Progress { .. }) {
            self.0.cancel();
        }
    }
}

#[test]
fn an_interrupted_removal_is_finished_by_the_next_run() {
    let place = Place::new();
    let locked = place.lock();
    let days: Vec<Day> = (0..3).map(|number| keep(&locked, night(number))).collect();
    let many = days[0].trees().join("gold");
    (0..600).for_each(|n| fs::write(many.join(n.to_string()), "x").unwrap());
    let (context, _) = context(night(3));
    let plan = remove_only(&days, &[days[0].name()]);
    // Cancelled while it unlinks.
    let cord = Context { observer: Arc::new(Cord(context.cancel.clone())), ..context };
    let error = locked.prune(&plan, &cord).unwrap_err();
    assert!(error.is_cancelled());
    assert_eq!(error.to_string(), "the removal of days was cancelled; the next run finishes it");
    let aside = locked.days_path().join(".removing-2026-11-01T010000Z");
    assert!(aside.exists());
    assert_eq!(locked.days(night(3)).unwrap().good, days[1..]);
    assert_eq!(locked.days(night(3)).unwrap().quarantined, []);
    assert_links_agree(&locked, night(3));
    locked.begin(9, None, night(3), &go_on()).unwrap();
    assert!(!aside.exists());
}

#[test]
fn a_cancelled_run_does_not_wait_for_what_is_removed_first() {
    let place = Place::new();
    let locked = place.lock();
    let aside = locked.days_path().join(".removing-2026-10-01T010000Z");
    fs::create_dir(&aside).unwrap();
    let (cancelled, before) = (go_on(), links(&locked));
    cancelled.cancel();
    let error = locked.begin(1, None, night(0), &cancelled).unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    assert!(aside.exists());
    assert_eq!(links(&locked), before);
    locked.begin(1, None, night(0), &go_on()).unwrap();
    assert!(!aside.exists());
}

#[test]
fn a_tree_that_is_not_configured_any_more_is_not_sealed() {
    let place = Place::new();
    let locked = place.lock();
    let writer = locked.begin(1, None, night(0), &go_on()).unwrap();
    for stray in ["old", ".old.work"] {
        fs::create_dir(writer.trees().join(stray)).unwrap();
        fs::write(writer.trees().join(stray).join("file"), "x").unwrap();
    }
    writer.abandon();
    let writer = locked.begin(2, None, night(0), &go_on()).unwrap();
    assert!(writer.picked_up());
    fill(&writer, &[]);
    let day = writer.seal(manifest(night(0)), Vec::new()).unwrap();
    let trees: Vec<_> = fs::read_dir(day.trees()).unwrap().map(|name| name.unwrap().file_name()).collect();
    assert_eq!(trees, ["gold"]);
    locked.begin(3, None, night(1), &go_on()).unwrap();
    let left: Vec<_> =
        fs::read_dir(locked.days_path()).unwrap().map(|name| name.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".removing")), "{left:?}");
}

#[test]
fn a_tree_with_every_nuisance_is_removed() {
    let place = Place::new();
    let root = place.dir.path().join("root");
    // Deeper than any path may be long, than directories may be open, and read-only on the way.
    let name = "d".repeat(200);
    fs::create_dir(&root).unwrap();
    let here = fs::canonicalize(&root).unwrap();
    let deep = Command::new("sh")
        .arg("-c")
        .arg("n=0; while [ $n -lt 300 ]; do mkdir $1 && cd -P $1 || exit 1; : >f; n=$((n+1)); done")
        .args(["sh", &name])
        .current_dir(&here)
        .status()
        .unwrap();
    assert!(deep.success());
    (0..3000).for_each(|n| fs::create_dir_all(root.join(format!("wide/{n}/x"))).unwrap());
    symlink("/", root.join("link")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    let outside = place.dir.path().join("outside");
    fs::write(&outside, "kept").unwrap();
    symlink(place.dir.path(), root.join("up")).unwrap();
    fs::hard_link(&outside, root.join("hard")).unwrap();
    fs::create_dir(root.join("closed")).unwrap();
    fs::write(root.join("closed/file"), "").unwrap();
    fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"not\xffutf8")), "").unwrap();
    assert!(daykeep::fs::remove_tree(&root, 4, &|_| true).unwrap());
    assert!(!root.exists());
    assert_eq!(fs::read_to_string(outside).unwrap(), "kept");
    let error = daykeep::fs::remove_tree(&root, 4, &|_| true).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot remove {}", root.display()));
}

// Locks.

#[test]
fn the_holder_of_the_lock_is_shown() {
    let place = Place::new();
    let vault = place.vault();
    let locked = vault.lock("daykeep run, pid 12, job 7", start()).unwrap();
    let error = vault.lock("another", start()).unwrap_err();
    assert!(
        matches!(&error, Error::Locked { holder, since: Some(_), .. } if holder == "daykeep run, pid 12, job 7")
    );
    let expected = format!(
        "the vault {} is locked by daykeep run, pid 12, job 7 since 2026-11-01T01:00:00Z",
        vault.path().display()
    );
    assert_eq!(error.to_string(), expected);
    // What came from the lock keeps it.
    let writer = locked.begin(1, None, start(), &go_on()).unwrap();
    drop(locked);
    assert!(vault.lock("another", start()).is_err());
    drop(writer);
    vault.lock("another", start()).unwrap();
}

// Kills and races: this test program starts itself as the victim.

const VICTIM: &str = "DAYKEEP_TEST_VICTIM_VAULT";

/// Not a test when it is run as one: keeps day after day, and prunes, until it is killed.
#[test]
fn victim() {
    let Some(root) = std::env::var_os(VICTIM) else { return };
    let vault = Vault::create(Path::new(&root), REPOSITORY).unwrap();
    loop {
        // The clock is the day's number, so that the vault alone tells the time.
        let now = night(i64::try_from(vault.days(Timestamp::MAX).unwrap().next_sequence()).unwrap());
        let locked = match vault.lock(&format!("victim {}", std::process::id()), now) {
            Ok(locked) => locked,
            Err(Error::Locked { .. }) => continue,
            // The power has gone: this is the end.
            Err(error) => panic!("{error}"),
        };
        let now = night(i64::try_from(vault.days(Timestamp::MAX).unwrap().next_sequence()).unwrap());
        let writer = locked.begin(1, Some(4), now, &go_on()).unwrap();
        fill(&writer, &[]);
        writer.seal(manifest(now), Vec::new()).unwrap();
        let (context, _) = context(now);
        let plan = locked.plan_prune(&Rules { last: 3, ..Rules::default() }, &TimeZone::UTC, now).unwrap();
        locked.prune(&plan, &context).unwrap();
    }
}

struct Victim(Child);

impl Victim {
    fn start(root: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "victim", "--nocapture"]).env(VICTIM, root);
        Self(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn kill(mut self) {
        assert!(self.0.try_wait().unwrap().is_none(), "it failed before it was killed: {}", self.said());
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn said(&mut self) -> String {
        std::io::read_to_string(self.0.stderr.take().unwrap()).unwrap()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(what: &str, mut come: impl FnMut() -> bool) {
    let start = Instant::now();
    while !come() {
        assert!(start.elapsed() < Duration::from_secs(120), "{what} did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn killed_at_any_moment_every_listed_day_is_whole() {
    let place = Place::quick();
    let vault = place.vault();
    let mut newest = 0;
    for round in 0..60u64 {
        let victim = Victim::start(place.dir.path());
        wait_for("the next day", || sequence(&vault) > newest);
        // A prime step spreads the kills over the whole of the loop.
        std::thread::sleep(Duration::from_micros(round * 977 % 30_000));
        victim.kill();

        let days = vault.days(Timestamp::MAX).unwrap();
        assert_eq!(days.quarantined, [], "round {round}");
        days.good.iter().for_each(assert_whole);
        let numbers: Vec<u64> = days.good.iter().map(|day| day.manifest().sequence).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
        assert!(numbers.last().copied() >= Some(newest), "a day was lost");
        newest = numbers.last().copied().unwrap();
        for (name, target) in links(&vault) {
            let leads_to_a_day = vault.path().join(&target).join("manifest.json").exists();
            assert!(leads_to_a_day || name.starts_with('.'), "{name} -> {target}");
        }
        let locked = vault.lock("the next run", Timestamp::MAX).unwrap();
        assert_links_agree(&locked, Timestamp::MAX);
    }
}

/// The newest number, read while the victim seals and removes: what a listing sees is whole all the same.
fn sequence(vault: &Vault) -> u64 {
    let days = vault.days(Timestamp::MAX).unwrap();
    assert_eq!(days.quarantined, []);
    days.newest().map_or(0, |day| day.manifest().sequence)
}

#[test]
fn two_processes_never_build_at_once() {
    let place = Place::quick();
    let vault = place.vault();
    let victims = [Victim::start(place.dir.path()), Victim::start(place.dir.path())];
    wait_for("twenty days", || sequence(&vault) >= 20);
    let holders: std::collections::BTreeSet<String> = (0..400)
        .filter_map(|_| {
            std::thread::sleep(Duration::from_millis(1));
            match vault.lock("the test", Timestamp::MAX) {
                Err(Error::Locked { holder, .. }) => Some(holder),
                _ => None,
            }
        })
        .filter(|holder| holder.starts_with("victim"))
        .collect();
    victims.into_iter().for_each(Victim::kill);
    assert!(!holders.is_empty());
    let days = vault.days(Timestamp::MAX).unwrap();
    assert_eq!(days.quarantined, []);
    days.good.iter().for_each(assert_whole);
}

// Full disks.

/// A small file system of its own; None without the right to mount.
struct Small(PathBuf, #[expect(dead_code, reason = "removed when dropped")] tempfile::TempDir);

impl Small {
    fn mount(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("small");
        fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&path).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(path, dir))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_costs_no_day_and_can_be_emptied() {
    let Some(small) = Small::mount("size=1m") else { return };
    let locked = Vault::create(&small.0, REPOSITORY).unwrap().lock("a test", start()).unwrap();
    let days: Vec<Day> = (0..3).map(|number| keep(&locked, night(number))).collect();
    let writer = locked.begin(1, None, night(3), &go_on()).unwrap();
    fill(&writer, &[]);
    let filler = writer.database().join("filler");
    assert!(fs::write(&filler, vec![1; 2 << 20]).is_err(), "the disk is full");
    let error = writer.seal(manifest(night(3)), Vec::new()).unwrap_err();
    assert!(error.to_string().starts_with("cannot write "), "{error}");
    assert_eq!(locked.probe().unwrap().free_bytes, 0);
    assert_eq!(locked.days(night(3)).unwrap().good, days);
    let (context, _) = context(night(3));
    let rules = Rules { last: 1, ..Rules::default() };
    let plan = locked.plan_prune(&rules, &TimeZone::UTC, night(3)).unwrap();
    assert_eq!(locked.prune(&plan, &context).unwrap().len(), 2);
    assert_links_agree(&locked, night(3));
    assert_whole(&keep(&locked, night(3)));
}

#[test]
fn a_disk_without_inodes_costs_no_day() {
    let Some(small) = Small::mount("size=4m,nr_inodes=64") else { return };
    let locked = Vault::create(&small.0, REPOSITORY).unwrap().lock("a test", start()).unwrap();
    let first = keep(&locked, night(0));
    let writer = locked.begin(1, None, night(1), &go_on()).unwrap();
    fill(&writer, &[]);
    let taken = (0..64).take_while(|n| fs::write(writer.trees().join(n.to_string()), "").is_ok()).count();
    assert!(taken < 64);
    let error = writer.seal(manifest(night(1)), Vec::new()).unwrap_err();
    assert!(error.to_string().starts_with("cannot create "), "{error}");
    let probe = locked.probe().unwrap_err().to_string();
    assert!(probe.starts_with("cannot create "), "{probe}");
    assert_eq!(locked.days(night(1)).unwrap().good, [first]);
}

#[test]
fn a_read_only_mount_is_told_with_what_to_do() {
    let Some(small) = Small::mount("size=1m") else { return };
    let vault = Vault::create(&small.0, REPOSITORY).unwrap();
    let mut mount = Command::new("mount");
    assert!(mount.args(["-o", "remount,ro"]).arg(&small.0).status().unwrap().success());
    let fresh = Vault::create(&small.0, "another").unwrap_err();
    let there = vault.lock("a test", start()).unwrap_err();
    for (error, name) in [(fresh, "another"), (there, REPOSITORY)] {
        let path = small.0.join(name);
        let told = format!("the vault {} is read-only here: mount it read-write; ", path.display());
        assert!(error.to_string().starts_with(&told), "{error}");
        assert!(error.to_string().contains("ReadWritePaths="), "{error}");
    }
}

// What differs.

#[test]
fn the_difference_of_two_days_is_told_file_by_file_and_table_by_table() {
    let place = Place::new();
    let locked = place.lock();
    let rows = |count: u64| serde_json::json!({"count": count, "digest": "0"});
    let sealed = |number: i64, files: &[FileRecord], tables: &[(&str, u64)]| {
        let writer = locked.begin(1, None, night(number), &go_on()).unwrap();
        fill(&writer, files);
        fs::create_dir_all(writer.database().join("fossology")).unwrap();
        let mut lines = String::new();
        for (name, count) in tables {
            let table = serde_json::json!({"schema": "public", "name": name, "oid": 1, "columns": ["a"],
                "rows": rows(*count), "segments": []});
            writeln!(lines, "{table}").unwrap();
        }
        fs::write(writer.database().join("fossology/tables.jsonl"), lines).unwrap();
        let mut said = manifest(night(number));
        said.database = Some(database_record());
        writer.seal(said, Vec::new()).unwrap()
    };
    let mut touched = record("b/touched", 3);
    touched.mode = 0o600;
    touched.mtime = (9, 9);
    touched.ino = 99;
    let before = [record("a", 1), record("b", 1), record("b/touched", 3), record("b.c", 4), record("z", 5)];
    let after = [record("a", 1), record("b", 2), touched, record("b/zz", 1), record("b.c", 4)];
    let first = sealed(0, &before, &[("same", 1), ("gone", 2), ("grown", 3)]);
    let second = sealed(1, &after, &[("same", 1), ("new", 0), ("grown", 4)]);
    let mut told = Vec::new();
    diff(&first, &second, &mut |difference| {
        told.push(match difference {
            Difference::Added(file) => format!("+ {}", file.path.as_path().display()),
            Difference::Removed(file) => format!("- {}", file.path.as_path().display()),
            Difference::Changed { after, what, .. } => {
                format!("~ {} {}", after.path.as_path().display(), what.join(","))
            }
            Difference::Table { database, schema, name, before, after } => {
                let count = |rows: Option<daykeep::manifest::Rows>| rows.map(|rows| rows.count);
                format!("{database}.{schema}.{name} {:?} {:?}", count(before), count(after))
            }
        });
    })
    .unwrap();
    assert_eq!(
        told,
        [
            "~ b content",
            "~ b/touched mode,mtime",
            "+ b/zz",
            "- z",
            "fossology.public.gone Some(2) None",
            "fossology.public.grown Some(3) Some(4)",
            "fossology.public.new None Some(0)",
        ]
    );
    fs::write(second.records(), "no zstd").unwrap();
    let error = diff(&first, &second, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("files.jsonl.zst, line 1: the compressed text is damaged"), "{error}");
}

fn database_record() -> DatabaseRecord {
    DatabaseRecord {
        server_version: 150_000,
        server_version_text: "15.0".into(),
        pg_dump_version: "15.0".into(),
        wal_begin: String::new(),
        wal_end: String::new(),
        system_identifier: None,
        databases: vec![DatabaseEntry {
            name: "fossology".into(),
            directory: "fossology".into(),
            encoding: "UTF8".into(),
            tables: 3,
            rest_tables: 0,
            rows: 6,
            row_bytes: 12,
        }],
        new_bytes: 0,
        stored_bytes: 0,
    }
}

// Power cuts.

/// An ext4 file system in a file; None without the right to mount or the programs to make one.
struct Disk {
    image: PathBuf,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Disk {
    fn make() -> Option<Self> {
        // A file system that another test's namespace had a copy of would stay shut down.
        support::small::own_mounts().ok()?;
        let dir = tempfile::tempdir().unwrap();
        let (image, path) = (dir.path().join("image"), dir.path().join("disk"));
        fs::create_dir(&path).unwrap();
        fs::File::create(&image).unwrap().set_len(48 << 20).unwrap();
        let made = ran(Command::new("mkfs.ext4").arg("-q").arg(&image));
        let disk = Self { image, path, _dir: dir };
        (made && disk.mount()).then_some(disk)
    }

    fn mount(&self) -> bool {
        ran(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.path))
    }

    fn unmount(&self) -> bool {
        ran(Command::new("umount").arg(&self.path))
    }

    /// Nothing that was not flushed survives: the journal's unwritten part is dropped with the rest.
    fn cut_power(&self) {
        // EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH; perl is on every Debian.
        let ioctl =
            r#"my $f = pack("L", 2); open(my $d, "<", $ARGV[0]) or die; ioctl($d, 0x8004587D, $f) or die"#;
        assert!(ran(Command::new("perl").args(["-e", ioctl]).arg(&self.path)));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.unmount();
    }
}

fn ran(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[test]
fn a_power_cut_leaves_whole_days_alone() {
    let Some(disk) = Disk::make() else { return };
    let mut newest = 0;
    for round in 0..10u64 {
        let vault = Vault::create(&disk.path, REPOSITORY).unwrap();
        let mut victim = Victim::start(&disk.path);
        wait_for("the next day", || sequence(&vault) > newest);
        std::thread::sleep(Duration::from_micros(round * 7919 % 60_000));
        // What was listed before the cut was promised: it is there after it.
        let promised = sequence(&vault);
        disk.cut_power();
        victim.0.wait().unwrap();
        assert!(disk.unmount() && disk.mount());

        let days = vault.days(Timestamp::MAX).unwrap();
        assert_eq!(days.quarantined, [], "round {round}");
        days.good.iter().for_each(assert_whole);
        newest = days.newest().map_or(0, |day| day.manifest().sequence);
        assert!(newest + 1 >= promised, "{newest} is left of {promised}");
        let locked = vault.lock("the next run", Timestamp::MAX).unwrap();
        assert_links_agree(&locked, Timestamp::MAX);
    }
}

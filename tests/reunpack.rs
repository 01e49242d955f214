//! A FOSSology whose files are gone gets them back from its gold: the real `daykeep`, the stand-in of the scheduler, real rows.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha1::{Digest as _, Sha1};

use support::repository::{NAME, Repository};
use support::scheduler::DATABASE;

const QUICK: [&str; 6] = ["--agent-ms", "40", "--poll-ms", "50", "--reset", "--files=3"];

fn psql(repository: &Repository, sql: &str) -> String {
    repository.fossology.server.psql(DATABASE, sql)
}

/// Every row of the tree and of the files, as text.
fn rows(repository: &Repository) -> String {
    let tree = "SELECT * FROM uploadtree ORDER BY uploadtree_pk";
    let files = "SELECT * FROM pfile ORDER BY pfile_pk";
    format!("{}\n{}", psql(repository, tree), psql(repository, files))
}

/// The files below a directory by their names; each has the content that its name says.
fn files_below(root: &Path) -> BTreeMap<String, PathBuf> {
    let (mut found, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let sha1 = Sha1::digest(fs::read(&path).unwrap());
            let named = (0..40).step_by(2).map(|at| u8::from_str_radix(&name[at..at + 2], 16).unwrap());
            assert!(sha1.iter().copied().eq(named), "{} has another content", path.display());
            found.insert(name, path);
        }
    }
    found
}

fn numbers(value: &Value) -> Vec<i64> {
    value.as_array().expect("numbers").iter().map(|number| number.as_i64().expect("a number")).collect()
}

/// The answer of a call that fails with this code.
fn failing(repository: &Repository, arguments: &[&str], code: i32) -> (Value, String) {
    let output = repository.daykeep(arguments).output().expect("daykeep starts");
    assert_eq!(output.status.code(), Some(code), "{}", repository.told(&output));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    (serde_json::from_slice(&output.stdout).unwrap_or(Value::Null), told)
}

fn remove_gold_of(repository: &Repository, upload: u32) {
    let name = psql(
        repository,
        &format!(
            "SELECT lower(pfile_sha1 || '.' || pfile_md5 || '.' || pfile_size) FROM upload
             JOIN pfile ON pfile_pk = pfile_fk WHERE upload_pk = {upload}"
        ),
    );
    let gold = files_below(&repository.fossology.repository().join("localhost/gold"));
    fs::remove_file(&gold[&name]).expect("the gold is there");
}

/// A repository whose scheduler stands still and whose files are gone.
struct Hurt {
    repository: Repository,
    /// What was in `files`.
    before: BTreeMap<String, PathBuf>,
    rows: String,
    /// Two jobs of upload 1 that have not begun; the second waits for the first.
    jobs: [i64; 2],
}

impl Hurt {
    /// There is a row that nobody needs; the users of uploads 2 and 3 have left; upload 4 has no gold either.
    fn new() -> Self {
        let repository = Repository::new(&QUICK, "");
        let fossology = &repository.fossology;
        let nothing = repository.json(&["reunpack", "--plan", "--json"]);
        assert_eq!(nothing["plan"]["missing_files"], 0, "{nothing:#}");
        assert_eq!(repository.json(&["check", "--json"])["checks"][0]["missing"], 0);
        fossology.stop();
        psql(
            &repository,
            "INSERT INTO pfile (pfile_sha1, pfile_md5, pfile_size) VALUES (repeat('A', 40), repeat('B', 32), 7);
             UPDATE upload SET user_fk = 99 WHERE upload_pk = 2;
             UPDATE upload SET user_fk = NULL WHERE upload_pk = 3;
             UPDATE job SET job_user_fk = NULL WHERE job_upload_fk = 3",
        );
        remove_gold_of(&repository, 4);
        let jobs = [fossology.queue_for(1, "nomos"), fossology.queue_for(1, "nomos")];
        let [first, second] = jobs;
        let waits =
            format!("INSERT INTO jobdepends (jdep_jq_fk, jdep_jq_depends_fk) VALUES ({second}, {first})");
        psql(&repository, &waits);
        let files = fossology.repository().join("localhost/files");
        let (before, rows) = (files_below(&files), rows(&repository));
        fs::remove_dir_all(&files).unwrap();
        Self { repository, before, rows, jobs }
    }
}

#[test]
fn a_plan_names_what_is_missing_and_what_it_will_take() {
    let Hurt { repository, rows: kept, jobs, .. } = Hurt::new();
    let (checked, _) = failing(&repository, &["check", "--json"], 1);
    let error = checked["failed"][0]["error"].as_str().unwrap();
    // Gold of 4 uploads and 17 files; one gold and all files are gone.
    assert!(error.starts_with("cross-check files: 18 of 21 rows have no file, "), "{error}");

    // Upload 4 cannot come back: a plan that has it is a failure, and says so.
    let (plan, told) = failing(&repository, &["reunpack", "--plan", "--json"], 1);
    assert!(told.contains("the gold is missing, too, of upload 4"), "{told}");
    assert_eq!(plan["outcome"], Value::Null);
    let plan = &plan["plan"];
    // 4 uploads of a tar and 3 files, and the row that nobody needs.
    assert_eq!((plan["rows"].as_u64(), plan["missing_files"].as_u64()), (Some(17), Some(17)), "{plan:#}");
    assert_eq!(plan["unneeded_files"], 1, "{plan:#}");
    assert_eq!(plan["missing_bytes"].to_string(), psql(&repository, "SELECT sum(pfile_size) FROM pfile"));
    assert_eq!(plan["past_jobs"], 4);
    let expected = plan["seconds"].as_f64().expect("the past tells how long it takes");
    let past = "SELECT sum(extract(epoch FROM jq_endtime - jq_starttime)) FROM jobqueue JOIN job ON job_pk = jq_job_fk
                WHERE jq_type = 'ununpack' AND job_upload_fk < 4";
    let past: f64 = psql(&repository, past).parse().unwrap();
    assert!((expected - past).abs() < 0.001, "{expected} is not {past}");
    let uploads = plan["uploads"].as_array().unwrap();
    let missing: Vec<_> = uploads.iter().map(|upload| upload["missing_files"].as_u64().unwrap()).collect();
    let gold: Vec<_> = uploads.iter().map(|upload| upload["gold"]["present"].as_bool().unwrap()).collect();
    assert_eq!((missing, gold), (vec![4, 4, 4, 4], vec![true, true, true, false]));
    assert_eq!(numbers(&uploads[0]["waiting"]), jobs);
    assert_eq!(rows(&repository), kept, "a plan changes nothing");
    assert_eq!(psql(&repository, "SELECT count(*) FROM job WHERE job_name = 'reunpack'"), "0");
}

#[test]
fn damaged_gold_is_named_with_its_upload() {
    let repository = Repository::new(&QUICK, "");
    let day = repository.run();
    let gold = files_below(&repository.days_dir().join(&day).join("trees/repository/localhost/gold"));
    let name = psql(
        &repository,
        "SELECT lower(pfile_sha1 || '.' || pfile_md5 || '.' || pfile_size) FROM upload
         JOIN pfile ON pfile_pk = pfile_fk WHERE upload_pk = 2",
    );
    let mut content = fs::read(&gold[&name]).unwrap();
    content[0] ^= 4;
    fs::write(&gold[&name], content).unwrap();
    let (found, _) = failing(&repository, &["verify", "--json"], 12);
    let report = &found["days"][0]["report"];
    let damages = report["damages"].as_array().unwrap();
    let file = psql(&repository, "SELECT upload_filename FROM upload WHERE upload_pk = 2");
    let whose =
        format!("; it is the gold of upload 2 ({file}), which cannot be unpacked again from this day");
    let told = damages.iter().filter(|damage| damage["means"].as_str().unwrap().ends_with(&whose));
    assert_eq!((told.count(), &report["notes"]), (1, &serde_json::json!([])), "{found:#}");
    assert!(damages.iter().all(|damage| damage["file"].as_str().unwrap().ends_with(&name)), "{found:#}");
}

#[test]
fn what_is_missing_is_queued_once_and_jobs_wait_for_it() {
    let Hurt { repository, before, rows: kept, jobs } = Hurt::new();
    let fossology = &repository.fossology;
    let queue =
        "SELECT count(*) || ' ' || (SELECT count(*) FROM jobdepends) FROM jobqueue WHERE jq_endtime IS NULL";
    let (queued, _) = failing(&repository, &["reunpack", "--yes", "--json"], 1);
    let outcome = &queued["outcome"];
    assert_eq!((outcome["told"].as_bool(), numbers(&outcome["without_gold"])), (Some(false), vec![4]));
    let made = outcome["queued"].as_array().unwrap();
    assert!(made.len() == 3 && made.iter().all(|one| one["new"] == true), "{outcome:#}");
    assert_eq!(numbers(&made[0]["waiting"]), jobs);
    // Two that waited and three unpack jobs; one dependency that was there and two new ones.
    assert_eq!(psql(&repository, queue), "5 3");
    let users = "SELECT count(*) FROM job JOIN users ON user_pk = job_user_fk WHERE job_name = 'reunpack'";
    assert_eq!(psql(&repository, users), "3", "a job without a user would never run");

    let (again, _) = failing(&repository, &["reunpack", "--yes", "--json"], 1);
    let again = again["outcome"]["queued"].as_array().unwrap().clone();
    assert!(again.iter().all(|one| one["new"] == false && numbers(&one["waiting"]).is_empty()), "{again:#?}");
    assert_eq!(psql(&repository, queue), "5 3", "nothing is queued twice");

    fossology.start();
    fossology.wait_for("SELECT count(*) FROM jobqueue WHERE jq_endtime IS NULL", "0");
    let bits = "SELECT DISTINCT jq_end_bits FROM jobqueue";
    assert_eq!(psql(&repository, bits), "1", "{}", fossology.log());
    let order = "SELECT count(*), bool_and(waiter.jq_starttime >= unpack.jq_endtime) FROM jobdepends
                 JOIN jobqueue waiter ON waiter.jq_pk = jdep_jq_fk JOIN jobqueue unpack ON unpack.jq_pk = jdep_jq_depends_fk";
    assert_eq!(psql(&repository, order), "3|t");
    assert_eq!(rows(&repository), kept, "unpacking again changes no row");
    let back = files_below(&fossology.repository().join("localhost/files"));
    let lost: Vec<_> = before.keys().filter(|name| !back.contains_key(*name)).collect();
    assert_eq!(lost.len(), 4, "all but those of upload 4 are back: {lost:?}");

    let (left, _) = failing(&repository, &["reunpack", "--plan", "--json"], 1);
    assert_eq!(left["plan"]["uploads"].as_array().unwrap().len(), 1, "{left:#}");
    let only = repository.json(&["reunpack", "--plan", "--upload", "1", "--json"]);
    assert_eq!(only["plan"]["uploads"], serde_json::json!([]));
}

#[test]
fn a_scheduler_that_runs_is_told_and_the_page_is_for_people() {
    let repository = Repository::new(&QUICK, "");
    let fossology = &repository.fossology;
    // From here on it looks at its table only when it is told to.
    fossology.stop();
    fossology.set_flags(&["--agent-ms", "40", "--poll-ms", "600000", "--reset"]);
    fossology.start();
    let files = fossology.repository().join("localhost/files");
    let before = files_below(&files);
    fs::remove_dir_all(&files).unwrap();

    let output = repository.daykeep(&["reunpack", NAME, "--yes"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", repository.told(&output));
    assert!(text.contains("missing of"), "{text}");
    assert!(text.contains("to expect: "), "{text}");
    assert!(text.ends_with("the scheduler was told\n"), "{text}");
    repository.until("the files are back", || files_below_soft(&files) == before.len());
}

/// While agents write.
fn files_below_soft(root: &Path) -> usize {
    let (mut count, mut open) = (0, vec![root.to_owned()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => open.push(path),
                path => count += usize::from(path.extension().is_none_or(|end| end != "I")),
            }
        }
    }
    count
}

#[test]
fn a_repository_without_its_check_is_refused() {
    let repository = Repository::new(&QUICK, "");
    repository.reconfigure("builtin = \"fossology\"", "query = \"select 'x'::text\"");
    let (told, _) = failing(&repository, &["reunpack", "--plan", "--json"], 2);
    assert_eq!(
        told["error"]["message"],
        "repository fossology is not a FOSSology that daykeep can have unpacked again: it has no check with builtin = \"fossology\""
    );
    // Neither --plan nor --yes: nothing is done without being said.
    failing(&repository, &["reunpack"], 2);
}

#[test]
fn a_day_records_the_jobs_that_were_unfinished() {
    let repository = Repository::new(&QUICK, "");
    let fossology = &repository.fossology;
    fossology.stop();
    let [waiting, running, paused] = [1, 2, 3].map(|upload| fossology.queue_for(upload, "nomos"));
    psql(&repository, &format!(
        "UPDATE jobqueue SET jq_starttime = now(), jq_endtext = 'Started' WHERE jq_pk = {running};
         UPDATE jobqueue SET jq_starttime = '9999-12-31', jq_endtext = 'Paused' WHERE jq_pk = {paused};
         UPDATE jobqueue SET jq_args = '1 - https://me:secret@host/x --password secret' WHERE jq_pk = {waiting}"
    ));
    let day = repository.run();
    let manifest = fs::read_to_string(repository.days_dir().join(&day).join("manifest.json")).unwrap();
    assert!(!manifest.contains("secret"), "{manifest}");
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let unfinished = &manifest["unfinished_jobs"];
    assert_eq!(unfinished["count"], 3, "{unfinished:#}");
    let jobs: Vec<_> = unfinished["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| {
            (job["jq_pk"].as_i64().unwrap(), job["state"].as_str().unwrap(), job["upload"].as_i64().unwrap())
        })
        .collect();
    assert_eq!(jobs, [(waiting, "waiting", 1), (running, "running", 2), (paused, "paused", 3)]);
    assert_eq!(unfinished["jobs"][0]["args"], "1 - https://***@host/x --password ***");
    assert_eq!(
        (&unfinished["jobs"][1]["type"], &unfinished["jobs"][1]["name"]),
        (&"nomos".into(), &"nomos".into())
    );
    let shown = repository.daykeep(&["show", "latest"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let at = shown.find("unfinished at the freeze point: 3 jobs").unwrap_or_else(|| panic!("{shown}"));
    let lines: Vec<Vec<&str>> =
        shown[at..].lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1][1..4], ["nomos", "running", "2"], "{shown}");
}

#[test]
fn a_day_of_gold_alone_brings_everything_back() {
    let mut repository = Repository::new(&QUICK, "");
    repository.keep_gold_only();
    repository.fossology.stop();
    let jobs = [1, 3].map(|upload| repository.fossology.queue_for(upload, "nomos"));
    let files = repository.fossology.repository().join("localhost/files");
    let (before, kept) = (files_below(&files), rows(&repository));
    let day = repository.run();
    let kept_tree = repository.days_dir().join(&day).join("trees/repository");
    assert!(!kept_tree.join("localhost/files").exists() && kept_tree.join("localhost/gold").exists());
    // What it will cost is known from the day alone.
    let shown = repository.json(&["show", "latest", "--json"]);
    let to_unpack = &shown["manifest"]["to_unpack"];
    let figures = "SELECT 4 || ' ' || count(*) || ' ' || sum(pfile_size) FROM pfile";
    let told = format!("{} {} {}", to_unpack["uploads"], to_unpack["files"], to_unpack["bytes"]);
    assert_eq!(told, psql(&repository, figures));
    let past =
        "SELECT sum(extract(epoch FROM jq_endtime - jq_starttime)) FROM jobqueue WHERE jq_type = 'ununpack'";
    let past: f64 = psql(&repository, past).parse().unwrap();
    assert!((to_unpack["seconds"].as_f64().unwrap() - past).abs() < 0.001, "{to_unpack:#} is not {past}");
    let page = String::from_utf8(repository.daykeep(&["show", "latest"]).output().unwrap().stdout).unwrap();
    assert!(page.contains("gold alone: after a restore, 4 uploads become 16 files of "), "{page}");

    repository.fossology.server.lose();
    fs::remove_dir_all(repository.fossology.repository()).unwrap();
    repository.fossology.server.init(&[]);
    repository.fossology.server.run();
    let plan = repository.daykeep(&["restore", "latest", "--plan"]).output().unwrap();
    let warned = String::from_utf8_lossy(&plan.stderr).into_owned();
    assert!(warned.contains("the day has gold alone: "), "{}", repository.told(&plan));
    let output = repository.daykeep(&["restore", "latest", "--yes", "--start"]).output().unwrap();
    assert!(output.status.success(), "{}", repository.told(&output));

    let fossology = &repository.fossology;
    fossology.wait_for("SELECT count(*) FROM jobqueue WHERE jq_endtime IS NULL", "0");
    let names: Vec<String> = files_below(&files).into_keys().collect();
    assert_eq!(names, before.into_keys().collect::<Vec<_>>());
    assert_eq!(rows(&repository), kept);
    for job in jobs {
        let order = format!(
            "SELECT waiter.jq_end_bits, waiter.jq_starttime >= unpack.jq_endtime FROM jobdepends
             JOIN jobqueue waiter ON waiter.jq_pk = jdep_jq_fk JOIN jobqueue unpack ON unpack.jq_pk = jdep_jq_depends_fk
             WHERE waiter.jq_pk = {job}"
        );
        assert_eq!(psql(&repository, &order), "1|t", "{}", fossology.log());
    }
    assert_eq!(psql(&repository, "SELECT count(*) FROM job WHERE job_name = 'reunpack'"), "4");
    assert_eq!(repository.json(&["reunpack", "--plan", "--json"])["plan"]["missing_files"], 0);
}

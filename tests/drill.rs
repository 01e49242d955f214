//! Drills of real days: a good one is proven and leaves nothing behind, a day that lost something is not, and a drill that is killed
//! leaves nothing that the next one does not remove.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use daykeep::manifest::{RecordReader, RecordWriter};
use daykeep::vault::{ProofKind, proven};
use serde_json::{Value, json};
use support::forger::Forger;
use support::postgres::{check, majors, newest_bin_dir};
use support::shop::{Shop, said};

/// What is in a scratch directory.
fn left_in(directory: &Path) -> Vec<String> {
    let Ok(names) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> = names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != ".lock");
    names.sort();
    names
}

fn scratch_of(shop: &Shop) -> Vec<String> {
    left_in(&shop.path("state/shop/drill"))
}

/// Processes that were started for scratch directories of these names.
fn processes_of(names: &[String]) -> Vec<String> {
    let all = daykeep::process::all().unwrap();
    let commands = all.into_iter().map(|process| process.argv.join(" "));
    commands.filter(|command| names.iter().any(|name| command.contains(name))).collect()
}

fn newest_major() -> u32 {
    *majors().keys().next_back().unwrap()
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

/// What a drill finds, which must fail with its own code.
fn findings(shop: &Shop, arguments: &[&str]) -> Vec<String> {
    let output = shop.output(&[&["--json", "drill"], arguments].concat());
    assert_eq!(output.status.code(), Some(12), "{}", said(&output));
    let document = document(&output);
    assert_eq!(document["proven"], false);
    assert_eq!(scratch_of(shop), [""; 0]);
    let findings = document["findings"].as_array().unwrap();
    findings.iter().map(|finding| finding.as_str().unwrap().to_owned()).collect()
}

fn is_proven(shop: &Shop) -> bool {
    proven(&shop.vault().proofs(shop.days()[0].name()).unwrap()).is_some()
}

/// Everything below a directory but what is in these, with its time of change.
fn below(root: &Path, but: &[&str]) -> BTreeMap<PathBuf, (i64, i64)> {
    let (mut found, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(path) = open.pop() {
        if but.iter().any(|but| path.ends_with(but)) {
            continue;
        }
        let seen = fs::symlink_metadata(&path).unwrap();
        if seen.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.insert(path, (seen.ctime(), seen.ctime_nsec()));
    }
    found
}

#[test]
fn a_good_day_is_proven_and_nothing_else_is_touched() {
    let mut shop = Shop::with_documents();
    shop.server.append_conf("log_connections = on\nlog_statement = all\nautovacuum = off\n");
    shop.server.restart();
    // The first drill makes the directories that it needs.
    assert!(shop.output(&["drill"]).status.success());
    let elsewhere = ["state/shop/drill", "state/shop/jobs", "state", "vault/shop/proofs"];
    let (log, before) = (shop.server.log(), below(shop.home.path(), &elsewhere));
    let output = shop.output(&["drill", "latest"]);
    assert!(output.status.success(), "{}", said(&output));
    let text = said(&output);
    for part in [
        "is proven: it restores to what it was",
        "every byte held against its digest",
        "cross-check documents: 3 rows, every file is there",
        "held against the seal record",
        "recovery on this machine: databases ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(scratch_of(&shop), [""; 0]);
    assert_eq!(shop.server.log(), log, "nobody spoke to the repository's own server");
    assert_eq!(below(shop.home.path(), &elsewhere), before);
    let proofs = shop.vault().proofs(shop.days()[0].name()).unwrap();
    assert_eq!(proofs.len(), 2);
    let proof = proven(&proofs).unwrap_or_else(|| panic!("{proofs:?}"));
    assert!(proof.kind == ProofKind::Drill && proof.ok && proof.seconds.database > 0.0, "{proof:?}");
    assert!(proof.seconds.total >= proof.seconds.database + proof.seconds.trees, "{proof:?}");
}

#[test]
fn a_vault_alone_is_enough() {
    let shop = Shop::with_documents();
    let scratch = shop.path("x".repeat(100).as_str());
    let arguments = ["--json", "--config", "/none", "drill", "--vault"].map(str::to_owned);
    let paths =
        [shop.path("vault"), PathBuf::from("--scratch"), scratch.clone(), PathBuf::from("--hash-trees")];
    let mut command = Command::new(env!("CARGO_BIN_EXE_daykeep"));
    let output = command.args(arguments).args(paths).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let told = document(&output);
    assert_eq!((&told["proven"], &told["job"], &told["trees"]), (&json!(true), &json!(null), &json!("hash")));
    assert_eq!(told["compared"]["databases"], 4);
    assert_eq!(told["checks"][0]["rows"], 3);
    assert!(
        told["bytes"].as_u64().unwrap() > 10_000 && told["recovery_seconds"]["database"].as_f64() > Some(0.0)
    );
    assert_eq!(left_in(&scratch), [""; 0]);
    assert!(is_proven(&shop));
}

#[test]
fn a_vault_that_can_only_be_read_is_drilled_all_the_same() {
    let shop = Shop::with_documents();
    let read_only = shop.path("read-only");
    fs::create_dir(&read_only).unwrap();
    let mount = |words: &[&str]| {
        let mut mount = Command::new("mount");
        mount.args(words).arg(&read_only).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if !mount(&["--bind", shop.path("vault").to_str().unwrap()]) || !mount(&["-o", "remount,bind,ro"]) {
        // Without the right to mount.
        return;
    }
    let scratch = shop.path("scratch");
    let mut command = Command::new(env!("CARGO_BIN_EXE_daykeep"));
    command.args(["--json", "drill", "--vault"]).arg(&read_only).arg("--scratch").arg(&scratch);
    let output = command.output().unwrap();
    assert!(Command::new("umount").arg(&read_only).status().unwrap().success());
    assert!(output.status.success(), "{}", said(&output));
    let told = document(&output);
    let note = told["notes"][0].as_str().unwrap_or_else(|| panic!("{told}"));
    assert!(
        told["proven"] == true && note.starts_with("the outcome is not recorded in the vault: "),
        "{told}"
    );
    assert!(!is_proven(&shop));
}

#[test]
fn a_drill_that_looked_at_less_proves_nothing_and_may_leave_its_scratch_place() {
    let shop = Shop::with_documents();
    let output = shop.output(&["--json", "drill", "shop", "--no-trees", "--keep"]);
    assert!(output.status.success(), "{}", said(&output));
    let told = document(&output);
    assert_eq!(told["proven"], false);
    assert!(!is_proven(&shop));
    let kept = PathBuf::from(told["kept"].as_str().unwrap());
    assert!(kept.join("cluster/data/PG_VERSION").is_file(), "{}", kept.display());
    // The next one does not take it for a leftover.
    assert!(shop.output(&["drill"]).status.success());
    assert_eq!(scratch_of(&shop), [kept.file_name().unwrap().to_str().unwrap()]);
    assert!(is_proven(&shop));
}

#[test]
fn a_newer_server_takes_the_day_too() {
    let shop = Shop::with_documents();
    let newest = newest_bin_dir();
    let output = shop.output(&["--json", "drill", "--bin-dir", newest.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    let told = document(&output);
    assert_eq!(told["proven"], true, "{told}");
    assert!(told["server_version"].as_str().unwrap().starts_with(&newest_major().to_string()), "{told}");
}

/// Takes one row out of the only segment of `stock`.
fn lose_a_row(shop: &Shop) {
    let mut forger = Forger::of(shop);
    let table = forger.table("stock");
    let segment = &table["segments"][0];
    assert!(segment.get("base").is_none() && table["segments"].as_array().unwrap().len() == 1, "{table}");
    let old = segment["blake3"].as_str().unwrap().to_owned();
    let mut text = String::new();
    let file = fs::File::open(forger.file("tables").join(format!("{old}.zst"))).unwrap();
    zstd::Decoder::new(file).unwrap().read_to_string(&mut text).unwrap();
    let lost = text.lines().nth(150).unwrap().to_owned();
    let text = text.replacen(&format!("{lost}\n"), "", 1);
    let new = blake3::hash(text.as_bytes()).to_hex().to_string();
    fs::write(
        forger.file("tables").join(format!("{new}.zst")),
        zstd::encode_all(text.as_bytes(), 3).unwrap(),
    )
    .unwrap();
    fs::remove_file(forger.file("tables").join(format!("{old}.zst"))).unwrap();
    let sum = u128::from_str_radix(table["rows"]["digest"].as_str().unwrap(), 16).unwrap();
    let rows = json!({"count": 299, "digest": format!("{:032x}",
        sum.wrapping_sub(xxhash_rust::xxh3::xxh3_128(lost.as_bytes())))});
    let mut changed = table.clone();
    changed["rows"] = rows.clone();
    changed["segments"][0]["rows"] = rows;
    changed["segments"][0]["blake3"] = json!(new);
    changed["segments"][0]["bytes"] = json!(text.len());
    forger.edit("tables.jsonl", |list| {
        let line = |line: &str| {
            let is_it = serde_json::from_str::<Value>(line).unwrap()["name"] == "stock";
            (if is_it { changed.to_string() } else { line.to_owned() }) + "\n"
        };
        list.lines().map(line).collect::<Vec<_>>().concat()
    });
    forger.edit("load.txt", |list| list.replace(&old, &new));
    let entry = forger.entry();
    forger.less(&format!("{entry}/rows"), 1);
    forger.less(&format!("{entry}/row_bytes"), lost.len() as u64 + 1);
    forger.seal();
}

/// Takes the table `stock` out of the dump, as if it had never been.
fn lose_a_table(shop: &Shop) {
    let mut forger = Forger::of(shop);
    let table = forger.table("stock");
    let digest = table["segments"][0]["blake3"].as_str().unwrap().to_owned();
    let is_it = |line: &str| serde_json::from_str::<Value>(line).unwrap()["name"] == "stock";
    forger.edit("tables.jsonl", |list| list.split_inclusive('\n').filter(|line| !is_it(line)).collect());
    forger.edit("load.txt", |list| {
        let start = list.find("T COPY \"public\".\"stock\"").unwrap();
        let end = start + list[start..].find("E\n").unwrap() + 2;
        format!("{}{}", &list[..start], &list[end..])
    });
    fs::remove_file(forger.file("tables").join(format!("{digest}.zst"))).unwrap();
    // The archive is what pg_dump makes of a server without the table.
    shop.server.psql("shop", "DROP TABLE stock");
    // pg_dump may run as another user, who may not write there.
    let away = shop.server.make_dir("dump").join("rest.dump");
    let mut dump = shop.server.client("pg_dump");
    dump.args(["-Fc", "--compress=4", "--file"]).arg(&away).env("PGDATABASE", "shop");
    for table in ["item", "price", "nothing", "document"] {
        dump.arg(format!("--exclude-table-data=public.{table}"));
    }
    check(&mut dump, "pg_dump");
    fs::copy(&away, forger.file("rest.dump")).unwrap();
    let entry = forger.entry();
    forger.less(&format!("{entry}/tables"), 1);
    forger.less(&format!("{entry}/rows"), 300);
    forger.less(&format!("{entry}/row_bytes"), table["segments"][0]["bytes"].as_u64().unwrap());
    forger.seal();
}

/// Takes a file out of the tree.
fn lose_a_file(shop: &Shop, name: &str) {
    let mut forger = Forger::of(shop);
    let path = forger.day.join("trees/files").join(name);
    let bytes = fs::metadata(&path).unwrap().len();
    let root = forger.day.join("trees/files");
    let before = filetime::FileTime::from_last_modification_time(&fs::metadata(&root).unwrap());
    fs::remove_file(&path).unwrap();
    filetime::set_file_mtime(&root, before).unwrap();
    let (records, changed) = (forger.day.join("files.jsonl.zst"), forger.day.join("files.new"));
    let mut writer = RecordWriter::create(&changed).unwrap();
    for record in RecordReader::open(&records).unwrap().map(Result::unwrap) {
        if record.path.as_path() != Path::new(name) {
            writer.write(&record).unwrap();
        }
    }
    writer.finish().unwrap();
    fs::rename(changed, records).unwrap();
    for (figure, by) in [("entries", 1), ("files", 1), ("bytes", bytes)] {
        forger.less(&format!("/trees/files/{figure}"), by);
    }
    forger.seal();
}

#[test]
fn a_lost_row_fails_the_drill_with_its_table() {
    let shop = Shop::with_documents();
    lose_a_row(&shop);
    let found = findings(&shop, &[]);
    let row = "database \"shop\": table \"public\".\"stock\" has 299 rows, and 300 were recorded at the freeze point";
    assert!(found.contains(&row.to_owned()), "{found:#?}");
    assert!(found.iter().any(|finding| finding.starts_with("manifest.json: ")), "{found:#?}");
    assert!(!is_proven(&shop));
    let text = said(&shop.output(&["drill"]));
    assert!(text.contains("is NOT proven") && text.contains(row) && text.contains("=> Some(12)"), "{text}");
}

#[test]
fn a_lost_table_fails_the_drill_with_its_name() {
    let shop = Shop::with_documents();
    lose_a_table(&shop);
    let found = findings(&shop, &[]);
    assert!(
        found.contains(&"database \"shop\": table \"public\".\"stock\" is missing".to_owned()),
        "{found:#?}"
    );
    assert!(!is_proven(&shop));
}

#[test]
fn a_lost_file_fails_the_drill_with_its_name_and_upload() {
    let shop = Shop::with_documents();
    lose_a_file(&shop, "two");
    for trees in [&[][..], &["--hash-trees"]] {
        let found = findings(&shop, trees);
        let missing =
            "cross-check documents: 1 of 3 rows have no file, and allow_missing is 0: two, of upload 2";
        assert!(found.contains(&missing.to_owned()), "{found:#?}");
        assert!(found.iter().any(|finding| finding.starts_with("tree files has ")), "{found:#?}");
    }
    assert!(!is_proven(&shop));
}

#[test]
fn what_is_damaged_is_named_and_a_proof_is_lost_with_it() {
    let shop = Shop::with_documents();
    assert!(shop.output(&["drill"]).status.success() && is_proven(&shop));
    let file = shop.days()[0].path().join("trees/files/deep/er/file");
    let before = filetime::FileTime::from_last_modification_time(&fs::metadata(&file).unwrap());
    let mut content = fs::read(&file).unwrap();
    content[1000] ^= 4;
    fs::write(&file, content).unwrap();
    filetime::set_file_mtime(&file, before).unwrap();
    for trees in [&["latest"][..], &["--hash-trees"]] {
        let found = findings(&shop, trees);
        assert!(found.iter().any(|finding| finding.contains("trees/files/deep/er/file")), "{found:#?}");
    }
    assert!(!is_proven(&shop));
    // Its time is another, too: the content that is lost is told first, and of files that were not restored nothing good is said.
    filetime::set_file_mtime(&file, filetime::FileTime::from_unix_time(1_000_000_000, 0)).unwrap();
    for trees in [&["latest"][..], &["--hash-trees"]] {
        let found = findings(&shop, trees);
        assert!(found[0].contains("its content ") && found[0].contains("deep/er/file"), "{found:#?}");
        assert!(found[1..].iter().any(|finding| finding.contains("mtime")), "{found:#?}");
    }
    let told = said(&shop.output(&["drill"]));
    assert!(told.contains("trees: 1 tree NOT restored: the first damaged file ends a tree"), "{told}");
    assert!(told.contains("of the others 0 files (0 B) restored"), "{told}");
    let archive = shop.days()[0].path().join("database/shop/rest.dump");
    let mut content = fs::read(&archive).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 4;
    fs::write(&archive, content).unwrap();
    let found = findings(&shop, &[]);
    assert!(found.iter().any(|finding| finding.contains("database/shop/rest.dump is damaged")), "{found:#?}");
}

#[test]
fn a_drill_that_failed_is_to_be_made_again_after_a_repair() {
    let shop = Shop::with_documents();
    let day = shop.days()[0].name().to_owned();
    let file = shop.days()[0].path().join("trees/files/one");
    let mut content = fs::read(&file).unwrap();
    content[3] ^= 4;
    fs::write(&file, content).unwrap();
    findings(&shop, &["--hash-trees"]);
    let told = said(&shop.output(&["status"]));
    assert!(told.contains("  drill         FAILED ") && told.contains("trees/files/one: "), "{told}");
    let output = shop.output(&["verify", "--repair", "--yes"]);
    assert!(output.status.success(), "{}", said(&output));
    let told = said(&shop.output(&["status"]));
    let again = format!("repaired since; drill it again: `daykeep drill shop {day}`");
    assert!(told.contains(&format!("  drill         {day} failed its drill ")), "{told}");
    assert!(told.contains(&again) && !told.contains("FAILED"), "{told}");
    assert!(told.starts_with("newest proven day: NONE") && !is_proven(&shop), "{told}");
    let status = document(&shop.output(&["status", "--json"]));
    let drill = &status["repositories"][0]["last_drill"];
    assert_eq!((&drill["ok"], &drill["repaired_since"]), (&json!(false), &json!(true)), "{status:#}");
    assert!(said(&shop.output(&["list"])).contains("repaired"), "{}", said(&shop.output(&["list"])));
    assert!(shop.output(&["drill", "--hash-trees"]).status.success() && is_proven(&shop));
    assert!(!said(&shop.output(&["status"])).contains("drill it again"));
}

#[test]
fn what_keeps_a_drill_from_being_made_is_no_word_about_the_day() {
    let shop = Shop::with_documents();
    assert!(shop.output(&["drill"]).status.success());
    let mut forger = Forger::of(&shop);
    let manifest = forger.manifest.clone();
    forger.manifest["database"]["server_version"] = json!(990_000);
    forger.seal();
    let output = shop.output(&["drill"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let error = "error: no PostgreSQL server programs of version 99 or newer are on this machine, only 15";
    assert!(said(&output).contains(error), "{}", said(&output));
    let mut forger = Forger::of(&shop);
    forger.manifest = manifest;
    // More than any disk has.
    forger.manifest["trees"]["files"]["bytes"] = json!(u64::MAX / 4);
    forger.seal();
    let output = shop.output(&["drill"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let told = said(&output);
    assert!(told.contains(" free; a drill of the day ") && told.contains(" for its trees"), "{told}");
    assert!(told.contains("hint: name a place with room"), "{told}");
    assert_eq!(scratch_of(&shop), [""; 0]);
    assert!(is_proven(&shop), "nothing was learnt of the day");
    let jobs = fs::read_dir(shop.path("state/shop/jobs")).unwrap().count();
    assert_eq!(jobs, 4, "every drill is a job");
}

#[test]
fn a_place_without_room_is_refused_with_the_figures() {
    let shop = Shop::with_documents();
    let small = shop.path("small");
    fs::create_dir(&small).unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=60m", "tmpfs"]).arg(&small).stderr(Stdio::null());
    if !mount.status().is_ok_and(|status| status.success()) {
        // Without the right to mount.
        return;
    }
    let output = shop.output(&["drill", "--scratch", small.to_str().unwrap()]);
    let left = left_in(&small);
    assert!(Command::new("umount").arg(&small).status().unwrap().success());
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let (expected, day) = (" has 60.0 MiB free; a drill of the day ", shop.days()[0].name().to_owned());
    assert!(told.contains(&format!("{expected}{day} needs about ")), "{told}");
    assert_eq!(left, [""; 0]);
    assert!(!is_proven(&shop));
}

/// A drill that tells what it does.
fn start(shop: &Shop) -> (Child, std::io::Lines<BufReader<std::process::ChildStderr>>) {
    let mut command = shop.daykeep(&["drill"]);
    let mut drill = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(drill.stderr.take().unwrap()).lines();
    (drill, lines)
}

#[test]
fn a_killed_drill_leaves_no_server_and_the_next_one_removes_the_rest() {
    let shop = Shop::with_documents();
    let moments = [
        ("starting a scratch server", 0),
        ("starting a scratch server", 150),
        ("starting a scratch server", 500),
        ("restoring the databases", 30),
        ("restoring the databases", 300),
        ("comparing what was restored", 0),
    ];
    for (moment, later) in moments {
        let (mut drill, mut lines) = start(&shop);
        let reached = lines.any(|line| line.unwrap().contains(moment));
        assert!(reached, "{moment}");
        std::thread::sleep(Duration::from_millis(later));
        drill.kill().unwrap();
        drill.wait().unwrap();
        let left = scratch_of(&shop);
        assert_eq!(left.len(), 1, "{moment}: what the last one left is removed, and this one's is there");
        let limit = Instant::now() + Duration::from_secs(15);
        while !processes_of(&left).is_empty() {
            assert!(Instant::now() < limit, "{moment}: {:?}", processes_of(&left));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    assert!(!is_proven(&shop));
    let output = shop.output(&["drill"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("removed what 1 killed drills had left"), "{}", said(&output));
    assert_eq!(scratch_of(&shop), [""; 0]);
    assert!(is_proven(&shop));
}

#[test]
fn a_signal_stops_a_drill_which_removes_what_it_made() {
    let shop = Shop::with_documents();
    let (mut drill, mut lines) = start(&shop);
    assert!(lines.any(|line| line.unwrap().contains("restoring the databases")));
    let names = scratch_of(&shop);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(drill.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let told: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(drill.wait().unwrap().code(), Some(143), "{told:?}");
    assert_eq!(processes_of(&names), [""; 0]);
    assert_eq!(scratch_of(&shop), [""; 0]);
    assert!(!is_proven(&shop));
}

#[test]
fn two_drills_in_one_place_are_one_too_many() {
    let shop = Shop::with_documents();
    let (mut drill, mut lines) = start(&shop);
    assert!(lines.any(|line| line.unwrap().contains("starting a scratch server")));
    let output = shop.output(&["drill"]);
    assert_eq!(output.status.code(), Some(11), "{}", said(&output));
    assert!(said(&output).contains("is in use by another drill"), "{}", said(&output));
    lines.for_each(drop);
    assert!(drill.wait().unwrap().success());
    assert!(is_proven(&shop));
}

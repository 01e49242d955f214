//! Verify finds every damage, names it, says what it means, and repairs what can be repaired.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use daykeep::vault::Day;
use daykeep::verify::{self, Choice, Chosen, Report, Sample};
use support::context::context;
use support::damage::{self, How, Segments};
use support::shop::{Shop, said};

fn verify_with(day: &Day, choice: &Choice) -> Report {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(verify::day(day, choice, &context())).unwrap()
}

fn verify(day: &Day) -> Report {
    verify_with(day, &Choice::default())
}

/// Every damage of a report in a line.
fn told(report: &Report) -> String {
    let line = |damage: &verify::Damage| {
        let (file, fault) = (verify::shown(&damage.file), &damage.fault);
        format!("{file}: {fault:?}: {}; {}\n", damage.problem, damage.means)
    };
    report.damages.iter().map(line).collect()
}

#[test]
fn every_damage_is_found_and_named() {
    let shop = Shop::with_two_days();
    let days = shop.days();
    let [before, day] = days.as_slice() else { panic!("two days") };
    for day in [before, day] {
        let report = verify(day);
        assert!(report.is_sound() && report.damages.is_empty(), "{}", told(&report));
        assert_eq!(report.notes, [""; 0]);
        assert!(report.files > 20 && report.bytes > 100_000, "{report:?}");
    }
    let segments = Segments::of(day.path());
    assert!(!segments.patches.is_empty() && segments.wholes.len() >= 2);
    let cases = damage::cases(day.path(), before.path());
    assert!(cases.len() > 200, "{}", cases.len());
    let mut missed = Vec::new();
    for case in &cases {
        let undo = case.inflict(day.path());
        // Each part finds its own damages; the whole would run many programs for each of them.
        let rows = case.file.starts_with("database");
        let (databases, trees) =
            if rows { (Chosen::All, Chosen::none()) } else { (Chosen::none(), Chosen::All) };
        let bin_dir = Some(shop.server.bin_dir().to_owned());
        let report = verify_with(day, &Choice { databases, trees, bin_dir, ..Choice::default() });
        let file = if case.of == "the seal record" {
            Path::new("seals").join(day.name()).with_extension("json")
        } else {
            case.file.clone()
        };
        let is_named = |damage: &verify::Damage| {
            let named = damage.file.as_path();
            // Of a directory that is gone, or is something else, it or what was in it.
            !damage.means.is_empty()
                && !damage.problem.is_empty()
                && (named == file || named.starts_with(&file))
        };
        if !report.damages.iter().any(is_named) {
            missed.push(format!("{}: {}", case.name(), told(&report)));
        }
        drop(undo);
    }
    assert!(missed.is_empty(), "{} of {} are missed:\n{}", missed.len(), cases.len(), missed.join("\n"));
    assert!(verify(day).is_sound(), "the cases leave no trace: {}", told(&verify(day)));
}

/// Verifies and repairs a day until nothing more can be done; what was done, and what is left.
fn repair(shop: &Shop, day: &Day) -> (Vec<String>, Report) {
    let vault = shop.vault();
    let live = [("files".to_owned(), shop.tree())].into();
    let mut done = Vec::new();
    let report = verify(day);
    let found = verify::prospects(&vault, day, &report, &live, &context()).unwrap();
    for prospect in &found {
        done.push(format!("{}: {}", verify::shown(&prospect.damage.file), prospect.sentence()));
        if prospect.remedy.is_some() {
            let locked = vault.lock("a test", jiff::Timestamp::now()).unwrap();
            verify::mend(&locked, day, prospect, &context()).unwrap();
        }
    }
    assert!(!vault.days_path().join(".repair").exists());
    (done, verify(day))
}

#[test]
fn what_is_damaged_is_put_back_from_a_whole_copy() {
    let shop = Shop::with_two_days();
    let days = shop.days();
    let [before, day] = days.as_slice() else { panic!("two days") };
    let segments = Segments::of(day.path());
    let both_sound = |what: &str| {
        for day in [before, day] {
            let report = verify(day);
            assert!(report.is_sound(), "{what}: {}: {}", day.name(), told(&report));
        }
    };
    let case = |file: &str, how: How| damage::Case { file: file.into(), how, of: "" };
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    // What the other day has, or what follows from the rest: the damage is in this day only.
    let all = [
        (case(&text(&segments.bases[0]), How::Delete), "from the day"),
        (case(&text(&segments.wholes[0]), How::Flip(0.5)), "from the day"),
        (case("trees/files/one", How::Flip(0.5)), "from the day"),
        (case("trees/files/one", How::Cut(3)), "from the day"),
        (case("trees/files/one", How::Mode), "from the day"),
        (case("trees/files/one", How::NoXattr), "from the day"),
        (case("trees/files/one", How::Kind), "from the day"),
        (case("trees/files/second", How::Part), "from the day"),
        (case("trees/files/second", How::Delete), "from the day"),
        (case("trees/files/link", How::Retarget), "from its record"),
        (case("trees/files/link", How::Delete), "from its record"),
        (case("trees/files/pipe", How::Delete), "from its record"),
        (case("trees/files/deep", How::Mode), "from its record"),
        (case("trees/files/deep", How::Time), "from its record"),
        (case("trees/files/deep", How::Delete), "from its record"),
        (case("trees/files/changing", How::Flip(0.5)), "from the live tree"),
        (case("restore.sh", How::Append), "from the rest of the day"),
        (case("RESTORE.md", How::Delete), "from the rest of the day"),
        (case("manifest.blake3", How::Delete), "from the rest of the day"),
        (case("database/shop/load.txt", How::Cut(9)), "from the rest of the day"),
        (case("trees/files/deep/added", How::Add("directory")), "moved out of the day"),
        (case("database/added", How::Add("file")), "moved out of the day"),
    ];
    for (case, how) in all {
        // Not undone: the repair does that.
        std::mem::forget(case.inflict(day.path()));
        let (done, report) = repair(&shop, day);
        assert!(report.is_sound(), "{}: {done:#?}: {}", case.name(), told(&report));
        assert!(done[0].contains(how), "{}: {done:#?}", case.name());
        both_sound(&case.name());
    }
    let strays = std::fs::read_dir(shop.vault().path().join("strays")).unwrap().count();
    assert!(strays >= 3, "nothing is thrown away");
}

#[test]
fn days_that_share_a_damaged_inode_are_repaired_together() {
    let shop = Shop::with_two_days();
    let days = shop.days();
    let [before, day] = days.as_slice() else { panic!("two days") };
    let inode = |day: &Day, file: &str| std::fs::metadata(day.path().join(file)).unwrap().ino();
    let file = "trees/files/deep/er/file";
    assert_eq!(inode(before, file), inode(day, file), "they share it");

    // A bad block: both days have it, and only the live tree has the content.
    flip_in_place(&day.path().join(file));
    assert!(!verify(before).is_sound() && !verify(day).is_sound());
    let (done, report) = repair(&shop, day);
    assert!(report.is_sound() && verify(before).is_sound(), "{}", told(&report));
    assert_eq!(inode(before, file), inode(day, file), "they share the new one");
    let expected = format!("the damage is the same in {}, which would be repaired too", before.name());
    assert!(done[0].contains("from the live tree") && done[0].ends_with(&expected), "{done:?}");

    // When nothing has it, that is said, with what is lost.
    let segments = Segments::of(day.path());
    let lost = segments
        .wholes
        .iter()
        .find(|path| path.to_str().is_some_and(|path| inode(before, path) == inode(day, path)));
    flip_in_place(&day.path().join(lost.unwrap()));
    let (done, report) = repair(&shop, day);
    assert_eq!(report.total, 1);
    assert!(done[0].ends_with("it cannot be repaired: there is no whole copy"), "{done:?}");
    assert!(report.damages[0].means.starts_with("rows 1 to "), "{}", told(&report));
}

fn flip_in_place(path: &Path) {
    let time = filetime::FileTime::from_last_modification_time(&std::fs::metadata(path).unwrap());
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(path, bytes).unwrap();
    filetime::set_file_mtime(path, time).unwrap();
}

#[test]
fn parts_and_samples_look_at_no_more_than_they_say() {
    let shop = Shop::with_two_days();
    let day = shop.days().pop().unwrap();
    let only = |names: &[&str]| Chosen::Only(names.iter().map(|name| (*name).to_owned()).collect());
    let segments = Segments::of(day.path());
    let case = |file: &Path, how: How| damage::Case { file: file.to_owned(), how, of: "" };
    let hurt_rows = segments.wholes.iter().find(|path| path.starts_with("database/shop")).unwrap();
    let rows = case(hurt_rows, How::Flip(0.5)).inflict(day.path());
    let file = case(Path::new("trees/files/one"), How::Flip(0.5)).inflict(day.path());

    let trees = Choice { databases: Chosen::none(), ..Choice::default() };
    let report = verify_with(&day, &trees);
    assert_eq!(report.total, 1, "{}", told(&report));
    assert_eq!(verify_with(&day, &Choice { tree_content: false, ..trees.clone() }).total, 0);
    let other = Choice { databases: only(&["other"]), trees: Chosen::none(), ..Choice::default() };
    let report = verify_with(&day, &other);
    assert!(report.is_sound(), "{}", told(&report));
    let shop_only = Choice { databases: only(&["shop"]), trees: Chosen::none(), ..Choice::default() };
    let report = verify_with(&day, &shop_only);
    assert_eq!(report.total, 1, "{}", told(&report));
    assert!(report.damages[0].means.starts_with("rows 1 to "), "{}", told(&report));
    assert!(report.damages[0].means.ends_with(" of the database shop cannot be restored"));

    // A tiny sample misses what is in the content, and misses nothing else.
    let sample = |percent, seed| Choice { sample: Some(Sample { percent, seed }), ..Choice::default() };
    let report = verify_with(&day, &sample(1e-9, 1));
    assert!(report.is_sound() && report.sampled.is_some(), "{}", told(&report));
    assert!(report.bytes < verify(&day).bytes);
    assert_eq!(verify_with(&day, &sample(100.0, 1)).total, 2);
    drop(file);
    let mode = case(Path::new("trees/files/one"), How::Mode).inflict(day.path());
    assert_eq!(verify_with(&day, &sample(1e-9, 1)).total, 1);
    drop((mode, rows));
    // Files that were cut do not add up: the sample becomes everything.
    let cut = case(hurt_rows, How::Cut(1)).inflict(day.path());
    let report = verify_with(&day, &sample(1e-9, 1));
    assert_eq!((report.total, report.notes.len()), (1, 1), "{}{:?}", told(&report), report.notes);
    drop(cut);
}

#[test]
fn the_command_tells_records_and_repairs() {
    let shop = Shop::with_two_days();
    let days = shop.days();
    let [before, day] = days.as_slice() else { panic!("two days") };
    let call = |arguments: &[&str], code: i32| {
        let output = shop.output(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        said(&output)
    };
    let text = call(&["verify"], 0);
    assert!(
        text.contains(&format!("shop: day {} is sound: it is what it was when it was sealed\n", day.name())),
        "{text}"
    );
    let proofs = shop.vault().proofs(day.name()).unwrap();
    assert!(matches!(proofs.as_slice(), [proof] if proof.ok && proof.sampled.is_none()), "{proofs:?}");
    let jobs = daykeep::journal::jobs(&shop.path("state")).unwrap();
    let job = jobs.last().unwrap();
    assert_eq!(
        (job.kind, job.state),
        (daykeep::journal::JobKind::Verify, daykeep::journal::JobState::Succeeded)
    );

    let undo =
        damage::Case { file: "trees/files/one".into(), how: How::Flip(0.5), of: "" }.inflict(day.path());
    let text = call(&["verify", "--all"], 12);
    for part in [
        format!("shop: day {} is sound", before.name()),
        format!("shop: day {} is DAMAGED: 1 damage\n  trees/files/one\n", day.name()),
        "    what:   its content does not have the recorded digest\n".to_owned(),
        "    means:  the file one of the tree files cannot be restored from this day\n".to_owned(),
        format!("    repair: it can be repaired from the day {}", before.name()),
    ] {
        assert!(text.contains(&part), "{part}: {text}");
    }
    let jobs = daykeep::journal::jobs(&shop.path("state")).unwrap();
    assert_eq!(jobs.last().unwrap().state, daykeep::journal::JobState::Failed);
    let text = call(&["verify", "--repair"], 2);
    assert!(text.contains("nobody is there to be asked: add --yes"), "{text}");

    let vault = shop.path("vault").display().to_string();
    let json = shop.output(&["verify", "--vault", &vault, day.name(), "--sample", "100%", "--json"]);
    assert_eq!(json.status.code(), Some(12), "{}", said(&json));
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["days"][0]["report"]["damages"][0]["file"], "trees/files/one");
    assert_eq!((&json["sound"], &json["job"]), (&serde_json::json!(false), &serde_json::Value::Null));
    assert_eq!(json["days"][0]["repairs"][0]["remedy"]["from"], "day");

    let text = call(&["verify", "shop", "latest", "--repair", "--yes"], 0);
    assert!(text.contains("1 file repaired; looking again"), "{text}");
    std::mem::forget(undo);
    assert!(verify(day).is_sound());
    assert!(shop.vault().proofs(day.name()).unwrap().last().unwrap().ok);

    // A day whose manifest is not readable is told of too.
    let undo = damage::Case { file: "manifest.json".into(), how: How::Cut(9), of: "" }.inflict(day.path());
    let text = call(&["verify", day.name()], 12);
    assert!(text.contains("its manifest.json is damaged: EOF while parsing"), "{text}");
    drop(undo);
    assert!(call(&["verify", "--all", "latest"], 2).contains("leave one of them out"));
    assert!(call(&["verify", "--sample", "0%"], 2).contains("a percentage above 0%"));
}

#[test]
fn all_that_is_wrong_with_a_file_is_one_damage_with_its_repair() {
    let shop = Shop::with_two_days();
    let days = shop.days();
    let [before, day] = days.as_slice() else { panic!("two days") };
    let inode = |day: &Day, file: &str| std::fs::metadata(day.path().join(file)).unwrap().ino();
    // A file of its own, so that the other day still has the content.
    let file = "trees/files/one";
    if inode(before, file) == inode(day, file) {
        let (path, aside) = (day.path().join(file), shop.path("copy"));
        let copied = std::process::Command::new("cp").arg("-a").arg(&path).arg(&aside).status().unwrap();
        assert!(copied.success());
        let root = day.path().join("trees/files");
        let time = filetime::FileTime::from_last_modification_time(&std::fs::metadata(&root).unwrap());
        std::fs::rename(&aside, &path).unwrap();
        filetime::set_file_mtime(&root, time).unwrap();
        assert!(verify(day).is_sound(), "{}", told(&verify(day)));
    }
    // As an editor would: the time of change changes with the byte.
    let mut bytes = std::fs::read(day.path().join(file)).unwrap();
    bytes[0] ^= 4;
    std::fs::write(day.path().join(file), bytes).unwrap();
    let report = verify(day);
    assert_eq!((report.total, report.damages.len()), (1, 1), "{}", told(&report));
    let damage = &report.damages[0];
    assert_eq!(damage.fault, verify::Fault::Content);
    assert_eq!(damage.also, [verify::Fault::Attributes { what: vec!["mtime"] }]);
    let output = shop.output(&["verify"]);
    let text = said(&output);
    let whole = format!(
        "is DAMAGED: 1 damage\n  {file}\n    what:   its content does not have the recorded digest; its mtime is not as recorded\n\
         \x20   means:  the file one of the tree files cannot be restored from this day\n\
         \x20   repair: it can be repaired from the day {}",
        before.name()
    );
    assert!(output.status.code() == Some(12) && text.contains(&whole), "{text}");

    // The same of a file outside the trees: its digest, and what pg_restore says.
    let archive = day.path().join("database/shop/rest.dump");
    let bytes = std::fs::read(&archive).unwrap();
    std::fs::write(&archive, &bytes[..bytes.len() / 2]).unwrap();
    let report = verify(day);
    assert_eq!((report.total, report.damages.len()), (2, 2), "{}", told(&report));
    let damage = &report.damages[0];
    assert!(damage.problem.contains("it does not have the digest in manifest.json"), "{}", told(&report));
    assert_eq!(damage.also.len(), 1, "{}", told(&report));
}

#[test]
fn a_repair_that_is_killed_is_gone_on_with_by_the_next() {
    let shop = Shop::with_two_days();
    let day = shop.days().pop().unwrap();
    let segments = Segments::of(day.path());
    let damages = [
        ("trees/files/one", How::Flip(0.5)),
        ("trees/files/two", How::Delete),
        ("trees/files/second", How::Part),
        ("trees/files/link", How::Retarget),
        ("trees/files/deep", How::Delete),
        (segments.wholes[0].to_str().unwrap(), How::Flip(0.5)),
        (segments.bases[0].to_str().unwrap(), How::Delete),
        ("database/shop/load.txt", How::Append),
        ("restore.sh", How::Cut(9)),
    ];
    for (file, how) in damages {
        std::mem::forget(damage::Case { file: file.into(), how, of: "" }.inflict(day.path()));
    }
    let staging = shop.vault().days_path().join(".repair");
    for round in 0..6 {
        let mut child = shop.daykeep(&["--quiet", "verify", "--repair", "--yes"]);
        let mut child = child.stdout(std::process::Stdio::null()).spawn().unwrap();
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !staging.exists() && child.try_wait().unwrap().is_none() && std::time::Instant::now() < limit {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        std::thread::sleep(std::time::Duration::from_millis(round * 2));
        child.kill().unwrap();
        child.wait().unwrap();
        // What is left there is no sign that the next one has begun.
        let _ = std::fs::remove_dir_all(&staging);
    }
    let output = shop.output(&["verify", "--repair", "--yes"]);
    let report = verify(&day);
    assert!(report.is_sound(), "{}\n{}", said(&output), told(&report));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(shop.days().iter().all(|day| verify(day).is_sound()));
}

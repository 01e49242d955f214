//! The configuration: what is taken, what is refused, and in which words.
//!
//! `tests/config` has a file for every kind of mistake, and beside it what daykeep says to it. After a change of the
//! words, run the tests with `DAYKEEP_ACCEPT=1` and read the difference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daykeep::config::{self, Adapter, Config, Databases, OnBusy};
use daykeep::retention::Rules;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn files_in(directory: &str, extension: &str) -> Vec<PathBuf> {
    let directory = project(directory);
    let files: Vec<PathBuf> = daykeep::fs::names_in(&directory)
        .expect("the directory is there")
        .into_iter()
        .map(|name| directory.join(name))
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    assert!(!files.is_empty(), "no .{extension} in {}", directory.display());
    files
}

fn load(path: &Path) -> Config {
    config::load(path).unwrap_or_else(|error| panic!("{}", error.render(false)))
}

fn parse(text: &str) -> Config {
    config::parse(Path::new("daykeep.toml"), text).unwrap_or_else(|error| panic!("{}", error.render(false)))
}

fn refused(text: &str) -> config::Error {
    match config::parse(Path::new("daykeep.toml"), text) {
        Err(error) => error,
        Ok(config) => panic!("taken: {config:#?}"),
    }
}

/// How `found` differs from the file at `path`, which is written instead when the words are to be accepted.
fn difference(path: &Path, found: &str) -> Option<String> {
    if std::env::var_os("DAYKEEP_ACCEPT").is_some() {
        daykeep::fs::write_durable(path, found.as_bytes()).expect("can be written");
    }
    let expected = daykeep::fs::read_if_exists(path).expect("can be read").unwrap_or_default();
    let expected = String::from_utf8_lossy(&expected);
    (expected != found).then(|| format!("--- {}\n{expected}+++ found\n{found}", path.display()))
}

#[test]
fn every_sample_is_right() {
    for path in files_in("config", "toml") {
        assert!(!load(&path).repositories.is_empty(), "{}", path.display());
    }
}

#[test]
fn what_is_in_force_reads_as_the_same_configuration() {
    let generated = parse(&uncommented(&config::generate()));
    let samples = files_in("config", "toml").into_iter().map(|path| load(&path));
    for config in samples.chain([generated]) {
        let text = config.as_toml();
        let again = config::parse(&config.path, &text)
            .unwrap_or_else(|error| panic!("{}\n{text}", error.render(false)));
        assert_eq!(again, config, "{text}");
        assert_eq!(again.as_toml(), text);
    }
}

#[test]
fn every_mistake_is_told_in_these_words() {
    let mut differences = Vec::new();
    for path in files_in("tests/config", "toml") {
        let text = daykeep::fs::read_to_string(&path).expect("can be read");
        let name = path.file_name().expect("has a name");
        let said = match config::parse(Path::new(name), &text) {
            Ok(config) => panic!("{} was taken: {config:#?}", path.display()),
            Err(error) => error.render(false),
        };
        differences.extend(difference(&path.with_extension("txt"), &said));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Examples begin with `#` and a letter or bracket, prose with `# `.
fn uncommented(sample: &str) -> String {
    let mut text = String::new();
    for line in sample.lines() {
        assert!(line.is_empty() || line.starts_with('#'), "not a comment: {line}");
        if let Some(example) = line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')) {
            text.push_str(example);
        }
        text.push('\n');
    }
    text
}

#[test]
fn the_generated_sample_is_right_when_it_is_uncommented() {
    let sample = config::generate();
    let config = parse(&uncommented(&sample));
    let held: Vec<&str> = config
        .repositories
        .values()
        .map(|repository| match repository.hold.adapter {
            Adapter::Fossology(_) => "fossology",
            Adapter::Systemd(_) => "systemd",
            Adapter::Command(_) => "command",
            Adapter::Http(_) => "http",
            Adapter::None => "none",
        })
        .collect();
    assert_eq!(held, ["systemd", "none", "fossology", "command", "http"], "by name of the repository");
    assert!(sample.lines().all(|line| line.chars().count() <= 110), "a line is too long to read");
}

/// Section headings and keys of the reference: `(repository.NAME.hold, max, default)`.
fn keys_of_the_reference() -> Vec<(String, String)> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in config::reference().lines() {
        if let Some(title) = line.strip_prefix("### ") {
            title.trim_matches(['`', '[', ']']).clone_into(&mut section);
        } else if let Some(key) = line.strip_prefix("| `").and_then(|rest| rest.split('`').next()) {
            keys.push((section.clone(), key.to_owned()));
        }
    }
    assert!(keys.len() > 60, "{} keys", keys.len());
    keys
}

#[test]
fn every_key_is_in_the_sample() {
    let sample = config::generate();
    let mut section = "The top of the file".to_owned();
    let mut shown = Vec::new();
    for line in sample.lines().filter_map(|line| line.strip_prefix('#')) {
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let words: Vec<&str> = header.split('.').collect();
            section = match words.as_slice() {
                ["repository", _] => "repository.NAME".to_owned(),
                ["repository", _, "tree", _] => "repository.NAME.tree.TREE".to_owned(),
                ["repository", _, "check", _] => "repository.NAME.check.CHECK".to_owned(),
                ["repository", _, rest @ ..] => format!("repository.NAME.{}", rest.join(".")),
                other => other.join("."),
            };
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with(' ')) {
            shown.push((section.clone(), key.to_owned()));
        }
    }
    for key in keys_of_the_reference() {
        assert!(shown.contains(&key), "{key:?} is not in the sample");
    }
}

/// A value of the wrong type is refused at every key: each key of the reference is really read, in its table.
#[test]
fn every_key_is_read() {
    for (section, key) in keys_of_the_reference() {
        let header = match section.as_str() {
            "The top of the file" => String::new(),
            other => {
                format!("[{}]\n", other.replace("NAME", "app").replace("TREE", "t").replace("CHECK", "c"))
            }
        };
        let line = header.lines().count() + 1;
        let text = format!("{header}{key} = 1979-05-27\n");
        let problems = refused(&text).problems();
        let told = problems.iter().any(|problem| {
            problem.line == line
                && problem.column == key.len() + 4
                && problem.message.starts_with("expected ")
        });
        assert!(told, "{key} of [{section}] is not read: {problems:#?}");
    }
}

#[test]
fn the_reference_is_in_the_documentation() {
    let path = project("docs/configuration.md");
    let text = daykeep::fs::read_to_string(&path).expect("can be read");
    let (begin, end) = ("<!-- reference: begin -->\n", "<!-- reference: end -->");
    let (before, rest) = text.split_once(begin).expect("the reference begins");
    let (_, after) = rest.split_once(end).expect("the reference ends");
    let wanted = format!("{before}{begin}\n{}{end}{after}", config::reference());
    assert_eq!(difference(&path, &wanted), None, "run this test with DAYKEEP_ACCEPT=1");
}

const LEAST: &str = r#"
[repository.app]
vault = "/srv/daykeep"
[repository.app.hold.none]
[repository.app.database]
[repository.app.tree.files]
path = "/srv/app"
"#;

#[test]
fn what_is_left_out_has_its_default() {
    let config = parse(LEAST);
    assert_eq!(config.state_dir, Path::new("/var/lib/daykeep"));
    assert_eq!(config.daemon.socket, Path::new("/run/daykeep/daykeep.sock"));
    assert_eq!(config.daemon.group, "daykeep");
    let app = &config.repositories["app"];
    assert_eq!(app.schedule, None);
    assert_eq!(app.keep, Rules { last: 7, daily: 14, weekly: 8, monthly: 12, ..Rules::default() });
    assert_eq!(app.new_base_every, None);
    assert_eq!(app.hold.max, Duration::from_mins(5));
    assert_eq!(app.hold.drain, Duration::from_mins(30));
    assert_eq!(app.hold.on_busy, OnBusy::Skip);
    assert_eq!(app.hold.retry_after, Some(Duration::from_hours(1)));
    let database = app.database.as_ref().expect("has a database");
    assert_eq!(database.server, config::Server::default());
    assert_eq!(database.databases, Databases::AllBut(Vec::new()));
    assert_eq!((database.globals, database.jobs, database.compression), (true, 2, 2));
    assert_eq!(app.limits.tree_jobs, 2);
    assert_eq!(app.limits.min_free, 1_000_000_000);
    assert_eq!(app.limits.min_free_inodes_percent, 1);
    let tree = &app.trees["files"];
    assert_eq!((tree.filters.len(), tree.content_named, tree.one_file_system), (0, false, false));
}

#[test]
fn a_file_from_another_system_is_read_alike() {
    let config = parse(LEAST);
    assert_eq!(parse(&LEAST.replace('\n', "\r\n")), config);
    assert_eq!(parse(&format!("\u{feff}{LEAST}")), config);
    let problems = refused(&format!("\u{feff}stat_dir = \"/x\"\r\n{LEAST}foo = 1\r\n")).problems();
    let places: Vec<_> = problems.iter().map(|problem| (problem.line, problem.column)).collect();
    assert_eq!(places, [(1, 2), (9, 1)], "a byte order mark is the first character");
}

#[test]
fn the_time_zone_is_the_machines_unless_it_is_given() {
    let schedule = |lines: &str| {
        let text = LEAST.replace("vault =", &format!("schedule = \"0  1 * * *\"\n{lines}vault ="));
        parse(&text).repositories["app"].schedule.clone().expect("has a schedule")
    };
    let given = schedule("timezone = \"europe/berlin\"\ncatch_up = false\n");
    assert_eq!((given.cron.as_str(), given.timezone.as_str()), ("0 1 * * *", "Europe/Berlin"));
    assert!(!given.catch_up);
    let machine = jiff::tz::TimeZone::try_system().ok().and_then(|zone| zone.iana_name().map(str::to_owned));
    assert_eq!(schedule("").timezone, machine.unwrap_or_else(|| "UTC".to_owned()));
}

#[test]
fn exceptions_come_before_what_they_are_excepted_from() {
    let rules = "include = [\"/gold/***\"]\nexclude = [\"*\"]\n";
    let config = parse(&format!("{LEAST}{rules}"));
    let filters: Vec<String> = config.repositories["app"].trees["files"]
        .filters
        .iter()
        .map(|rule| format!("{} {}", if rule.include { '+' } else { '-' }, rule.pattern))
        .collect();
    assert_eq!(filters, ["+ /gold/***", "- *"]);
    let same = parse(&format!("{LEAST}filter = [\"+ /gold/***\", \"- *\"]\n"));
    assert_eq!(same.repositories, config.repositories);
}

#[test]
fn what_is_in_force_shows_no_secret_and_every_default() {
    let config = load(&project("config/http-maintenance.toml"));
    let text = config.as_toml();
    assert!(text.contains("credential = \"synapse-token\""), "{text}");
    assert!(text.contains("min_free = \"1 GB\""), "{text}");
    let repository = &config.repositories["synapse"].as_toml;
    assert!(repository.starts_with("[repository.synapse]\n"), "{repository}");
    assert!(text.ends_with(repository.as_str()), "{text}");
}

#[test]
fn a_file_that_is_not_there() {
    let error = config::load(Path::new("/nonexistent/daykeep.toml")).expect_err("it is not there");
    insta::assert_snapshot!(error.render(false), @r"
    error: cannot read /nonexistent/daykeep.toml: No such file or directory (os error 2)
    help: write one with `daykeep config generate`, or name another file with --config
    ");
    assert_eq!(error.problems()[0].line, 0);
}

#[test]
fn a_directory_in_place_of_the_file() {
    let error = config::load(Path::new("/")).expect_err("it is a directory");
    insta::assert_snapshot!(error.render(false), @"error: cannot read /: Is a directory (os error 21)");
}

#[test]
fn a_file_that_may_not_be_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("daykeep.toml");
    daykeep::fs::write_durable(&path, LEAST.as_bytes()).expect("can be written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).expect("can be changed");
    // Root reads everything; this thread alone stops being root for files.
    let myself = nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65534));
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).ok();
    let outcome = config::load(&path);
    nix::unistd::setfsuid(myself);
    let said = outcome.expect_err("it may not be read").render(false);
    let said = said.replace(&directory.path().display().to_string(), "DIR");
    insta::assert_snapshot!(said, @r"
    error: cannot read DIR/daykeep.toml: Permission denied (os error 13)
    help: run as root, or as the user that the daemon runs as
    ");
}

#[test]
fn a_file_that_is_not_text() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("daykeep.toml");
    let text = b"# Gr\xc3\xb6\xc3\x9fe\nstate_dir = \"/var/lib/gr\xf6\xdfe\"\n";
    daykeep::fs::write_durable(&path, text).expect("can be written");
    let error = config::load(&path).expect_err("it is latin-1");
    let said = error.render(false).replace(&directory.path().display().to_string(), "DIR");
    insta::assert_snapshot!(said, @r#"
    error: the file is not UTF-8: the byte 0xf6 is no part of a character here
     --> DIR/daykeep.toml:2:25
      |
    2 | state_dir = "/var/lib/gr��e"
      |                         ^
      |
      = help: save the file as UTF-8
    "#);
}

#[test]
fn errors_for_programs_have_places() {
    let error = refused("state_dir = \"x\"\nfoo = 1\n");
    let json = serde_json::to_string_pretty(&error.problems()).expect("serializes");
    insta::assert_snapshot!(json, @r#"
    [
      {
        "line": 1,
        "column": 1,
        "message": "no repository is configured",
        "help": "write a table [repository.NAME]; `daykeep config generate` shows one"
      },
      {
        "line": 1,
        "column": 13,
        "message": "`x` is not an absolute path",
        "help": "start it with `/`"
      },
      {
        "line": 2,
        "column": 1,
        "message": "unknown key `foo`",
        "help": "the file may have `state_dir`, `daemon`, `repository`"
      }
    ]
    "#);
    insta::assert_snapshot!(error, @"daykeep.toml has 3 errors, the first at 1:1: no repository is configured");
}

#[test]
fn a_terminal_gets_colours_and_the_same_words() {
    let error = refused("state_dir = \"x\"\n");
    let coloured = error.render(true);
    assert!(coloured.contains("\u{1b}["), "{coloured}");
    assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), error.render(false));
}

/// A right file with a stretch of it replaced by something else.
fn spoiled() -> impl Strategy<Value = String> {
    let whole = uncommented(&config::generate());
    let length = whole.len();
    assert!(whole.is_ascii(), "can be cut anywhere");
    let other = prop_oneof![
        Just(String::new()),
        "[\\[\\]{}=\"'.,#\\\\\n ]{1,4}",
        "(\"|\"\"\"|'''|\r\n|\u{feff}|\u{1f5c4}|ä|0|true|\\[\\[)",
        any::<char>().prop_map(String::from),
    ];
    (0..length, 0..40_usize, other).prop_map(move |(start, count, other)| {
        format!("{}{other}{}", &whole[..start], &whole[(start + count).min(length)..])
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is wrong, it is told with a place in the file; what is taken can be written and read again.
    #[test]
    fn no_mistake_is_too_strange_to_be_told(text in spoiled()) {
        match config::parse(Path::new("daykeep.toml"), &text) {
            Ok(config) => assert_eq!(parse(&config.as_toml()), config),
            Err(error) => {
                let lines = text.lines().count() + 1;
                let said = error.render(false);
                for problem in error.problems() {
                    assert!((1..=lines).contains(&problem.line) && problem.column >= 1, "{problem:?}");
                    let place = format!("daykeep.toml:{}:{}", problem.line, problem.column);
                    assert!(said.contains(&place), "{place} is not in\n{said}");
                }
            }
        }
    }
}

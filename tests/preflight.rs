//! What can be known to go wrong is told before anything is held: the scheduler never notices.
#![allow(missing_docs, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use support::repository::{NAME, Repository};

/// Runs with `more` in the configuration, which must fail without a pause; what the error says, and what the probes say of it.
fn refused(repository: &Repository, more: &str) -> (String, String) {
    repository.configure(more);
    let scheduler = repository.fossology.pid().expect("the scheduler runs");
    let run = repository.daykeep(&["run", NAME]).output().unwrap();
    let told = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(1), "{told}");
    assert!(!told.contains("holding the repository"), "{told}");
    assert_eq!(repository.fossology.pid(), Some(scheduler), "the scheduler was stopped\n{told}");
    let probes = repository.daykeep(&["config", "check"]).output().unwrap();
    assert_eq!(probes.status.code(), Some(1));
    let error = told.lines().find(|line| line.starts_with("error: ")).unwrap_or_default().to_owned();
    (error, String::from_utf8_lossy(&probes.stdout).into_owned())
}

fn check(query: &str) -> String {
    format!(
        "[repository.{NAME}.check.own]\ndatabase = \"fossology\"\ntree = \"repository\"\nquery = \"{query}\"\n"
    )
}

#[test]
fn a_query_that_the_server_does_not_understand_is_told_before_the_hold() {
    let repository = Repository::new(&[], "");
    let (error, probes) = refused(&repository, &check("select path from nowhere"));
    assert!(error.contains("relation \"nowhere\" does not exist"), "{error}");
    assert!(probes.contains("FAIL") && probes.contains("check own: "), "{probes}");

    let (error, probes) = refused(&repository, &check("select upload_pk from upload"));
    let wanted = "cross-check own: the first column must be the path as text, relative to the tree, not int4";
    assert!(error.contains(wanted), "{error}");
    assert!(probes.contains(wanted), "{probes}");

    repository.configure(&check("select 'no-such-file' from upload limit 1"));
    let run = repository.daykeep(&["run", NAME]).output().unwrap();
    let told = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(told.contains("cross-check own: 1 of 1 rows have no file"), "{told}");
    repository.configure(&(check("select 'no-such-file' from upload limit 1") + "allow_missing = 1\n"));
    repository.run();
}

#[test]
fn a_vault_that_a_symbolic_link_hides_in_a_tree_is_refused() {
    let repository = Repository::new(&[], "");
    let outside = repository.path("vault");
    let inside = repository.path("repository/vault");
    std::fs::rename(&outside, &inside).unwrap();
    std::os::unix::fs::symlink(&inside, &outside).unwrap();
    let (error, probes) = refused(&repository, "");
    assert!(error.contains("is inside the tree"), "{error}");
    assert!(probes.contains("is inside the tree"), "{probes}");
}

//! Drills of real days: a good one is proven and leaves nothing behind, a day that lost something is not, and a drill that is killed
//! leaves nothing that the next one does not remove.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;

use std::process::Output;

use daykeep::vault::{ProofKind, proven};
use serde_json::Value;
use support::shop::{NAME, Shop, said};

const CHECK: &str = "
[repository.shop.check.documents]
database = \"shop\"
tree = \"files\"
query = \"select path, size::bigint, 'upload ' || id from document\"
";
/// Rows that name files of the tree.
const DOCUMENTS: &str = "
    CREATE TABLE document (id int PRIMARY KEY, path text NOT NULL, size int);
    INSERT INTO document VALUES (1, 'one', 25), (2, 'two', 25), (3, 'deep/er/file', NULL);
";

/// A shop with one day whose rows ask for files.
fn shop() -> Shop {
    let shop = Shop::new(CHECK);
    shop.server.psql("shop", DOCUMENTS);
    shop.run();
    shop
}

/// What is in the scratch directory of the configuration.
fn scratch_of(shop: &Shop) -> Vec<String> {
    let Ok(names) = fs::read_dir(shop.path("state/shop/drill")) else { return Vec::new() };
    let mut names: Vec<String> = names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != ".lock");
    names.sort();
    names
}

/// Processes that were started for a scratch directory.
#[allow(dead_code)]
fn processes(shop: &Shop) -> Vec<String> {
    // Every one bears the name of its directory, which tells the process that made it: those of other tests are not ours.
    let all = daykeep::process::all().unwrap();
    let home = shop.home.path().display().to_string();
    all.into_iter()
        .map(|process| process.argv.join(" "))
        .filter(|command| command.contains("scratch-") && command.contains(&home))
        .collect()
}

#[allow(dead_code)]
fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

#[allow(dead_code)]
fn findings(output: &Output) -> Vec<String> {
    let document = document(output);
    let findings = document["findings"].as_array().unwrap_or_else(|| panic!("{}", said(output)));
    findings.iter().map(|finding| finding.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_good_day_is_proven_and_nothing_is_left_behind() {
    let shop = shop();
    let log = shop.server.log();
    let output = shop.output(&["drill"]);
    assert!(output.status.success(), "{}", said(&output));
    let text = said(&output);
    for part in
        ["is proven", "every byte held against its digest", "cross-check documents: 3 rows", "recovery"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(scratch_of(&shop), [""; 0]);
    assert_eq!(shop.server.log(), log, "the live server was not spoken to");
    let day = &shop.days()[0];
    let proofs = shop.vault().proofs(day.name()).unwrap();
    let proof = proven(&proofs).unwrap_or_else(|| panic!("{proofs:?}"));
    assert!(proof.kind == ProofKind::Drill && proof.ok && proof.seconds.database > 0.0, "{proof:?}");
    assert!(proof.seconds.total >= proof.seconds.database + proof.seconds.trees, "{proof:?}");
}

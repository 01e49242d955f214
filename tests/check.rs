//! The cross-check of the live repository: what is missing is named, and what could not be asked is told for what it is.
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;

use support::shop::{Shop, said};

#[test]
fn each_failure_comes_with_what_to_do_about_it() {
    let mut shop = Shop::with_documents();
    let told = said(&shop.output(&["check"]));
    assert!(told.starts_with("check documents: 3 rows, 0 without a file\n"), "{told}");
    let failed = |shop: &Shop| {
        let output = shop.output(&["check"]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        said(&output)
    };

    fs::rename(shop.tree().join("two"), shop.path("two")).unwrap();
    let told = failed(&shop);
    assert!(told.contains("two, of upload 2") && told.contains("check again before you restore"), "{told}");
    fs::rename(shop.path("two"), shop.tree().join("two")).unwrap();

    let no_files = "hint: no row was looked at: the tree cannot be read; if it is lost, \
                    `daykeep restore shop latest --only trees --plan` shows";
    fs::rename(shop.tree(), shop.path("away")).unwrap();
    let told = failed(&shop);
    assert!(told.contains(no_files) && !told.contains("check again"), "{told}");
    fs::rename(shop.path("away"), shop.tree()).unwrap();

    let no_rows = "hint: no row was looked at: the database does not answer; if it is lost, \
                   `daykeep restore shop latest --only database --plan` shows";
    shop.server.psql("postgres", "ALTER DATABASE shop RENAME TO lost");
    let told = failed(&shop);
    assert!(told.contains(no_rows) && !told.contains("check again"), "{told}");
    shop.server.psql("postgres", "ALTER DATABASE lost RENAME TO shop");

    shop.server.stop();
    let told = failed(&shop);
    assert!(told.contains(no_rows) && !told.contains("check again"), "{told}");
}

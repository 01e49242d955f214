//! docs/promises.md and docs/threats.md: every test that they name exists, and every promise of this version names one.
#![allow(missing_docs, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "a test reads its own files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use syn::visit::Visit;

const PAGE: &str = include_str!("../docs/promises.md");
const THREATS: &str = include_str!("../docs/threats.md");
/// All of them, in their order.
const PROMISES: [&str; 9] = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// The test functions of a file.
#[derive(Default)]
struct Tests(BTreeSet<String>);

impl<'ast> Visit<'ast> for Tests {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        let is_test = |attribute: &syn::Attribute| {
            attribute.path().segments.last().is_some_and(|segment| segment.ident == "test")
        };
        if item.attrs.iter().any(is_test)
            && !item.attrs.iter().any(|attribute| attribute.path().is_ident("ignore"))
        {
            self.0.insert(item.sig.ident.to_string());
        }
        syn::visit::visit_item_fn(self, item);
    }
}

/// What stands between backticks and has `::` in it.
fn named(text: &str) -> Vec<(&str, &str)> {
    text.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")).collect()
}

fn tests_of(file: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(format!("{file}.rs"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut tests = Tests::default();
    tests.visit_file(&syn::parse_file(&text).unwrap());
    tests.0
}

#[test]
fn every_test_that_is_named_exists() {
    for (page, text, least) in [("promises", PAGE, 30), ("threats", THREATS, 15)] {
        let mut looked_at = 0;
        for (file, test) in named(text).into_iter().filter(|(file, _)| *file != "file") {
            assert!(tests_of(file).contains(test), "docs/{page}.md names {file}::{test}, which is no test");
            looked_at += 1;
        }
        assert!(looked_at > least, "docs/{page}.md names only {looked_at} tests");
    }
}

#[test]
fn every_promise_says_how_what_not_and_by_which_test() {
    let sections: Vec<&str> = PAGE.split("\n## ").skip(1).collect();
    let numbers: Vec<&str> = sections.iter().map(|section| section.split('.').next().unwrap()).collect();
    assert_eq!(numbers, PROMISES);
    for section in sections {
        let place = |word: &str| section.find(word).unwrap_or_else(|| panic!("no {word} in: {section}"));
        let (how, not, proof) = (place("**How.**"), place("**Not covered.**"), place("**Proved by**"));
        assert!(how < not && not < proof, "{section}");
        assert!(!named(&section[proof..]).is_empty(), "no test in: {section}");
    }
}

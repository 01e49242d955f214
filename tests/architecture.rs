//! The layers of ARCHITECTURE.md, enforced: this test reads the table from there, reads every file below `src` with `syn`, and
//! fails on imports that go up or sideways, on glob imports (they hide dependencies), and on `super::super`.
//!
//! A path counts wherever it stands: in `use`, in an expression, a type, an attribute's arguments or the arguments of a macro.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the test reads the project's own files")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::buffer::{Cursor, TokenBuffer};
use syn::visit::{self, Visit};

/// The rank of every module: 0 is the top row.
type Layers = BTreeMap<String, usize>;

/// Reads the rows of the table under "Layers": the names in backquotes in a row's last cell.
fn layers_of(document: &str) -> Layers {
    let rows = document
        .lines()
        .skip_while(|line| !line.starts_with("| layer |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut layers = Layers::new();
    for (rank, row) in rows.enumerate() {
        let cell = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        for name in cell.split('`').skip(1).step_by(2) {
            assert_eq!(layers.insert(name.to_owned(), rank), None, "`{name}` stands in two rows");
        }
    }
    layers
}

/// What is wrong with one file.
struct Examiner<'a> {
    layers: &'a Layers,
    /// Where the code stands: `["run", "freeze"]`; empty in `lib.rs` and in the programs.
    module: Vec<String>,
    violations: BTreeSet<String>,
}

impl Examiner<'_> {
    /// Judges one path of the code.
    fn judge(&mut self, path: &[String]) {
        let shown = path.join("::");
        if path.starts_with(&["super".to_owned(), "super".to_owned()]) {
            self.violations.insert(format!("{shown}: climbs with super::super"));
        }
        let Some(target) = self.resolve(path) else { return };
        let Some(own) = self.module.first().cloned() else { return };
        match target.first() {
            None => {
                self.violations.insert(format!("{shown}: the crate's root as a whole hides what is used"));
            }
            Some(name) if *name == own => {}
            Some(name) => match (self.layers.get(&own), self.layers.get(name)) {
                (Some(from), Some(to)) if from > to => {
                    self.violations.insert(format!("{shown}: `{own}` imports upward from `{name}`"));
                }
                (Some(from), Some(to)) if from == to => {
                    self.violations.insert(format!("{shown}: `{own}` imports sideways from `{name}`"));
                }
                _ => {}
            },
        }
    }

    /// The path from the crate's root, if it is a path into this crate.
    fn resolve(&self, path: &[String]) -> Option<Vec<String>> {
        let (mut base, mut rest) = match path.first()?.as_str() {
            "crate" | "daykeep" => (Vec::new(), &path[1..]),
            "self" if path.len() > 1 => (self.module.clone(), &path[1..]),
            "super" => (self.module.clone(), path),
            _ => return None,
        };
        while rest.first().is_some_and(|segment| segment == "super") {
            base.pop();
            rest = &rest[1..];
        }
        base.extend(rest.iter().filter(|segment| *segment != "self").cloned());
        Some(base)
    }

    fn judge_use(&mut self, tree: &syn::UseTree, prefix: &mut Vec<String>) {
        match tree {
            syn::UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.judge_use(&path.tree, prefix);
                prefix.pop();
            }
            syn::UseTree::Name(syn::UseName { ident })
            | syn::UseTree::Rename(syn::UseRename { ident, .. }) => {
                prefix.push(ident.to_string());
                self.judge(prefix);
                prefix.pop();
            }
            syn::UseTree::Glob(_) => {
                self.violations.insert(format!("{}::*: a glob import", prefix.join("::")));
                self.judge(prefix);
            }
            syn::UseTree::Group(group) => {
                for item in &group.items {
                    self.judge_use(item, prefix);
                }
            }
        }
    }

    /// Finds paths among the arguments of a macro, which `syn` leaves as tokens.
    fn judge_tokens(&mut self, mut cursor: Cursor<'_>) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        loop {
            if let Some((ident, next)) = cursor.ident() {
                if colons != 2 {
                    self.judge_taken(&mut path);
                }
                path.push(ident.to_string());
                (cursor, colons) = (next, 0);
            } else if let Some((punct, next)) = cursor.punct() {
                colons = if punct.as_char() == ':' { colons + 1 } else { 0 };
                if colons == 0 {
                    self.judge_taken(&mut path);
                }
                cursor = next;
            } else if let Some((inside, _, _, next)) = cursor.any_group() {
                self.judge_taken(&mut path);
                self.judge_tokens(inside);
                (cursor, colons) = (next, 0);
            } else if let Some((_, next)) = cursor.token_tree() {
                self.judge_taken(&mut path);
                (cursor, colons) = (next, 0);
            } else {
                break;
            }
        }
        self.judge_taken(&mut path);
    }

    fn judge_taken(&mut self, path: &mut Vec<String>) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.judge(&path);
        }
    }
}

impl<'ast> Visit<'ast> for Examiner<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.judge_use(&item.tree, &mut Vec::new());
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.judge(&segments);
        }
        visit::visit_path(self, path);
    }

    // `pub(in crate::x)` opens to a module, it does not use it.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.judge_tokens(TokenBuffer::new2(call.tokens.clone()).begin());
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.judge_tokens(TokenBuffer::new2(list.tokens.clone()).begin());
    }
}

/// Everything that is wrong with `source`, which stands in `module`.
fn violations_in(layers: &Layers, module: &[&str], source: &str) -> Vec<String> {
    let file = syn::parse_file(source).expect("the source parses");
    let module = module.iter().map(|&name| name.to_owned()).collect();
    let mut examiner = Examiner { layers, module, violations: BTreeSet::new() };
    examiner.visit_file(&file);
    examiner.violations.into_iter().collect()
}

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn layers() -> Layers {
    layers_of(&std::fs::read_to_string(project().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there"))
}

fn sources_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("the directory is readable") {
        let path = entry.expect("the directory is readable").path();
        if path.is_dir() {
            sources_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
}

/// `src/run/freeze.rs` is `run::freeze`, `src/run/mod.rs` is `run`, `src/lib.rs` and the programs stand above all.
fn module_of(relative: &Path) -> Vec<String> {
    let names: Vec<String> = relative
        .with_extension("")
        .iter()
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name != "mod")
        .collect();
    if names.first().is_some_and(|name| name == "bin" || name == "lib") { Vec::new() } else { names }
}

#[test]
fn imports_go_down_only() {
    let layers = layers();
    let (root, mut files) = (project().join("src"), Vec::new());
    sources_below(&root, &mut files);
    let mut found = Vec::new();
    for file in &files {
        let relative = file.strip_prefix(&root).expect("it is below src");
        let module = module_of(relative);
        let module: Vec<&str> = module.iter().map(String::as_str).collect();
        let source = std::fs::read_to_string(file).expect("the source is readable");
        found.extend(
            violations_in(&layers, &module, &source)
                .into_iter()
                .map(|violation| format!("src/{}: {violation}", relative.display())),
        );
    }
    assert!(found.is_empty(), "{} violations of ARCHITECTURE.md:\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_module_has_a_row() {
    let library = std::fs::read_to_string(project().join("src/lib.rs")).expect("src/lib.rs is there");
    let modules: BTreeSet<String> = syn::parse_file(&library)
        .expect("src/lib.rs parses")
        .items
        .into_iter()
        .filter_map(|item| match item {
            syn::Item::Mod(item) => Some(item.ident.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(modules, layers().into_keys().collect(), "src/lib.rs and the table of ARCHITECTURE.md differ");
}

/// The examination itself is examined: each planted violation is caught, and what is allowed passes.
mod planted {
    use super::{layers, violations_in};

    fn in_tree(source: &str) -> Vec<String> {
        violations_in(&layers(), &["tree", "walk"], source)
    }

    #[test]
    fn upward_imports_are_caught() {
        assert_eq!(
            in_tree("use crate::run::backup;"),
            ["crate::run::backup: `tree` imports upward from `run`"]
        );
        assert_eq!(in_tree("use daykeep::cli;"), ["daykeep::cli: `tree` imports upward from `cli`"]);
    }

    #[test]
    fn sideways_imports_are_caught_in_every_spelling() {
        let sideways = |path: &str| vec![format!("{path}: `tree` imports sideways from `vault`")];
        assert_eq!(in_tree("use crate::vault::Vault;"), sideways("crate::vault::Vault"));
        assert_eq!(in_tree("use crate::vault as v;"), sideways("crate::vault"));
        assert_eq!(in_tree("use crate::{fs, vault::{Day, Vault}};").len(), 2);
        assert_eq!(in_tree("fn f() { crate::vault::open(); }"), sideways("crate::vault::open"));
        assert_eq!(in_tree("fn f(x: crate::vault::Day) {}"), sideways("crate::vault::Day"));
        assert_eq!(in_tree("fn f() { g::<Vec<crate::vault::Day>>(); }"), sideways("crate::vault::Day"));
        assert_eq!(in_tree("fn f() { println!(\"{}\", crate::vault::N); }"), sideways("crate::vault::N"));
        assert_eq!(in_tree("fn f() { a!(b, { c![crate::vault::N, 1] }); }"), sideways("crate::vault::N"));
        assert_eq!(in_tree("#[serde(with(crate::vault::form))] struct S;"), sideways("crate::vault::form"));
        assert_eq!(in_tree("impl crate::vault::Sink for S {}"), sideways("crate::vault::Sink"));
        assert_eq!(in_tree("pub use crate::vault::Day;"), sideways("crate::vault::Day"));
        assert_eq!(in_tree("mod deep { fn f() { crate::vault::x() } }"), sideways("crate::vault::x"));
    }

    #[test]
    fn super_does_not_lead_around() {
        let found = violations_in(&layers(), &["tree"], "use super::vault::Day;");
        assert_eq!(found, ["super::vault::Day: `tree` imports sideways from `vault`"]);
        let found = in_tree("use super::super::fs::Error;");
        assert_eq!(found, ["super::super::fs::Error: climbs with super::super"]);
        assert_eq!(in_tree("fn f() { super::super::x(); }"), ["super::super::x: climbs with super::super"]);
    }

    #[test]
    fn globs_are_caught() {
        assert_eq!(in_tree("use crate::fs::*;"), ["crate::fs::*: a glob import"]);
        assert_eq!(in_tree("mod tests { use super::*; }"), ["super::*: a glob import"]);
        assert_eq!(in_tree("use std::{io::*, fs};"), ["std::io::*: a glob import"]);
        assert_eq!(in_tree("use crate::*;").len(), 2);
    }

    #[test]
    fn the_root_as_a_whole_is_caught() {
        let found = in_tree("use crate as everything;");
        assert_eq!(found, ["crate: the crate's root as a whole hides what is used"]);
    }

    #[test]
    fn what_is_allowed_passes() {
        let source = r#"
            use std::collections::BTreeMap;
            use crate::config::Tree;
            use crate::{event::Context, fs, manifest::{self, FileRecord}};
            use super::copy::Copier;
            pub(in crate::tree) fn f() -> crate::clock::SharedClock {
                println!("crate::vault::x in a text, {}", crate::tree::N);
                self::g()
            }
            mod tests { use super::f; }
        "#;
        assert_eq!(in_tree(source), [""; 0]);
        assert_eq!(violations_in(&layers(), &[], "use crate::vault::Vault; use daykeep::cli;"), [""; 0]);
    }
}

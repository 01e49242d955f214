//! A commented configuration with every key in it: `daykeep config generate`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::config::key::{Absent, Key, Section};
use crate::config::read::{
    CHECK, COMMAND, DAEMON, DATABASE, DRILL, FOSSOLOGY, HOLD, HTTP, KEEP, LIMITS, NONE, REPOSITORY, ROOT,
    SYSTEMD, TREE, VERIFY,
};

/// Lines are not longer than this.
const WIDTH: usize = 100;

const HEAD: &str = "daykeep's configuration. Lines that begin with `#` and a letter or bracket are examples: remove \
    the `#` of those you need. What is left out has its default. `daykeep config check` tells what is wrong.";

/// Keys that cannot stand beside others of their table: shown in the further examples.
const ALTERNATIVES: [&str; 6] =
    ["service", "servicefile", "password_credential", "except", "filter", "query"];

/// A configuration in which everything is a comment, with every key, its meaning and an example. With the `#` before
/// names and brackets removed it is a right configuration of five repositories.
#[must_use]
pub fn generate() -> String {
    let mut sample = Sample::default();
    sample.prose(HEAD);
    sample.keys(&ROOT, |_| true, &[]);
    sample.table("daemon", &DAEMON, |_| true, &[]);
    fossology(&mut sample);
    units(&mut sample);
    sample.gap();
    sample.prose("A third repository, held by commands.");
    let only_vault = |key: &Key| key.name == "vault";
    sample.table("repository.queue", &REPOSITORY, only_vault, &[]);
    sample.table("repository.queue.hold.command", &COMMAND, |_| true, &[]);
    let path = |value| [("path", value)];
    let only_path = |key: &Key| key.name == "path";
    sample.table("repository.queue.tree.spool", &TREE, only_path, &path("\"/var/spool/app\""));
    sample.gap();
    sample.prose("A fourth repository, held by a maintenance switch behind HTTP.");
    sample.table("repository.synapse", &REPOSITORY, only_vault, &[]);
    sample.table("repository.synapse.hold.http", &HTTP, |_| true, &[]);
    sample.table("repository.synapse.tree.files", &TREE, only_path, &path("\"/srv/synapse\""));
    sample.gap();
    sample.prose("A fifth repository, that nobody changes at night.");
    sample.table("repository.archive", &REPOSITORY, only_vault, &[]);
    sample.table("repository.archive.hold.none", &NONE, |_| true, &[]);
    sample.table("repository.archive.tree.files", &TREE, only_path, &path("\"/srv/archive\""));
    sample.text
}

/// Everything but the alternatives.
fn fossology(sample: &mut Sample) {
    let own = "repository.fossology";
    let usual = |key: &Key| !ALTERNATIVES.contains(&key.name);
    sample.table(own, &REPOSITORY, |_| true, &[]);
    let keep = [("last", "7"), ("daily", "14"), ("weekly", "8"), ("monthly", "12")];
    sample.table(&format!("{own}.keep"), &KEEP, |_| true, &keep);
    sample.table(&format!("{own}.hold"), &HOLD, |_| true, &[]);
    sample.table(&format!("{own}.hold.fossology"), &FOSSOLOGY, |_| true, &[]);
    sample.table(&format!("{own}.database"), &DATABASE, usual, &[]);
    sample.table(&format!("{own}.tree.files"), &TREE, usual, &[("content_named", "true")]);
    sample.table(&format!("{own}.check.files"), &CHECK, usual, &[]);
    sample.table(&format!("{own}.verify"), &VERIFY, |_| true, &[]);
    sample.table(&format!("{own}.drill"), &DRILL, |_| true, &[]);
    sample.table(&format!("{own}.limits"), &LIMITS, |_| true, &[]);
}

/// The alternatives.
fn units(sample: &mut Sample) {
    let own = "repository.app";
    let other = |key: &Key| ALTERNATIVES.contains(&key.name);
    sample.gap();
    sample
        .prose("Another repository, held by stopping systemd units, with the other ways to say some things.");
    sample.table(own, &REPOSITORY, |key| key.name == "vault", &[]);
    sample.table(&format!("{own}.hold.systemd"), &SYSTEMD, |_| true, &[]);
    sample.table(&format!("{own}.database"), &DATABASE, other, &[]);
    let tree = |key: &Key| other(key) || key.name == "path";
    sample.table(&format!("{own}.tree.attachments"), &TREE, tree, &[("path", "\"/srv/app/attachments\"")]);
    let check = |key: &Key| other(key) || key.name == "database" || key.name == "tree";
    let values = [("database", "\"app\""), ("tree", "\"attachments\"")];
    sample.table(&format!("{own}.check.attachments"), &CHECK, check, &values);
}

#[derive(Debug, Default)]
struct Sample {
    text: String,
    told: BTreeSet<&'static str>,
}

impl Sample {
    fn gap(&mut self) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
    }

    fn prose(&mut self, text: &str) {
        for line in wrapped(text) {
            // Writing to a String cannot fail.
            let _ = writeln!(self.text, "# {line}");
        }
    }

    /// A table with those of its keys that `wanted` takes. What is told of a section or key is told once.
    fn table(
        &mut self,
        header: &str,
        section: &'static Section,
        wanted: impl Fn(&Key) -> bool,
        values: &[(&str, &str)],
    ) {
        self.gap();
        if self.told.insert(section.doc) {
            self.prose(section.doc);
        }
        let _ = writeln!(self.text, "#[{header}]");
        self.keys(section, wanted, values);
    }

    fn keys(&mut self, section: &'static Section, wanted: impl Fn(&Key) -> bool, values: &[(&str, &str)]) {
        for key in section.keys.iter().filter(|key| wanted(key)) {
            if self.told.insert(key.doc) {
                self.gap();
                self.prose(key.doc);
                match key.absent {
                    Absent::Refused => self.prose("Required."),
                    Absent::Default(default) => self.prose(&format!("Default: {default}")),
                    Absent::Means(means) => self.prose(&format!("Without it: {means}.")),
                }
            }
            let value =
                values.iter().find(|(name, _)| *name == key.name).map_or(key.sample, |(_, value)| value);
            let _ = writeln!(self.text, "#{} = {value}", key.name);
        }
    }
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

//! `[repository.NAME.tree.TREE]` and `[repository.NAME.check.CHECK]`

use std::collections::BTreeMap;
use std::ops::Range;

use crate::config::across::Thing;
use crate::config::key::{Key, Kind, Section};
use crate::config::read::database::refuse_both;
use crate::config::read::filter;
use crate::config::read::table::Table;
use crate::config::value::{Value, nearest};
use crate::config::{Check, CheckQuery, Database, Databases, Filter, Tree};

const PATH: Key = Key::required(
    "path",
    Kind::Path,
    "\"/srv/fossology/repository\"",
    "The root of the tree. What it leads to is copied if it is a symbolic link; links below it are copied as links.",
);
const INCLUDE: Key = Key::optional(
    "include",
    Kind::Texts,
    "no exceptions from `exclude`",
    "[\"/report/*.I\"]",
    "Patterns that are kept although a pattern of `exclude` matches them. See the rules of patterns below.",
);
const EXCLUDE: Key = Key::optional(
    "exclude",
    Kind::Texts,
    "everything is kept",
    "[\"*.I\", \"/*/ununpack/\", \"/*/wget/\"]",
    "Patterns that are not kept. A directory that is not kept is not entered.",
);
const FILTER: Key = Key::optional(
    "filter",
    Kind::Texts,
    "`include` and `exclude` say what is kept",
    "[\"+ /gold/***\", \"- *\"]",
    "Rules in order, each `+ PATTERN` or `- PATTERN`; the first that matches decides, and what none matches is kept. \
     In place of `include` and `exclude`.",
);
const CONTENT_NAMED: Key = Key::defaulted(
    "content_named",
    Kind::Switch,
    "false",
    "File names are digests of their content, as in FOSSology's repository: a file of the same name and size is \
     unchanged, whatever its times say.",
);
const ONE_FILE_SYSTEM: Key =
    Key::defaulted("one_file_system", Kind::Switch, "false", "Do not enter what is mounted inside the tree.");

/// `[repository.NAME.tree.TREE]`
pub(crate) static TREE: Section = Section {
    name: "tree",
    named: Some("TREE"),
    doc: "A directory that is kept with everything in it.",
    keys: &[PATH, INCLUDE, EXCLUDE, FILTER, CONTENT_NAMED, ONE_FILE_SYSTEM],
    sections: &[],
};

const BUILTIN: Key = Key::optional(
    "builtin",
    Kind::Word(&["fossology"]),
    "`query` says what is asked",
    "\"fossology\"",
    "A check that daykeep knows: \"fossology\" looks for a file of every row of `pfile` in `files`, and of every \
     upload in `gold`.",
);
const QUERY: Key = Key::optional(
    "query",
    Kind::Text,
    "`builtin` says what is asked",
    "\"SELECT path, size, 'attachment ' || id FROM attachment\"",
    "A query that yields a path (text, relative to the tree), and if you like the file's size in bytes and a text that \
     says what is hurt when the file is missing. In place of `builtin`.",
);
const CHECK_DATABASE: Key = Key::optional(
    "database",
    Kind::Text,
    "`fossology` for the builtin; `query` needs it",
    "\"fossology\"",
    "The database that is asked.",
);
const CHECK_TREE: Key = Key::required("tree", Kind::Text, "\"files\"", "The tree that must hold the files.");
const DEPTH: Key = Key::defaulted(
    "depth",
    Kind::Number(1, 10),
    "3",
    "For the builtin: levels of directories in the repository (`depth` in fossology.conf).",
);
const HOSTS: Key = Key::defaulted(
    "hosts",
    Kind::Texts,
    "[\"localhost\"]",
    "For the builtin: the host directories in the tree ([REPOSITORY] in fossology.conf). A file may be in any of them.",
);
const FILES: Key = Key::defaulted(
    "files",
    Kind::Switch,
    "true",
    "For the builtin: look at `files` too. Write false when only gold is kept.",
);
const ALLOW_MISSING: Key = Key::defaulted(
    "allow_missing",
    Kind::Number(0, 1_000_000_000),
    "0",
    "How many rows may be without their file: the number that the repository itself has lost already. One more fails the run.",
);

/// `[repository.NAME.check.CHECK]`
pub(crate) static CHECK: Section = Section {
    name: "check",
    named: Some("CHECK"),
    doc: "A cross-check: every row's file is in the day, or the day is not sealed.",
    keys: &[BUILTIN, QUERY, CHECK_DATABASE, CHECK_TREE, ALLOW_MISSING, DEPTH, HOSTS, FILES],
    sections: &[],
};

/// The trees by name; each root is given to `claim`.
pub(crate) fn trees(
    repository: &Table<'_>,
    claim: &mut dyn FnMut(Thing, Range<usize>),
) -> Option<BTreeMap<String, Tree>> {
    let mut trees = Some(BTreeMap::new());
    for (name, table) in repository.named(&TREE) {
        match (tree(&name, &table, claim), trees.as_mut()) {
            (Some(tree), Some(trees)) => {
                trees.insert(name, tree);
            }
            _ => trees = None,
        }
    }
    trees
}

fn tree(name: &str, table: &Table<'_>, claim: &mut dyn FnMut(Thing, Range<usize>)) -> Option<Tree> {
    table.refuse_unknown();
    let path = table.get(&PATH, Value::path);
    if let Some(path) = &path {
        claim(Thing::Tree(name.to_owned(), path.clone()), table.place_of_value(&PATH));
    }
    let filters = filters(table);
    let content_named = table.get(&CONTENT_NAMED, Value::switch);
    let one_file_system = table.get(&ONE_FILE_SYSTEM, Value::switch);
    Some(Tree {
        name: name.to_owned(),
        path: path?,
        filters: filters?,
        content_named: content_named?,
        one_file_system: one_file_system?,
    })
}

fn filters(table: &Table<'_>) -> Option<Vec<Filter>> {
    let patterns = |include: bool| {
        move |value: &Value<'_>| value.list(Kind::Texts, |item| filter::pattern(item, include))
    };
    let include = table.get_optional(&INCLUDE, patterns(true));
    let exclude = table.get_optional(&EXCLUDE, patterns(false));
    let rules = table.get_optional(&FILTER, |value| value.list(Kind::Texts, filter::rule));
    for key in [&INCLUDE, &EXCLUDE] {
        refuse_both(table, &FILTER, key, "the rules of `filter` are in order: write these as rules too");
    }
    if table.has(INCLUDE.name) && !table.has(EXCLUDE.name) && !table.has(FILTER.name) {
        table.source.fault_of_whole(
            table.place_of(INCLUDE.name),
            "`include` without `exclude` does nothing: everything is kept already",
            Some("to keep nothing else, write exclude = [\"*\"] too".to_owned()),
        );
    }
    let lists = [rules?, include?, exclude?];
    Some(lists.into_iter().flatten().flatten().collect())
}

/// The cross-checks by name.
pub(crate) fn checks(
    repository: &Table<'_>,
    database: Option<&Option<Database>>,
) -> Option<BTreeMap<String, Check>> {
    let trees: Vec<String> = repository.named_keys(&TREE);
    let mut checks = Some(BTreeMap::new());
    for (name, table) in repository.named(&CHECK) {
        if !repository.has("database") {
            table.source.fault_of_whole(
                table.span.clone(),
                format!("{} asks the database, but there is none", table.header()),
                Some(format!("write a table {}", repository.header_of("database"))),
            );
        }
        match (check(&name, &table, &trees, database.and_then(Option::as_ref)), checks.as_mut()) {
            (Some(check), Some(checks)) => {
                checks.insert(name, check);
            }
            _ => checks = None,
        }
    }
    checks
}

fn check(name: &str, table: &Table<'_>, trees: &[String], database: Option<&Database>) -> Option<Check> {
    table.refuse_unknown();
    let builtin = table.get_optional(&BUILTIN, |value| value.word(&["fossology"]));
    let sql = table.get_optional(&QUERY, query);
    refuse_both(table, &BUILTIN, &QUERY, "remove one of the two");
    let tree = table.get(&CHECK_TREE, |value| known_tree(value, trees));
    let asked = table.get_optional(&CHECK_DATABASE, |value| dumped(value, database));
    let depth = table.get(&DEPTH, |value| value.number(1, 10));
    let hosts = table.get(&HOSTS, hosts);
    let files = table.get(&FILES, Value::switch);
    let allowed = table.get(&ALLOW_MISSING, |value| value.number(0, 1_000_000_000));
    let (query, usual_database) = match (sql?, builtin?) {
        (Some(sql), _) => {
            refuse_for_query(table);
            (CheckQuery::Sql(sql), None)
        }
        (None, Some(_)) => (
            CheckQuery::Fossology { depth: u32::try_from(depth?).ok()?, hosts: hosts?, files: files? },
            Some("fossology"),
        ),
        (None, None) => {
            table.source.fault_of_whole(
                table.span.clone(),
                format!("{} says neither `builtin` nor `query`", table.header()),
                Some(format!("write {} = {} or a query", BUILTIN.name, BUILTIN.sample)),
            );
            return None;
        }
    };
    let Some(database) = asked?.or_else(|| usual_database.map(str::to_owned)) else {
        table.source.fault_of_whole(
            table.span.clone(),
            format!("{} has a `query`, but no `database` to ask", table.header()),
            Some(format!("write {} = {}", CHECK_DATABASE.name, CHECK_DATABASE.sample)),
        );
        return None;
    };
    Some(Check { name: name.to_owned(), database, tree: tree?, query, allow_missing: allowed? })
}

fn known_tree(value: &Value<'_>, trees: &[String]) -> Option<String> {
    let tree = value.text()?;
    if trees.contains(&tree) {
        return Some(tree);
    }
    let help = nearest(&tree, trees.iter().map(String::as_str))
        .map(|known| format!("did you mean \"{known}\"?"))
        .or_else(|| (!trees.is_empty()).then(|| format!("there are {}", trees.join(", "))));
    value.wrong(format!("this repository has no tree `{tree}`"), help)
}

/// The name of a database that is kept.
fn dumped(value: &Value<'_>, database: Option<&Database>) -> Option<String> {
    let name = value.text()?;
    let reason = match database.map(|database| &database.databases) {
        Some(Databases::Only(only)) if !only.contains(&name) => "`only` does not have it",
        Some(Databases::AllBut(except)) if except.contains(&name) => "`except` has it",
        _ => return Some(name),
    };
    value.wrong(
        format!("the database `{name}` is not dumped: {reason}"),
        "a check is made against what is kept: dump that database too".to_owned(),
    )
}

fn refuse_for_query(table: &Table<'_>) {
    for key in [&DEPTH, &HOSTS, &FILES] {
        if table.has(key.name) {
            table.source.fault_of_whole(
                table.place_of(key.name),
                format!("`{}` is for builtin = \"fossology\", and does nothing for a query", key.name),
                Some("remove it".to_owned()),
            );
        }
    }
}

fn query(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    let trimmed = text.trim().trim_end_matches(';').trim_end();
    if trimmed.is_empty() {
        return value.wrong("this query is empty", None);
    }
    Some(trimmed.to_owned())
}

fn hosts(value: &Value<'_>) -> Option<Vec<String>> {
    let names = value.list(Kind::Texts, |item| match item.text()? {
        name if name.contains('/') || name == "." || name == ".." => {
            item.wrong(format!("`{name}` is not the name of a directory"), None)
        }
        name => Some(name),
    })?;
    if names.is_empty() {
        return value.wrong("this list is empty: no file could be found", None);
    }
    value.texts()
}

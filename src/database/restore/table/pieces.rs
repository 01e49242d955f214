//! What belongs to one table in an archive, for a table that is missing.

use std::collections::BTreeSet;

/// One entry of pg_restore's list with what it depends on.
#[derive(Debug)]
struct Entry<'a> {
    line: &'a str,
    id: u32,
    class: u32,
    oid: u32,
    /// Behind the numbers: `INDEX public t_body_idx owner`.
    what: &'a str,
    depends: Vec<u32>,
}

/// The lines of the list that make the table, and those that come behind its rows; both in the order in which they are to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces {
    /// The table, its sequences and defaults.
    pub before: String,
    /// Its constraints but for foreign keys, indexes, triggers, rules, policies, statistics, comments and rights.
    pub after: String,
    /// Its foreign keys, which need the constraints of other tables, and what is said of them.
    pub keys: String,
    /// Foreign keys of other tables to it.
    pub of_others: Vec<String>,
}

/// Belongs to the table when it depends on it, or on what belongs to it.
const FREE: [&str; 10] = [
    "SEQUENCE ",
    "SEQUENCE OWNED BY ",
    "INDEX ",
    "INDEX ATTACH ",
    "STATISTICS ",
    "COMMENT ",
    "ACL ",
    "SECURITY LABEL ",
    "ROW SECURITY ",
    "TABLE ATTACH ",
];
/// The same, when it is also said to be of the table: others of these kinds depend on it too.
const NAMED: [&str; 7] =
    ["DEFAULT ", "CONSTRAINT ", "CHECK CONSTRAINT ", "FK CONSTRAINT ", "TRIGGER ", "RULE ", "POLICY "];
/// What there must be before the rows.
const BEFORE: [&str; 4] = ["TABLE ", "SEQUENCE ", "SEQUENCE OWNED BY ", "DEFAULT "];

/// The pieces of the table with this OID; None when the archive does not make it. `list` is pg_restore's with `--verbose`.
pub fn of_table(list: &str, oid: u32, schema: &str, table: &str) -> Option<Pieces> {
    let entries = parse(list);
    let own = entries
        .iter()
        .find(|entry| entry.class == 1259 && entry.oid == oid && entry.what.starts_with("TABLE "))?;
    let mut chosen = BTreeSet::from([own.id]);
    let named = format!("{schema} {table} ");
    let mut of_others = Vec::new();
    // Whatever depends on something stands behind it in the list, but for sequences, which stand before the table that owns them.
    loop {
        let before = chosen.len();
        for entry in &entries {
            let depends = entry.depends.iter().any(|id| chosen.contains(id));
            let of_the_table = NAMED
                .iter()
                .any(|kind| entry.what.strip_prefix(kind).is_some_and(|of| of.starts_with(&named)));
            if !depends || chosen.contains(&entry.id) {
                continue;
            }
            if of_the_table || FREE.iter().any(|kind| is_of(entry.what, kind)) {
                chosen.insert(entry.id);
                if entry.what.starts_with("SEQUENCE OWNED BY ") {
                    chosen.extend(entry.depends.iter().filter(|id| is_sequence(&entries, **id)));
                }
            }
        }
        if chosen.len() == before {
            break;
        }
    }
    for entry in &entries {
        let depends = entry.depends.iter().any(|id| chosen.contains(id));
        if depends && !chosen.contains(&entry.id) && entry.what.starts_with("FK CONSTRAINT ") {
            of_others.push(entry.what.trim_start_matches("FK CONSTRAINT ").to_owned());
        }
    }
    let keys: BTreeSet<u32> = entries.iter().filter(|entry| is_key(entry)).map(|entry| entry.id).collect();
    let of_keys = |entry: &Entry<'_>| is_key(entry) || entry.depends.iter().any(|id| keys.contains(id));
    let stage = |entry: &Entry<'_>| match entry {
        entry if BEFORE.iter().any(|kind| is_of(entry.what, kind)) => Stage::Before,
        entry if of_keys(entry) => Stage::Keys,
        _ => Stage::After,
    };
    let lines = |wanted: Stage| {
        let mine = entries.iter().filter(|entry| chosen.contains(&entry.id) && stage(entry) == wanted);
        mine.fold(String::new(), |lines, entry| lines + entry.line + "\n")
    };
    let [before, after, keys] = [Stage::Before, Stage::After, Stage::Keys].map(lines);
    Some(Pieces { before, after, keys, of_others })
}

/// Whether the archive makes a relation of this name. `list` is pg_restore's.
pub fn names_relation(list: &str, schema: &str, name: &str) -> bool {
    const KINDS: [&str; 6] =
        ["TABLE ", "TABLE DATA ", "VIEW ", "MATERIALIZED VIEW ", "FOREIGN TABLE ", "SEQUENCE "];
    // The names are followed by the owner's.
    let named = format!("{schema} {name} ");
    parse(list).iter().any(|entry| {
        let mut of = KINDS.iter().filter(|kind| is_of(entry.what, kind));
        of.any(|kind| entry.what[kind.len()..].starts_with(&named))
    })
}

/// When something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Before,
    After,
    Keys,
}

fn is_key(entry: &Entry<'_>) -> bool {
    entry.what.starts_with("FK CONSTRAINT ")
}

/// `TABLE ` is not `TABLE DATA ` or `TABLE ATTACH `; `SEQUENCE ` is not `SEQUENCE SET `.
fn is_of(what: &str, kind: &str) -> bool {
    const LONGER: [&str; 5] =
        ["TABLE DATA ", "TABLE ATTACH ", "SEQUENCE SET ", "SEQUENCE OWNED BY ", "INDEX ATTACH "];
    what.starts_with(kind)
        && !LONGER.iter().any(|longer| longer.len() > kind.len() && what.starts_with(longer))
}

fn is_sequence(entries: &[Entry<'_>], id: u32) -> bool {
    entries.iter().any(|entry| entry.id == id && is_of(entry.what, "SEQUENCE "))
}

fn parse(list: &str) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for line in list.lines() {
        if let Some(ids) = line.trim_start_matches(';').trim().strip_prefix("depends on: ") {
            if let Some(entry) = entries.last_mut() {
                entry.depends.extend(ids.split(' ').filter_map(|id| id.parse::<u32>().ok()));
            }
            continue;
        }
        let parsed = || {
            let (id, rest) = line.split_once("; ")?;
            let mut words = rest.splitn(3, ' ');
            let (class, oid, what) = (words.next()?, words.next()?, words.next()?);
            Some(Entry {
                line,
                id: id.parse().ok()?,
                class: class.parse().ok()?,
                oid: oid.parse().ok()?,
                what,
                depends: Vec::new(),
            })
        };
        entries.extend(parsed());
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::{names_relation, of_table};

    const LIST: &str = ";\n; Archive created at x\n\
        273; 1259 17636 SEQUENCE public s_id_seq o\n\
        275; 1259 17639 TABLE public s o\n\
        276; 1259 17640 TABLE public other o\n\
        274; 1259 17638 SEQUENCE public s_big_seq o\n;\tdepends on: 275\n\
        4300; 0 0 SEQUENCE OWNED BY public s_id_seq o\n;\tdepends on: 273\n;\tdepends on: 275\n\
        277; 1259 1 VIEW public v o\n;\tdepends on: 275\n\
        3961; 2604 17642 DEFAULT public s id o\n;\tdepends on: 273 275 275\n\
        4228; 0 17639 TABLE DATA public s o\n;\tdepends on: 275\n\
        4401; 0 0 SEQUENCE SET public s_id_seq o\n;\tdepends on: 273\n\
        3974; 2606 17435 CONSTRAINT public s s_pkey o\n;\tdepends on: 275\n\
        3972; 1259 17574 INDEX public s_i o\n;\tdepends on: 275 275\n\
        4016; 2606 17540 FK CONSTRAINT public other other_fk o\n;\tdepends on: 3974 275 276\n\
        4017; 2606 17541 FK CONSTRAINT public s s_fk o\n;\tdepends on: 275 276\n\
        4301; 0 0 COMMENT public INDEX s_i o\n;\tdepends on: 3972\n\
        4302; 0 0 ACL public TABLE s o\n;\tdepends on: 275\n\
        4303; 0 0 ACL public TABLE other o\n;\tdepends on: 276\n\
        4304; 0 0 COMMENT public CONSTRAINT s_fk ON s o\n;\tdepends on: 4017\n";

    #[test]
    fn a_table_has_its_pieces_and_no_others() {
        let pieces = of_table(LIST, 17639, "public", "s").unwrap();
        let ids = |lines: &str| {
            lines.lines().map(|line| line.split(';').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(ids(&pieces.before), ["273", "275", "274", "4300", "3961"]);
        assert_eq!(ids(&pieces.after), ["3974", "3972", "4301", "4302"]);
        assert_eq!(ids(&pieces.keys), ["4017", "4304"]);
        assert_eq!(pieces.of_others, ["public other other_fk o"]);
        assert!(of_table(LIST, 1, "public", "v").is_none());
        for (name, there) in [("s", true), ("v", true), ("s_i", false), ("nope", false)] {
            assert_eq!(names_relation(LIST, "public", name), there, "{name}");
        }
    }
}

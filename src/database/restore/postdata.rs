//! What of an archive's post-data can be made as soon as the rows of its table are there, while other tables are still loaded: indexes,
//! primary keys and unique constraints that depend on their table and on nothing else of the archive.
//!
//! One that depends on anything else (a function, an operator class, an extension) may read other tables through it, and waits until
//! every row is there; so do foreign keys, triggers, rules, views and whatever else stands behind the rows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::sql;
use crate::database::archive;
use crate::postgres::Programs;
use crate::process;

/// The class of tables in an archive: the OID of `pg_class`.
const PG_CLASS: &str = "1259";

/// Something that is made for one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its table, by the OID that it had at the freeze point.
    pub table: u32,
    /// It is a constraint, which nothing else may be done beside.
    pub alone: bool,
    /// What makes it, one statement after the other.
    pub statements: Vec<String>,
}

/// The post-data of an archive, in two parts.
#[derive(Debug, Clone, Default)]
pub struct PostData {
    /// What can be made for each table when its rows are there.
    pub early: Vec<Entry>,
    /// What is left.
    pub rest: Rest,
    /// Tables, by OID, of which something is left that may have figures for the planner: an index, a constraint that has one, extended
    /// statistics.
    pub unfinished: BTreeSet<u32>,
}

/// What is left to pg_restore.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Rest {
    /// All of it.
    #[default]
    All,
    /// What is in this list.
    Listed(String),
    /// Nothing.
    Nothing,
}

/// Reads an archive with this list. `tables` are those whose rows are loaded by us. What cannot be understood is left to pg_restore.
///
/// # Errors
/// pg_restore fails, or the run is cancelled.
pub async fn read(
    programs: &Programs,
    path: &Path,
    list: &str,
    tables: &BTreeSet<u32>,
    cancel: &CancellationToken,
) -> Result<PostData, process::Error> {
    let args = ["--verbose", "--section=post-data", "--file=-"];
    let script = archive::ask(programs, path, &args, &[], cancel).await?;
    Ok(String::from_utf8(script).map(|script| divide(list, &script, tables)).unwrap_or_default())
}

fn divide(list: &str, script: &str, tables: &BTreeSet<u32>) -> PostData {
    let lines: Vec<Line<'_>> = list.lines().filter_map(Line::parse).collect();
    let is_table = |line: &&Line<'_>| {
        line.class == PG_CLASS && line.what.starts_with("TABLE ") && tables.contains(&line.oid)
    };
    let ours: BTreeMap<u32, u32> = lines.iter().filter(is_table).map(|line| (line.id, line.oid)).collect();
    let kinds: BTreeMap<u32, &str> = lines.iter().map(|line| (line.id, line.what)).collect();
    let Some(made) = made_by(script) else { return PostData::default() };
    let mut post = PostData::default();
    // What is made early, by its number, and its place in the list of that.
    let mut taken: BTreeMap<u32, usize> = BTreeMap::new();
    let mut left = Vec::new();
    for (id, made) in made {
        let what = kinds.get(&id).copied().unwrap_or_default();
        let mut of = made.depends.iter().map(|id| ours.get(id));
        let constraint = what.starts_with("CONSTRAINT ");
        let index = what.starts_with("INDEX ") && !what.starts_with("INDEX ATTACH ");
        match (of.next().flatten(), of.next()) {
            (Some(table), None) if constraint || index => {
                taken.insert(id, post.early.len());
                let statements = made.statements;
                post.early.push(Entry { table: *table, alone: constraint, statements });
            }
            _ => {
                if index || constraint || what.starts_with("STATISTICS ") {
                    post.unfinished.extend(made.depends.iter().filter_map(|id| ours.get(id)));
                }
                left.push((id, what, made));
            }
        }
    }
    // pg_restore takes a comment to be of the section of what stands before it in its list, and that must not have gone.
    left.retain(|(id, what, made)| {
        let of = made.depends.first().filter(|_| made.depends.len() == 1);
        let place = of.and_then(|of| taken.get(of)).copied();
        let Some(place) =
            place.filter(|_| what.starts_with("COMMENT ") || what.starts_with("SECURITY LABEL "))
        else {
            return true;
        };
        let words = made.statements.iter().filter(|statement| !statement.starts_with("SET "));
        post.early[place].statements.extend(words.cloned());
        taken.insert(*id, place);
        false
    });
    post.rest = if left.is_empty() {
        Rest::Nothing
    } else {
        let rest = lines.iter().filter(|line| !taken.contains_key(&line.id));
        Rest::Listed(rest.fold(String::new(), |rest, line| rest + line.text + "\n"))
    };
    post
}

/// One line of a list: `3221; 2606 16414 CONSTRAINT public docs docs_pkey owner`.
struct Line<'a> {
    text: &'a str,
    id: u32,
    class: &'a str,
    oid: u32,
    what: &'a str,
}

impl<'a> Line<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (id, rest) = text.split_once("; ")?;
        let mut words = rest.splitn(3, ' ');
        let (class, oid, what) = (words.next()?, words.next()?, words.next()?);
        Some(Self { text, id: id.parse().ok()?, class, oid: oid.parse().ok()?, what })
    }
}

/// What a script says of one entry.
#[derive(Debug, Default)]
struct Made {
    /// What it depends on, by number.
    depends: BTreeSet<u32>,
    statements: Vec<String>,
}

/// The entries of a script that `pg_restore --verbose` wrote, by their numbers in the archive; None for one whose texts are not read as
/// we read them.
fn made_by(script: &str) -> Option<BTreeMap<u32, Made>> {
    let mut entries: BTreeMap<u32, Made> = BTreeMap::new();
    let mut number = None;
    let mut tablespace = None;
    for (statement, comments) in sql::commented_statements(script) {
        for comment in comments.lines() {
            if let Some(of) = comment.strip_prefix("-- TOC entry ") {
                number = of.split(' ').next().and_then(|number| number.parse::<u32>().ok());
                entries.entry(number?).or_default();
            } else if let Some(ids) = comment.strip_prefix("-- Dependencies: ")
                && let Some(entry) = entries.get_mut(&number?)
            {
                entry.depends.extend(ids.split(' ').filter_map(|id| id.parse::<u32>().ok()));
            }
        }
        let said = sql::tokens(statement);
        let is = |at: usize, word: &str| said.get(at).is_some_and(|token| token.is(statement, word));
        if is(0, "SET") {
            // They stand before the head of the entry that they are for.
            if is(1, "standard_conforming_strings") && !is(3, "on") {
                return None;
            }
            // Sessions speak UTF-8, and what looks like it may be another encoding.
            let is_utf8 = || said.last().is_some_and(|token| statement[token.span.clone()] == *"'UTF8'");
            if is(1, "client_encoding") && !script.is_ascii() && !is_utf8() {
                return None;
            }
            if is(1, "default_tablespace") {
                tablespace = Some(statement.to_owned());
            }
        } else if let Some(entry) = number.and_then(|number| entries.get_mut(&number)) {
            if entry.statements.is_empty() {
                entry.statements.extend(tablespace.clone());
            }
            entry.statements.push(statement.to_owned());
        }
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::{Rest, divide};

    const LIST: &str = ";\n; Archive created at x\n;\n\
        219; 1259 16408 TABLE public docs o\n\
        220; 1259 16500 TABLE public other o\n\
        300; 1255 16600 FUNCTION public f() o\n\
        3372; 0 0 SEQUENCE SET public docs_id_seq o\n\
        3221; 2606 16414 CONSTRAINT public docs docs_pkey o\n\
        3222; 1259 96317 INDEX public docs_title_idx o\n\
        3223; 1259 96318 INDEX public docs_f_idx o\n\
        3228; 0 0 COMMENT public INDEX docs_title_idx o\n\
        3224; 1259 96319 INDEX public other_idx o\n\
        3226; 2606 96321 FK CONSTRAINT public docs docs_fk o\n";
    const SCRIPT: &str = "SET standard_conforming_strings = on;\nSET default_tablespace = '';\n\n--\n\
        -- TOC entry 3221 (class 2606 OID 16414)\n-- Dependencies: 219\n-- Name: docs docs_pkey; Type: CONSTRAINT\n--\n\n\
        ALTER TABLE ONLY public.docs\n    ADD CONSTRAINT docs_pkey PRIMARY KEY (id);\n\n\n\
        SET default_tablespace = fast;\n\n--\n-- TOC entry 3222 (class 1259 OID 96317)\n-- Dependencies: 219 219\n--\n\n\
        CREATE INDEX docs_title_idx ON public.docs USING btree ((title || '\n-- TOC entry 1 (class 2 OID 3)\n;'));\n\n\
        ALTER TABLE public.docs CLUSTER ON docs_title_idx;\n\n\n--\n-- TOC entry 3228 (class 0 OID 0)\n-- Dependencies: 3222\n--\n\n\
        COMMENT ON INDEX public.docs_title_idx IS 'by; title';\n\n";
    const MORE: &str = "--\n-- TOC entry 3223 (class 1259 OID 96318)\n-- Dependencies: 300 219\n--\n\n\
        CREATE INDEX docs_f_idx ON public.docs USING btree (public.f(title));\n\n\
        --\n-- TOC entry 3224 (class 1259 OID 96319)\n-- Dependencies: 220\n--\n\nCREATE INDEX other_idx ON public.other USING btree (x);\n\n\
        --\n-- TOC entry 3226 (class 2606 OID 96321)\n-- Dependencies: 219 220 3224\n--\n\n\
        ALTER TABLE ONLY public.docs ADD CONSTRAINT docs_fk FOREIGN KEY (o) REFERENCES public.other(x);\n\n\
        -- Completed on x\n";

    #[test]
    fn what_depends_on_a_table_alone_is_made_early() {
        let found = divide(LIST, &[SCRIPT, MORE].concat(), &[16408].into());
        let [pkey, title] = found.early.as_slice() else { panic!("{found:?}") };
        assert_eq!((pkey.table, pkey.alone, title.alone), (16408, true, false));
        assert_eq!(
            pkey.statements,
            [
                "SET default_tablespace = ''",
                "ALTER TABLE ONLY public.docs\n    ADD CONSTRAINT docs_pkey PRIMARY KEY (id)"
            ]
        );
        assert_eq!(title.statements[0], "SET default_tablespace = fast");
        assert!(title.statements[1].ends_with("OID 3)\n;'))"), "{title:?}");
        assert_eq!(title.statements[2], "ALTER TABLE public.docs CLUSTER ON docs_title_idx");
        assert_eq!(title.statements[3], "COMMENT ON INDEX public.docs_title_idx IS 'by; title'");
        assert_eq!(title.statements.len(), 4);
        let Rest::Listed(rest) = found.rest else { panic!("something is left") };
        let ids: Vec<_> = rest.lines().filter_map(|line| line.split(';').next()).collect();
        assert_eq!(ids, ["219", "220", "300", "3372", "3223", "3224", "3226"]);
        assert_eq!(found.unfinished, [16408].into(), "an index with a function of the day is left");
    }

    #[test]
    fn nothing_may_be_left() {
        let found = divide(LIST, SCRIPT, &[16408].into());
        assert_eq!((found.early.len(), found.rest), (2, Rest::Nothing));
        assert!(found.unfinished.is_empty());
        assert_eq!(divide(LIST, "", &[16408].into()).rest, Rest::Nothing);
    }

    #[test]
    fn what_cannot_be_understood_is_left_to_pg_restore() {
        let odd = SCRIPT.replace("strings = on", "strings = off");
        let found = divide(LIST, &odd, &[16408].into());
        assert!(found.early.is_empty() && found.rest == Rest::All);
        let encoded = |encoding: &str, text: &str| {
            let script = format!("SET client_encoding = '{encoding}';\n{}", SCRIPT.replace("by;", text));
            divide(LIST, &script, &[16408].into()).early.len()
        };
        assert_eq!(
            (encoded("LATIN1", "by"), encoded("UTF8", "b\u{e9}"), encoded("LATIN1", "b\u{e9}")),
            (2, 2, 0)
        );
    }
}

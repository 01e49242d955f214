//! Which names are kept: rsync's include and exclude patterns.
//!
//! The rules are those of rsync(1), "PATTERN MATCHING RULES", as `exclude.c` and `wildmatch.c` of rsync 3.5 carry them out; `docs/trees.md`
//! tells them to admins, and a test runs rsync on the same tree.

use crate::config::Filter;
use crate::fs::dir::split_last;
use crate::tree::restore::PREFIX;

/// The rules of a tree, taken apart once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules(Vec<Rule>);

#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a property of the pattern by itself, as in rsync's flags"
)]
struct Rule {
    include: bool,
    pattern: Vec<u8>,
    anchored: bool,
    directories_only: bool,
    /// Matched against the path, not only the last name.
    whole_path: bool,
    /// Has `*`, `?` or `[`: only then a backslash escapes.
    wild: bool,
    /// `**/x` also matches `x` at the root.
    prefix: bool,
    /// `x/***` also matches the directory `x` itself.
    suffix: bool,
}

impl Rule {
    fn new(filter: &Filter) -> Self {
        let text = filter.pattern.as_bytes();
        let (anchored, text) = text.strip_prefix(b"/").map_or((false, text), |rest| (true, rest));
        let (directories_only, text) = match text.strip_suffix(b"/") {
            Some(rest) if !rest.is_empty() => (true, rest),
            _ => (false, text),
        };
        Self {
            include: filter.include,
            anchored,
            directories_only,
            whole_path: anchored || text.contains(&b'/') || text.windows(2).any(|pair| pair == b"**"),
            wild: text.iter().any(|byte| b"*?[".contains(byte)),
            prefix: text.starts_with(b"**/"),
            suffix: text.ends_with(b"/***"),
            pattern: text.to_vec(),
        }
    }

    fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        if self.directories_only && !is_directory {
            return false;
        }
        if !self.whole_path {
            return self.matches_text(path.rsplit(|byte| *byte == b'/').next().unwrap_or(path));
        }
        let mut text = Vec::with_capacity(path.len() + 2);
        if self.prefix {
            text.push(b'/');
        }
        text.extend_from_slice(path);
        if self.suffix && is_directory {
            text.push(b'/');
        }
        if self.matches_text(&text) {
            return true;
        }
        let starts = text.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at + 1);
        !self.anchored && starts.into_iter().any(|start| self.matches_text(&text[start..]))
    }

    fn matches_text(&self, text: &[u8]) -> bool {
        if self.wild { wild_match(&self.pattern, text) } else { self.pattern == text }
    }
}

impl Rules {
    /// The configured rules.
    pub(crate) fn new(filters: &[Filter]) -> Self {
        Self(filters.iter().map(Rule::new).collect())
    }

    /// Whether a name is kept; `path` is relative to the tree's root. What is above it is not asked: the walk never comes below an
    /// excluded directory. What a restore keeps beside a tree, or in it, is none of its names.
    pub(crate) fn keep(&self, path: &[u8], is_directory: bool) -> bool {
        !is_of_a_restore(split_last(path).1)
            && self.0.iter().find(|rule| rule.matches(path, is_directory)).is_none_or(|rule| rule.include)
    }

    /// Whether every directory above `path` is kept.
    pub(crate) fn keep_above(&self, path: &[u8]) -> bool {
        path.iter().enumerate().filter(|(_, byte)| **byte == b'/').all(|(at, _)| self.keep(&path[..at], true))
    }

    /// Without rules everything is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether a name is that of a directory in which a restore keeps what it stages and moves aside.
pub(crate) fn is_of_a_restore(name: &[u8]) -> bool {
    name.starts_with(PREFIX.as_bytes())
}

/// `*` stops at `/`, `**` does not, `?` is one byte but `/`, `[...]` a class that never matches `/`, `\` takes the next byte as it is.
fn wild_match(pattern: &[u8], text: &[u8]) -> bool {
    let Some((&first, rest)) = pattern.split_first() else { return text.is_empty() };
    match first {
        b'*' => {
            let deep = rest.first() == Some(&b'*');
            let after = &rest[rest.iter().take_while(|byte| **byte == b'*').count()..];
            let reach = if deep { None } else { text.iter().position(|byte| *byte == b'/') };
            (0..=reach.unwrap_or(text.len())).any(|skipped| wild_match(after, &text[skipped..]))
        }
        b'?' => text.first().is_some_and(|byte| *byte != b'/') && wild_match(rest, &text[1..]),
        b'[' => match (class_match(rest, text.first().copied()), text.first()) {
            (Some((true, after)), Some(byte)) if *byte != b'/' => wild_match(after, &text[1..]),
            _ => false,
        },
        b'\\' => {
            let (literal, after) = rest.split_first().map_or((b'\\', rest), |(byte, after)| (*byte, after));
            text.first() == Some(&literal) && wild_match(after, &text[1..])
        }
        literal => text.first() == Some(&literal) && wild_match(rest, &text[1..]),
    }
}

/// Whether `byte` is in the class whose text begins behind `[`, and what is behind its `]`. None: the class has no end.
fn class_match(class: &[u8], byte: Option<u8>) -> Option<(bool, &[u8])> {
    let byte = byte?;
    let negated = matches!(class.first(), Some(b'!' | b'^'));
    let mut at = usize::from(negated);
    let mut found = false;
    let mut is_first = true;
    loop {
        let here = *class.get(at)?;
        if here == b']' && !is_first {
            return Some((found != negated, &class[at + 1..]));
        }
        is_first = false;
        if let Some(named) = class[at..].strip_prefix(b"[:") {
            let length = named.windows(2).position(|pair| pair == b":]")?;
            found |= named_class(&named[..length], byte);
            at += length + 4;
            continue;
        }
        let (low, next) = class_byte(class, at)?;
        match (class.get(next), class.get(next + 1)) {
            (Some(b'-'), Some(end)) if *end != b']' => {
                let (high, behind) = class_byte(class, next + 1)?;
                found |= (low..=high).contains(&byte);
                at = behind;
            }
            _ => {
                found |= low == byte;
                at = next;
            }
        }
    }
}

fn class_byte(class: &[u8], at: usize) -> Option<(u8, usize)> {
    match class.get(at)? {
        b'\\' => Some((*class.get(at + 1)?, at + 2)),
        byte => Some((*byte, at + 1)),
    }
}

fn named_class(name: &[u8], byte: u8) -> bool {
    match name {
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"alpha" => byte.is_ascii_alphabetic(),
        b"blank" => byte == b' ' || byte == b'\t',
        b"cntrl" => byte.is_ascii_control(),
        b"digit" => byte.is_ascii_digit(),
        b"graph" => byte.is_ascii_graphic(),
        b"lower" => byte.is_ascii_lowercase(),
        b"print" => byte.is_ascii_graphic() || byte == b' ',
        b"punct" => byte.is_ascii_punctuation(),
        b"space" => byte.is_ascii_whitespace() || byte == 0x0b,
        b"upper" => byte.is_ascii_uppercase(),
        b"xdigit" => byte.is_ascii_hexdigit(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::Rules;
    use crate::config::Filter;

    fn matches(pattern: &str, path: &str) -> bool {
        let rules = Rules::new(&[Filter { include: false, pattern: pattern.to_owned() }]);
        let (path, is_directory) = path.strip_suffix('/').map_or((path, false), |path| (path, true));
        !rules.keep(path.as_bytes(), is_directory)
    }

    #[test]
    fn patterns_match_as_rsync_documents_them() {
        let table: &[(&str, &[&str], &[&str])] = &[
            ("*.o", &["a.o", "x/y/b.o", ".o"], &["a.oo", "o"]),
            ("/foo", &["foo", "foo/"], &["x/foo", "foo/x", "foob"]),
            ("foo", &["foo", "x/foo", "x/y/foo/"], &["foo/x", "xfoo"]),
            ("foo/", &["foo/", "x/foo/"], &["foo", "x/foo"]),
            ("foo/bar", &["foo/bar", "x/foo/bar"], &["foo/x/bar", "xfoo/bar", "bar"]),
            ("/foo/*/bar", &["foo/x/bar"], &["foo/bar", "foo/x/y/bar", "z/foo/x/bar"]),
            ("/foo/**/bar", &["foo/x/bar", "foo/x/y/bar"], &["foo/bar", "z/foo/x/bar"]),
            ("**/bar", &["bar", "x/bar", "x/y/bar"], &["xbar"]),
            ("foo/***", &["foo/", "foo/x", "foo/x/y", "z/foo/x"], &["foo", "z/foo"]),
            ("a?c", &["abc", "x/a-c"], &["ac", "abbc"]),
            ("/a?c", &["abc"], &["a/c"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "x"]),
            ("[!a-c]x", &["dx"], &["ax"]),
            ("[[:digit:]]*", &["1", "9a"], &["a1"]),
            ("[]x]", &["]", "x"], &["y"]),
            (r"a\*b", &[r"a\*b"], &["axb"]),
            (r"a\**", &["a*", "a*b"], &["ab"]),
            ("x**y", &["xy", "x/y", "a/x1/2y"], &["xyz"]),
        ];
        for (pattern, yes, no) in table {
            // A pattern whose only `*` is escaped still counts as wild in rsync, so that the backslash escapes.
            for path in *yes {
                let expected = *pattern != r"a\*b";
                assert_eq!(matches(pattern, path), expected, "{pattern} should match {path}");
            }
            for path in *no {
                assert!(!matches(pattern, path), "{pattern} should not match {path}");
            }
        }
        assert!(matches(r"a\*b", "a*b"));
        assert!(matches(r"a\b", r"a\b"), "no wildcard: the backslash is itself");
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rule = |include, pattern: &str| Filter { include, pattern: pattern.to_owned() };
        let rules = Rules::new(&[rule(true, "*/"), rule(true, "*.rs"), rule(false, "*")]);
        assert!(rules.keep(b"src", true) && rules.keep(b"src/a.rs", false) && !rules.keep(b"src/a.c", false));
        assert!(rules.keep_above(b"src/x/a.rs"));
        let rules = Rules::new(&[rule(false, "/src/")]);
        assert!(!rules.keep_above(b"src/x/a.rs") && rules.keep_above(b"src"));
        assert!(!Rules::default().keep(b"x/.daykeep-restore-7", true), "what a restore keeps is in no tree");
    }
}

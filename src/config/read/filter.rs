//! The patterns of `include`, `exclude` and `filter`: only their syntax; the tree part matches them.

use std::iter::Peekable;
use std::str::CharIndices;

use crate::config::Filter;
use crate::config::value::Value;

/// `+ PATTERN` or `- PATTERN`.
pub(crate) fn rule(value: &Value<'_>) -> Option<Filter> {
    let text = value.text()?;
    let (include, start) = match text.as_bytes() {
        [b'+', b' ', ..] => (true, 2),
        [b'-', b' ', ..] => (false, 2),
        _ => {
            return value.wrong(
                format!("`{text}` is not a rule"),
                "write \"+ PATTERN\" to keep or \"- PATTERN\" not to keep".to_owned(),
            );
        }
    };
    checked(value, &text, start, include)
}

/// A pattern alone.
pub(crate) fn pattern(value: &Value<'_>, include: bool) -> Option<Filter> {
    let text = value.text()?;
    if text.starts_with("+ ") || text.starts_with("- ") {
        return value.wrong(
            format!("`{text}` is a rule, and this is a list of patterns"),
            "write rules in `filter`; here, the pattern alone".to_owned(),
        );
    }
    checked(value, &text, 0, include)
}

fn checked(value: &Value<'_>, text: &str, start: usize, include: bool) -> Option<Filter> {
    let pattern = &text[start..];
    if let Some((at, message, help)) = fault_of(pattern) {
        let end = pattern[at..].chars().next().map_or(at, |c| at + c.len_utf8());
        let part = if at == end { 0..text.len() } else { start + at..start + end };
        return value.wrong_within(
            part,
            format!("the pattern `{pattern}` {message}"),
            help.map(str::to_owned),
        );
    }
    Some(Filter { include, pattern: pattern.to_owned() })
}

type PatternFault = (usize, &'static str, Option<&'static str>);

/// The classes of characters that rsync knows.
const CLASSES: [&str; 12] = [
    "alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper",
    "xdigit",
];

/// What is wrong with a pattern, and where in it.
fn fault_of(pattern: &str) -> Option<PatternFault> {
    if pattern.trim().is_empty() {
        return Some((0, "is empty", None));
    }
    if pattern == "/" {
        return Some((0, "is the tree itself", Some("to keep nothing of it, remove the tree")));
    }
    if let Some(at) = pattern.find("//") {
        return Some((at, "has an empty name in it, and matches nothing", Some("write one `/`")));
    }
    if let Some(at) =
        pattern.find("***").filter(|at| !pattern[..*at].ends_with('/') || *at + 3 < pattern.len())
    {
        let help = "`***` stands at the end, behind a `/`: the directory and everything in it";
        return Some((at, "has `***` in the wrong place", Some(help)));
    }
    let mut at = 0;
    for name in pattern.split('/') {
        if name == "." || name == ".." {
            let help = "patterns match paths below the tree's root, which have neither `.` nor `..`";
            return Some((at, "matches nothing", Some(help)));
        }
        at += name.len() + 1;
    }
    // Without a wildcard, a backslash is an ordinary character.
    if pattern.contains(['*', '?', '[']) { fault_of_wildcards(pattern) } else { None }
}

fn fault_of_wildcards(pattern: &str) -> Option<PatternFault> {
    let mut rest = pattern.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        match c {
            '\\' if rest.next().is_none() => {
                return Some((at, "ends with a lone `\\`", Some("for a backslash itself, write it twice")));
            }
            '[' => {
                if let Err(fault) = (Set { open: at, rest: &mut rest }).check() {
                    return Some(fault);
                }
            }
            _ => {}
        }
    }
    None
}

/// A set, read on from behind its `[`.
struct Set<'r, 'p> {
    open: usize,
    rest: &'r mut Peekable<CharIndices<'p>>,
}

impl Set<'_, '_> {
    /// Reads up to and with its `]`.
    fn check(mut self) -> Result<(), PatternFault> {
        self.rest.next_if(|(_, c)| matches!(c, '!' | '^'));
        let mut low = None;
        let mut first = true;
        loop {
            let (at, c) = self.next()?;
            low = match c {
                ']' if !first => return Ok(()),
                '/' => {
                    return Err((at, "has a `/` in a set", Some("a set matches one character of a name")));
                }
                '[' if self.rest.next_if(|(_, next)| *next == ':').is_some() => {
                    self.class(at)?;
                    None
                }
                '-' if low.is_some() && self.rest.peek().is_some_and(|(_, next)| *next != ']') => {
                    if low > Some(self.member()?) {
                        return Err((at, "has a range that ends before it begins", None));
                    }
                    None
                }
                '\\' => Some(self.next()?.1),
                c => Some(c),
            };
            first = false;
        }
    }

    fn next(&mut self) -> Result<(usize, char), PatternFault> {
        match self.rest.next() {
            None => {
                Err((self.open, "has a `[` without its `]`", Some("for the character itself, write `\\[`")))
            }
            Some((at, c)) if !c.is_ascii() => {
                let help = "a set matches one byte: write a rule for each of these characters";
                Err((at, "has a character in a set that is more than one byte", Some(help)))
            }
            Some(next) => Ok(next),
        }
    }

    fn member(&mut self) -> Result<char, PatternFault> {
        match self.next()? {
            (_, '\\') => self.next().map(|(_, escaped)| escaped),
            (_, c) => Ok(c),
        }
    }

    /// Reads `alpha:]`; its `[` is at `at`.
    fn class(&mut self, at: usize) -> Result<(), PatternFault> {
        let mut name = String::new();
        while let Some((_, c)) = self.rest.next_if(|(_, c)| c.is_ascii_alphanumeric()) {
            name.push(c);
        }
        let closed = self.next()?.1 == ':' && self.next()?.1 == ']';
        if closed && CLASSES.contains(&name.as_str()) {
            return Ok(());
        }
        Err((at, "has an unknown class in a set", Some("known are [:alpha:], [:digit:] and so on")))
    }
}

#[cfg(test)]
mod tests {
    use super::fault_of;

    #[test]
    fn every_form_of_pattern_is_taken() {
        for pattern in [
            "*",
            "/gold/",
            "*.I",
            "a/b/*.c",
            "/a/**/b",
            "[abc]",
            "[!a-z]x",
            "[^0-9]",
            "[]x]",
            "[a-]",
            "\\[",
            "a?b",
            "/gold/***",
            "[[:alpha:]_]",
            "{a,b}",
            "[\\]]",
        ] {
            assert_eq!(fault_of(pattern), None, "{pattern}");
        }
    }
}

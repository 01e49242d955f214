//! The patterns of `include`, `exclude` and `filter`: only their syntax; the tree part matches them.

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
                if let Some(fault) = fault_of_set(at, &mut rest) {
                    return Some(fault);
                }
            }
            _ => {}
        }
    }
    None
}

/// Reads on behind the `[` at `open`, up to and with its `]`.
fn fault_of_set(
    open: usize,
    rest: &mut std::iter::Peekable<std::str::CharIndices<'_>>,
) -> Option<PatternFault> {
    rest.next_if(|(_, c)| matches!(c, '!' | '^'));
    let unclosed = (open, "has a `[` without its `]`", Some("for the character itself, write `\\[`"));
    let mut first = true;
    let mut low: Option<char> = None;
    loop {
        let Some((at, mut c)) = rest.next() else {
            return Some(unclosed);
        };
        match c {
            ']' if !first => return None,
            '/' => return Some((at, "has a `/` in a set", Some("a set matches one character of a name"))),
            _ if !c.is_ascii() => {
                let help = "a set matches one byte: write a rule for each of these characters";
                return Some((at, "has a character in a set that is more than one byte", Some(help)));
            }
            '[' if rest.next_if(|(_, next)| *next == ':').is_some() => {
                let name: String = std::iter::from_fn(|| rest.next_if(|(_, c)| c.is_ascii_alphanumeric()))
                    .map(|(_, c)| c)
                    .collect();
                if !CLASSES.contains(&name.as_str()) {
                    return Some((
                        at,
                        "has an unknown class in a set",
                        Some("known are [:alpha:], [:digit:] and so on"),
                    ));
                }
                if rest.next_if(|(_, c)| *c == ':').is_none() || rest.next_if(|(_, c)| *c == ']').is_none() {
                    return Some(unclosed);
                }
                low = None;
            }
            '-' if low.is_some() && rest.peek().is_some_and(|(_, next)| *next != ']') => {
                let Some((_, mut high)) = rest.next() else {
                    return Some(unclosed);
                };
                if high == '\\' {
                    let Some((_, escaped)) = rest.next() else {
                        return Some(unclosed);
                    };
                    high = escaped;
                }
                if low.is_some_and(|low| low > high) {
                    return Some((at, "has a range that ends before it begins", None));
                }
                low = None;
            }
            _ => {
                if c == '\\' {
                    let Some((_, escaped)) = rest.next() else {
                        return Some(unclosed);
                    };
                    c = escaped;
                }
                low = Some(c);
            }
        }
        first = false;
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

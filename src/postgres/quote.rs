//! Names and texts in SQL.

use std::fmt::Write as _;

/// A name in double quotes, always: what needs none is the same with them.
#[must_use]
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name that stands in one line whatever it is: with control characters it takes the form `U&"a\000Ab"`, which needs
/// `standard_conforming_strings = on` (the default) and, for what is not ASCII, nothing: only control characters and the
/// backslash are escaped.
#[must_use]
pub fn one_line_identifier(name: &str) -> String {
    if !name.chars().any(char::is_control) {
        return identifier(name);
    }
    let mut quoted = String::from("U&\"");
    for letter in name.chars() {
        match letter {
            '"' => quoted.push_str("\"\""),
            '\\' => quoted.push_str("\\\\"),
            letter if letter.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(quoted, "\\{:04X}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// A name in ASCII alone, for a session whose client encoding is not ours: PostgreSQL (13 and newer) turns the escapes into the
/// server's encoding.
#[must_use]
pub fn ascii_identifier(name: &str) -> String {
    if name.is_ascii() {
        return one_line_identifier(name);
    }
    let mut quoted = String::from("U&\"");
    for letter in name.chars() {
        // Writing to a String cannot fail.
        let _ = match letter {
            '"' => write!(quoted, "\"\""),
            '\\' => write!(quoted, "\\\\"),
            letter if letter.is_ascii() && !letter.is_control() => write!(quoted, "{letter}"),
            letter if u32::from(letter) > 0xFFFF => write!(quoted, "\\+{:06X}", u32::from(letter)),
            letter => write!(quoted, "\\{:04X}", u32::from(letter)),
        };
    }
    quoted.push('"');
    quoted
}

/// `"schema"."name"`, in one line.
#[must_use]
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", one_line_identifier(schema), one_line_identifier(name))
}

/// A text in single quotes; with backslashes it takes the `E` form, so that it means the same whatever
/// `standard_conforming_strings` says.
#[must_use]
pub fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

#[cfg(test)]
mod tests {
    use super::{ascii_identifier, literal, one_line_identifier, qualified};

    #[test]
    fn names_stand_in_one_line() {
        assert_eq!(one_line_identifier("plain"), r#""plain""#);
        assert_eq!(one_line_identifier(r#"a"b\c"#), r#""a""b\c""#);
        assert_eq!(one_line_identifier("a\nb\\c\"d"), r#"U&"a\000Ab\\c""d""#);
        assert_eq!(qualified("s", "t\t"), r#""s".U&"t\0009""#);
    }

    #[test]
    fn names_are_written_in_ascii() {
        assert_eq!(ascii_identifier("plain"), r#""plain""#);
        assert_eq!(ascii_identifier("é\"\\\n"), r#"U&"\00E9""\\\000A""#);
        assert_eq!(ascii_identifier("𝄞"), r#"U&"\+01D11E""#);
    }

    #[test]
    fn texts_are_quoted() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\'b"), r"E'a\\''b'");
    }
}

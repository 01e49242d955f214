//! libpq's service file (<https://www.postgresql.org/docs/current/libpq-pgservice.html>): sections of `key=value` lines.

use std::collections::BTreeMap;
use std::path::Path;

use super::Error;

/// The parameters of section `name`, or None when the file has no such section. As in libpq, a line's leading white space does
/// not count, `#` begins a comment line, and the first value of a key stands.
///
/// # Errors
/// A line of the section is no `key=value`, or asks for what is not done (`ldap`, a service in a service).
pub fn section(path: &Path, text: &str, name: &str) -> Result<Option<BTreeMap<String, String>>, Error> {
    let mut found: Option<BTreeMap<String, String>> = None;
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            if inside {
                break;
            }
            inside = rest.strip_suffix(']') == Some(name);
            if inside {
                found = Some(BTreeMap::new());
            }
            continue;
        }
        let Some(parameters) = found.as_mut().filter(|_| inside) else { continue };
        let wrong = |what: &str| Error::ServiceFile {
            path: path.to_owned(),
            line: number + 1,
            what: what.to_owned(),
        };
        if line.starts_with("ldap") {
            return Err(wrong("a service in LDAP is not supported"));
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err(wrong("expected key=value"));
        };
        if key == "service" {
            return Err(wrong("a service cannot name another service"));
        }
        parameters.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::section;
    use std::path::Path;

    const TEXT: &str = "# mine\n[a]\nhost=one\n\n[b]\n host=two\nhost=three\nport=5433\n[c]\nbroken\n";

    #[test]
    fn reads_the_section_that_was_asked_for() {
        let found = section(Path::new("f"), TEXT, "b").expect("parses").expect("is there");
        assert_eq!(found.get("host").map(String::as_str), Some("two"));
        assert_eq!(found.get("port").map(String::as_str), Some("5433"));
        assert!(section(Path::new("f"), TEXT, "nope").expect("parses").is_none());
    }

    #[test]
    fn a_broken_line_is_named() {
        let error = section(Path::new("/etc/f"), TEXT, "c").expect_err("does not parse");
        assert_eq!(error.to_string(), "service file /etc/f, line 10: expected key=value");
    }
}

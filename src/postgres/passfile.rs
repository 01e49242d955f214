//! libpq's password file (<https://www.postgresql.org/docs/current/libpq-pgpass.html>): lines of
//! `host:port:database:user:password`, the first that matches counts.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::fs::{self, OnPath as _};

use super::Error;

/// Whom a password is for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Host, or `localhost` for the default socket.
    pub host: &'a str,
    /// Port.
    pub port: u16,
    /// Database.
    pub dbname: &'a str,
    /// Role.
    pub user: &'a str,
}

/// What a password file gave.
#[derive(Debug)]
pub enum Found {
    /// A password.
    Password(String),
    /// No line matches, or no such file.
    Nothing,
    /// The file was passed over, as libpq does, and why.
    PassedOver(String),
}

/// Looks the password up. As libpq does, a file that others may read is passed over.
///
/// # Errors
/// The file is there and cannot be read.
pub fn look_up(path: &Path, wanted: Wanted<'_>) -> Result<Found, Error> {
    if !fs::exists(path)? {
        return Ok(Found::Nothing);
    }
    let file = fs::open(path)?;
    let metadata = file.metadata().on("look at", path)?;
    if !metadata.is_file() {
        return Ok(Found::PassedOver(format!("password file {} is not a plain file", path.display())));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Ok(Found::PassedOver(format!(
            "password file {} was passed over because its mode is {mode:04o}: it must be 0600 or less",
            path.display()
        )));
    }
    let text = fs::read(path)?;
    Ok(find(&String::from_utf8_lossy(&text), wanted).map_or(Found::Nothing, Found::Password))
}

/// The password of the first line that matches. Pure.
#[must_use]
pub fn find(text: &str, wanted: Wanted<'_>) -> Option<String> {
    let port = wanted.port.to_string();
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut rest = line.strip_suffix('\r').unwrap_or(line);
        for wanted in [wanted.host, &port, wanted.dbname, wanted.user] {
            let (field, behind) = field(rest)?;
            if field != "*" && unescaped(field) != wanted {
                return None;
            }
            rest = behind;
        }
        let password = field(rest).map_or(rest, |(password, _)| password);
        (!password.is_empty()).then(|| unescaped(password))
    })
}

/// The text up to the next colon that no backslash escapes, and what follows the colon.
fn field(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ':' => return Some((&text[..at], &text[at + 1..])),
            _ => {}
        }
    }
    None
}

fn unescaped(field: &str) -> String {
    let mut letters = field.chars();
    let mut plain = String::with_capacity(field.len());
    while let Some(letter) = letters.next() {
        plain.push(if letter == '\\' { letters.next().unwrap_or('\\') } else { letter });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::{Found, Wanted, find, look_up};
    use std::os::unix::fs::PermissionsExt as _;

    const ME: Wanted<'_> = Wanted { host: "db.example", port: 5432, dbname: "fossology", user: "fossy" };

    #[test]
    fn the_first_line_that_matches_counts() {
        let text =
            "# comment\ndb.example:5433:*:*:other port\ndb.example:*:fossology:fossy:one\n*:*:*:*:two\n";
        assert_eq!(find(text, ME).as_deref(), Some("one"));
        assert_eq!(find(text, Wanted { host: "x", ..ME }).as_deref(), Some("two"));
        assert_eq!(find("db.example:5432:fossology\n", ME), None);
    }

    #[test]
    fn escapes_are_read() {
        let user = Wanted { host: "::1", user: r"a\b", ..ME };
        assert_eq!(find(r"\:\:1:*:*:a\\b:p\:w\\d", user).as_deref(), Some(r"p:w\d"));
        assert_eq!(find(r"*:*:*:\*:x", ME), None, "an escaped star is no wildcard");
    }

    #[test]
    fn a_file_that_others_read_is_passed_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("pgpass");
        crate::fs::write_durable(&path, b"*:*:*:*:secret\n").expect("writes");
        assert!(matches!(look_up(&path, ME).expect("reads"), Found::Password(p) if p == "secret"));
        let file = crate::fs::open(&path).expect("opens");
        file.set_permissions(std::fs::Permissions::from_mode(0o640)).expect("chmod");
        let Found::PassedOver(why) = look_up(&path, ME).expect("reads") else { panic!("taken") };
        assert!(why.ends_with("its mode is 0640: it must be 0600 or less"), "{why}");
        assert!(matches!(look_up(&dir.path().join("none"), ME).expect("reads"), Found::Nothing));
    }
}

//! The directory of a database below `database/`.

use std::fmt::Write as _;

/// The name, with every byte but ASCII letters, digits, `_` and `-` as `%XX`: no database can take the name of another file, climb
/// out of its place, or need quoting in a shell. A database's name has at most 63 bytes, so this has at most 189.
#[must_use]
pub fn directory_name(database: &str) -> String {
    database.bytes().fold(String::with_capacity(database.len()), |mut name, byte| {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            name.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(name, "%{byte:02X}");
        }
        name
    })
}

#[cfg(test)]
mod tests {
    use super::directory_name;

    #[test]
    fn every_name_becomes_a_plain_directory() {
        assert_eq!(directory_name("fossology"), "fossology");
        assert_eq!(directory_name("globals.sql"), "globals%2Esql");
        assert_eq!(directory_name("../a b\n%"), "%2E%2E%2Fa%20b%0A%25");
        assert_eq!(directory_name("ü"), "%C3%BC");
    }
}

//! What a day of gold alone leaves to be unpacked again.

use std::fmt;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// What FOSSology will have to do after a restore, as the rows of the freeze point tell it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToUnpack {
    /// Uploads.
    pub uploads: u64,
    /// Files that they become, and their bytes.
    pub files: u64,
    /// See `files`.
    pub bytes: u64,
    /// Seconds that it will take, one upload after the other, by the unpack jobs of the past; None: there was none.
    pub seconds: Option<f64>,
}

impl fmt::Display for ToUnpack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uploads, files, bytes, seconds } = self;
        let verb = if *uploads == 1 { "upload becomes" } else { "uploads become" };
        write!(f, "{uploads} {verb} {files} files of {}", ByteSize(*bytes))?;
        match seconds {
            Some(seconds) => write!(f, ", in about {:.0} minutes", (seconds / 60.0).ceil().max(1.0)),
            None => f.write_str("; no unpack job of the past tells how long that takes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ToUnpack;

    #[test]
    fn it_says_what_to_expect() {
        let disc = ToUnpack { uploads: 1, files: 9, bytes: 54 << 30, seconds: Some(5.5 * 3600.0) };
        assert_eq!(disc.to_string(), "1 upload becomes 9 files of 54.0 GiB, in about 330 minutes");
        let unknown = ToUnpack { seconds: None, ..disc };
        assert!(unknown.to_string().ends_with("; no unpack job of the past tells how long that takes"));
    }
}

//! One line of `files.jsonl.zst`: one name of a tree.

use std::collections::BTreeMap;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What kind of thing a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket: recorded, not recreated.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// A path or link target as bytes. In JSON it is a string when it is UTF-8 and holds no control
/// character, else `{"hex": "..."}`, so that every name that a file system allows comes through.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PathBytes(pub Vec<u8>);

impl PathBytes {
    /// As a path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(std::ffi::OsStr::from_bytes(&self.0))
    }
}

impl From<&Path> for PathBytes {
    fn from(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().to_vec())
    }
}

impl From<PathBuf> for PathBytes {
    fn from(path: PathBuf) -> Self {
        Self(path.into_os_string().into_vec())
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum PathForm<'a> {
    Text(&'a str),
    Hex { hex: String },
}

impl Serialize for PathBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let form = match std::str::from_utf8(&self.0) {
            Ok(text) if !text.chars().any(char::is_control) => PathForm::Text(text),
            _ => PathForm::Hex { hex: hex_encode(&self.0) },
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PathBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReadPath)
    }
}

/// Reads either form without keeping what it has read so far: there is one of these for every name of a tree.
struct ReadPath;

impl<'de> Visitor<'de> for ReadPath {
    type Value = PathBytes;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a name, or a name in hex")
    }

    fn visit_str<E>(self, text: &str) -> Result<PathBytes, E> {
        Ok(PathBytes(text.as_bytes().to_vec()))
    }

    fn visit_string<E>(self, text: String) -> Result<PathBytes, E> {
        Ok(PathBytes(text.into_bytes()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PathBytes, A::Error> {
        #[derive(Deserialize)]
        struct Hex {
            hex: String,
        }
        let Hex { hex } = Hex::deserialize(MapAccessDeserializer::new(map))?;
        hex_decode(&hex)
            .map(PathBytes)
            .ok_or_else(|| serde::de::Error::custom("a name in hex needs an even number of hex digits"))
    }
}

/// Bytes as the records write them.
#[must_use]
pub fn hex_encode(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes that a record means; None for what is no hex.
#[must_use]
pub fn hex_decode(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits?;
    if digits.len() % 2 != 0 {
        return None;
    }
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// One name of a tree. Records stand in the order of the walk: depth first, the names of a
/// directory sorted by bytes, a directory before what is in it; the root of a tree is the path "".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// The tree's name in the configuration.
    pub tree: String,
    /// Path relative to the tree's root.
    pub path: PathBytes,
    /// What it is.
    pub kind: FileKind,
    /// Bytes, for a regular file.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: u64,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Change time of the source when it was read: what tells a rewritten file whose mtime was set back.
    pub ctime: (i64, u32),
    /// Inode number of the source when it was read.
    pub ino: u64,
    /// BLAKE3 of the content, hex, for a regular file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
    /// Target, for a symbolic link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<PathBytes>,
    /// Names with the same number (unique within the tree) are one inode in the source and in the day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_group: Option<u64>,
    /// Device number (major, minor), for a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<(u32, u32)>,
    /// Extended attributes (ACLs among them), name to value in hex.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<PathBytesKey, String>,
}

/// An attribute's name as a JSON key. Attribute names are text on every file system that daykeep reads.
pub type PathBytesKey = String;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if hands a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::PathBytes;

    #[test]
    fn every_name_survives_json() {
        for name in [&b"plain"[..], b"caf\xc3\xa9", b"caf\xe9", b"new\nline", b"", b"\xff\x00x"] {
            let json = serde_json::to_string(&PathBytes(name.to_vec())).expect("serializes");
            let back: PathBytes = serde_json::from_str(&json).expect("parses");
            assert_eq!(back.0, name, "{json}");
        }
    }
}

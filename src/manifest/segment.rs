//! One line of `database/<db>/tables.jsonl`: a table whose rows daykeep copied, in segments.

use serde::{Deserialize, Serialize};

/// The rows of a table or a segment: how many, and a digest that does not depend on their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rows {
    /// How many.
    pub count: u64,
    /// The sum modulo 2^128 of XXH3-128 (seed 0) of each row's COPY text without its newline.
    pub digest: u128,
}

impl Rows {
    /// The rows of both. More than can be counted, as a record may claim, is as many as can be.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { count: self.count.saturating_add(other.count), digest: self.digest.wrapping_add(other.digest) }
    }
}

#[derive(Serialize, Deserialize)]
struct RowsForm {
    count: u64,
    digest: String,
}

impl Serialize for Rows {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RowsForm { count: self.count, digest: format!("{:032x}", self.digest) }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = RowsForm::deserialize(deserializer)?;
        let digest = u128::from_str_radix(&form.digest, 16).map_err(serde::de::Error::custom)?;
        Ok(Self { count: form.count, digest })
    }
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRecord {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its `pg_class.oid` at the freeze point: finds the table of the day before, whatever it is called now.
    pub oid: u32,
    /// The columns of the COPY text, in order.
    pub columns: Vec<String>,
    /// All its rows.
    pub rows: Rows,
    /// Its text, in the order in which it is to be loaded.
    pub segments: Vec<Segment>,
}

/// A stretch of a table's COPY text (text format, `\N` for NULL, one row a line, no end marker).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// First page of the table's heap that this segment covers, and the page behind its last; None behind the last
    /// segment's end: to the end of the table.
    pub pages: (u32, Option<u32>),
    /// BLAKE3 of the text, hex: also the name of the file.
    #[serde(deserialize_with = "digest")]
    pub blake3: String,
    /// Bytes of text.
    pub bytes: u64,
    /// Its rows.
    pub rows: Rows,
    /// None: `tables/<blake3>.zst` is the text. Some(base): `tables/<blake3>.patch.zst` is a zstd patch
    /// (`zstd -d --patch-from`) against the text whose digest this is, which is in `tables/<base>.zst`, whole.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "base")]
    pub base: Option<String>,
}

/// A digest is the name of a file, so that anything else could lead anywhere.
fn digest<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() == 64 && text.bytes().all(is_hex) {
        return Ok(text);
    }
    Err(serde::de::Error::custom("a digest has 64 hex digits"))
}

fn base<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    struct Base(#[serde(deserialize_with = "digest")] String);
    Ok(Option::<Base>::deserialize(deserializer)?.map(|Base(digest)| digest))
}

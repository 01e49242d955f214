//! Segments and their lists of anything. The first byte chooses; after it comes the file, for a patch behind a length and the base.
#![no_main]

use std::fs;
use std::io::Write;
use std::path::Path;

use daykeep::database;
use daykeep::manifest::{FileRecord, RecordReader, TableReader, TableRecord};
use libfuzzer_sys::fuzz_target;

/// zstd's magic number.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// What a file has as its digest and so as its name, without being it.
const DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fuzz_target!(|data: &[u8]| {
    let Some((which, content)) = data.split_first() else { return };
    let place = tempfile::tempdir().expect("a place");
    let path = place.path().join("file");
    match which % 4 {
        0 => {
            fs::write(&path, content).expect("writes");
            for table in TableReader::open(&path).expect("opens") {
                let Ok(table) = table else { break };
                let text = serde_json::to_vec(&table).expect("what was read can be written");
                assert_eq!(serde_json::from_slice::<TableRecord>(&text).expect("and read"), table);
                let hex = |digest: &str| digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
                for segment in &table.segments {
                    assert!(hex(&segment.blake3), "it is the name of a file: {:?}", segment.blake3);
                    assert!(segment.base.as_deref().is_none_or(hex), "it is the name of a file");
                }
                let _ = table.segments.iter().fold(table.rows, |sum, segment| sum.plus(segment.rows));
                let recipe = database::recipe(&table, "UTF8");
                assert!(recipe.is_empty() || recipe.ends_with('\n'));
            }
        }
        1 => {
            let whole = if content.starts_with(&ZSTD) {
                content.to_vec()
            } else {
                zstd::encode_all(content, 1).expect("zstd")
            };
            fs::write(&path, whole).expect("writes");
            for record in RecordReader::open(&path).expect("opens") {
                let Ok(record) = record else { break };
                let text = serde_json::to_vec(&record).expect("what was read can be written");
                assert_eq!(serde_json::from_slice::<FileRecord>(&text).expect("and read"), record);
            }
        }
        2 => {
            fs::write(&path, content).expect("writes");
            read(&path, None);
            // As the base of a patch it is kept whole in memory, or refused.
            fs::copy(&path, place.path().join(format!("{DIGEST}.zst"))).expect("copies");
            assert!(
                database::fuzzing::base(place.path(), DIGEST).is_err(),
                "nothing is known to have this digest"
            );
        }
        _ => {
            let Some((length, rest)) = content.split_first() else { return };
            let (base, patch) = rest.split_at(rest.len().min(usize::from(*length)));
            fs::write(&path, patch).expect("writes");
            read(&path, Some(base));
        }
    }
});

/// What verify takes for the text of a segment a restore takes too.
fn read(path: &Path, base: Option<&[u8]>) {
    let file = fs::File::open(path).expect("opens");
    let length = file.metadata().expect("is there").len();
    let mut seen = 0;
    let found = database::reread(file, base, None, &mut |bytes| {
        seen += bytes;
        Ok(())
    });
    assert_eq!(seen, length, "the digest of the file is that of all of it");
    let Ok(text) = found.text else { return };
    assert!(text.rows.count <= text.bytes);
    let place = path.parent().expect("a directory");
    let name = if base.is_some() { "patch.zst" } else { "zst" };
    fs::copy(path, place.join(format!("{}.{name}", text.blake3))).expect("copies");
    let mut out = Counted::default();
    database::fuzzing::segment(place, &text.blake3, base, &mut out).expect("it is restored");
    assert_eq!((out.bytes, out.hasher.finalize().to_hex().to_string()), (text.bytes, text.blake3));
}

/// A text that is looked at and not kept.
#[derive(Default)]
struct Counted {
    bytes: u64,
    hasher: blake3::Hasher,
}

impl Write for Counted {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.bytes += text.len() as u64;
        self.hasher.update(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

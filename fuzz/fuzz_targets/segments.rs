//! Segments and their lists of anything. The first byte chooses; after it comes the file, for a patch behind a length and the base.
#![no_main]

use std::fs;

use daykeep::database;
use daykeep::manifest::{RecordReader, TableReader};
use libfuzzer_sys::fuzz_target;

/// More than this is memory for nothing: an honest patch of what fits into an input needs no more.
const LONGEST: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((which, content)) = data.split_first() else { return };
    let place = tempfile::Builder::new().tempdir_in("/dev/shm").expect("a place");
    let path = place.path().join("file");
    match which % 4 {
        0 => {
            fs::write(&path, content).expect("writes");
            for table in TableReader::open(&path).expect("opens") {
                let Ok(table) = table else { break };
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
            fs::write(&path, content).expect("writes");
            for record in RecordReader::open(&path).expect("opens") {
                if record.is_err() {
                    break;
                }
            }
        }
        2 => {
            fs::write(&path, content).expect("writes");
            read(&path, None);
        }
        _ => {
            let Some((length, rest)) = content.split_first() else { return };
            let (base, patch) = rest.split_at(rest.len().min(usize::from(*length)));
            fs::write(&path, patch).expect("writes");
            read(&path, Some(base));
        }
    }
});

fn read(path: &std::path::Path, base: Option<&[u8]>) {
    let file = fs::File::open(path).expect("opens");
    let mut seen = 0;
    let found = database::reread(file, base, None, &mut |bytes| {
        seen += bytes;
        Ok(())
    });
    if let Ok(text) = found.text {
        assert_eq!(text.blake3.len(), 64);
        assert!(text.rows.count <= text.bytes);
    }
    assert!(seen as usize <= LONGEST.max(64 << 20));
}

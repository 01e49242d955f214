//! The long lists of a day, one JSON document a line: `files.jsonl.zst` ([`FileRecord`], in zstd) and
//! `database/<db>/tables.jsonl` ([`TableRecord`], plain). Read and written with bounded memory, however many lines there are.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read as _, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::fs::{self, OnPath as _};
use crate::manifest::{FileRecord, TableRecord};

/// A line longer than this is damage: extended attributes are at most 64 KiB a file on the file systems that are copied.
const LONGEST_LINE: u64 = 64 * 1024 * 1024;
/// zstd's level for the records: digests and times, of which the levels above find no more than this one, and take longer.
const LEVEL: i32 = 1;

/// A list could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The file itself.
    #[error(transparent)]
    File(#[from] fs::Error),
    /// A line is not what it should be.
    #[error("{}, line {line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
}

/// Reads `files.jsonl.zst`.
pub type RecordReader = JsonLines<FileRecord>;
/// Reads `tables.jsonl`.
pub type TableReader = JsonLines<TableRecord>;

/// An iterator over the lines of a file. After an error it ends.
pub struct JsonLines<T> {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    line: u64,
    buffer: Vec<u8>,
    ended: bool,
    lines_are: PhantomData<fn() -> T>,
}

impl<T> std::fmt::Debug for JsonLines<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JsonLines")
            .field("path", &self.path)
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

impl JsonLines<FileRecord> {
    /// Opens the records of a day.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, RecordsError> {
        Self::open_compressed(path)
    }
}

impl JsonLines<TableRecord> {
    /// Opens the tables of one database.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, RecordsError> {
        Ok(Self::over(path, Box::new(BufReader::new(fs::open_regular(path)?))))
    }
}

impl<T> JsonLines<T> {
    /// Opens lines of any kind that were [compressed](RecordWriter).
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open_compressed(path: &Path) -> Result<Self, RecordsError> {
        let decoder = zstd::Decoder::new(fs::open_regular(path)?).on("read", path)?;
        Ok(Self::over(path, Box::new(BufReader::with_capacity(256 * 1024, decoder))))
    }

    fn over(path: &Path, reader: Box<dyn BufRead + Send>) -> Self {
        let (path, buffer) = (path.to_owned(), Vec::new());
        Self { path, reader, line: 0, buffer, ended: false, lines_are: PhantomData }
    }

    fn problem(&self, problem: impl Into<String>) -> RecordsError {
        RecordsError::Line { path: self.path.clone(), line: self.line, problem: problem.into() }
    }
}

impl<T: DeserializeOwned> JsonLines<T> {
    fn read_line(&mut self) -> Result<Option<T>, RecordsError> {
        self.buffer.clear();
        self.line += 1;
        let read = (&mut self.reader).take(LONGEST_LINE).read_until(b'\n', &mut self.buffer);
        match read {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(self.problem(format!("the compressed text is damaged ({error})"))),
        }
        if self.buffer.last() != Some(&b'\n') {
            return Err(self.problem("the file ends in the middle of this line"));
        }
        serde_json::from_slice(&self.buffer).map(Some).map_err(|error| self.problem(error.to_string()))
    }
}

impl<T: DeserializeOwned> Iterator for JsonLines<T> {
    type Item = Result<T, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let line = self.read_line();
        self.ended = !matches!(line, Ok(Some(_)));
        line.transpose()
    }
}

/// What was written: how many records, and the BLAKE3 digest (hex) of the file as it lies on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Lines.
    pub records: u64,
    /// The digest for `manifest.json`.
    pub blake3: String,
}

/// Writes `files.jsonl.zst`. What is not [finished](RecordWriter::finish) does not read back: the last zstd frame has no end.
pub struct RecordWriter {
    path: PathBuf,
    sink: Sink,
    buffer: Vec<u8>,
    records: u64,
}

/// A file of zstd frames (RFC 8878, 3.1: they are read one behind the other).
enum Sink {
    /// In a frame.
    Within(zstd::Encoder<'static, Hashing>),
    /// Between two.
    Between(Hashing),
    /// A write failed.
    Broken,
}

impl std::fmt::Debug for RecordWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

impl RecordWriter {
    /// Begins a new file at `path`. What had that name is unlinked, never written through.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(path: &Path) -> Result<Self, RecordsError> {
        fs::remove_file(path)?;
        let file = Hashing { file: BufWriter::new(fs::create_new(path)?), hasher: blake3::Hasher::new() };
        Ok(Self { path: path.to_owned(), sink: Sink::Between(file), buffer: Vec::new(), records: 0 })
    }

    /// Adds a record; they come in [walk order](walk_order).
    ///
    /// # Errors
    /// Writing failed.
    pub fn write(&mut self, record: &FileRecord) -> Result<(), RecordsError> {
        self.write_line(record)
    }

    /// Adds a line of another kind, in a file that holds nothing but those.
    ///
    /// # Errors
    /// Writing failed.
    pub fn write_line(&mut self, record: &impl Serialize) -> Result<(), RecordsError> {
        self.buffer.clear();
        append_json(&mut self.buffer, record).on("write", &self.path)?;
        self.sink.write(&self.buffer).on("write", &self.path)?;
        self.records += 1;
        Ok(())
    }

    /// Adds all that a finished file of such lines holds, as it is.
    ///
    /// # Errors
    /// It cannot be read, or writing failed.
    pub fn append(&mut self, other: &Path, records: u64) -> Result<(), RecordsError> {
        let mut from = fs::open(other)?;
        let to = self.sink.between().on("write", &self.path)?;
        io::copy(&mut from, to).on("copy", other)?;
        self.records += records;
        Ok(())
    }

    /// Ends the file. It is flushed to the disk with the rest of the day, when that is sealed.
    ///
    /// # Errors
    /// Writing failed.
    pub fn finish(mut self) -> Result<Written, RecordsError> {
        if self.records == 0 {
            // An empty frame: an empty file would be none.
            self.sink.write(&[]).on("write", &self.path)?;
        }
        let file = self.sink.between().on("write", &self.path)?;
        file.flush().on("write", &self.path)?;
        Ok(Written { records: self.records, blake3: file.hasher.finalize().to_hex().to_string() })
    }
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        *self = match std::mem::replace(self, Self::Broken) {
            Self::Between(file) => {
                let mut encoder = zstd::Encoder::new(file, LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Within(encoder)
            }
            other => other,
        };
        match self {
            Self::Within(encoder) => encoder.write_all(bytes),
            _ => Err(broken()),
        }
    }

    /// Ends the frame, if there is one.
    fn between(&mut self) -> io::Result<&mut Hashing> {
        *self = match std::mem::replace(self, Self::Broken) {
            Self::Within(encoder) => Self::Between(encoder.finish()?),
            other => other,
        };
        match self {
            Self::Between(file) => Ok(file),
            _ => Err(broken()),
        }
    }
}

fn broken() -> io::Error {
    io::Error::other("an earlier write failed")
}

fn append_json(buffer: &mut Vec<u8>, record: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *buffer, record)?;
    buffer.push(b'\n');
    Ok(())
}

/// A file whose digest is known as soon as it is written.
struct Hashing {
    file: BufWriter<File>,
    hasher: blake3::Hasher,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The order of the records: by tree, then depth first, the names of a directory by bytes, a directory before what is in it.
#[must_use]
pub fn walk_order(a: &FileRecord, b: &FileRecord) -> Ordering {
    let components = |record| {
        let FileRecord { path, .. }: &FileRecord = record;
        path.0.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
    };
    a.tree.cmp(&b.tree).then_with(|| components(a).cmp(components(b)))
}

#[cfg(test)]
mod tests {
    use super::{RecordReader, RecordWriter, walk_order};
    use crate::manifest::{FileKind, FileRecord, PathBytes};

    fn record(path: &[u8]) -> FileRecord {
        FileRecord {
            tree: "files".into(),
            path: PathBytes(path.to_vec()),
            kind: FileKind::File,
            size: 7,
            mode: 0o640,
            uid: 1,
            gid: 2,
            mtime: (-3, 999_999_999),
            ctime: (4, 5),
            ino: 6,
            blake3: Some("00".repeat(32)),
            target: None,
            link_group: None,
            device: None,
            xattrs: [("user.a".to_owned(), "00ff".to_owned())].into(),
        }
    }

    #[test]
    fn records_come_back_and_the_digest_is_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("files.jsonl.zst");
        let records = [record(b""), record(b"a\xff"), record(b"new\nline")];
        for _ in 0..2 {
            let mut writer = RecordWriter::create(&path).unwrap();
            for record in &records {
                writer.write(record).unwrap();
            }
            let written = writer.finish().unwrap();
            assert_eq!(written.records, 3);
            let bytes = crate::fs::read(&path).unwrap();
            assert_eq!(written.blake3, blake3::hash(&bytes).to_hex().to_string());
            let back: Vec<_> = RecordReader::open(&path).unwrap().map(Result::unwrap).collect();
            assert_eq!(back, records);
        }
    }

    #[test]
    fn a_finished_list_is_taken_over_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (list, all) = (dir.path().join("list"), dir.path().join("all"));
        let mut writer = RecordWriter::create(&list).unwrap();
        (0..3).for_each(|n| writer.write(&record(format!("b/{n}").as_bytes())).unwrap());
        writer.finish().unwrap();
        let mut writer = RecordWriter::create(&all).unwrap();
        writer.write(&record(b"a")).unwrap();
        writer.append(&list, 3).unwrap();
        writer.append(&list, 3).unwrap();
        writer.write(&record(b"c")).unwrap();
        let written = writer.finish().unwrap();
        assert_eq!(written.records, 8);
        assert_eq!(written.blake3, blake3::hash(&crate::fs::read(&all).unwrap()).to_hex().to_string());
        let paths: Vec<_> = RecordReader::open(&all).unwrap().map(|record| record.unwrap().path.0).collect();
        let expected: [&[u8]; 8] = [b"a", b"b/0", b"b/1", b"b/2", b"b/0", b"b/1", b"b/2", b"c"];
        assert_eq!(paths, expected);

        RecordWriter::create(&all).unwrap().finish().unwrap();
        assert_eq!(RecordReader::open(&all).unwrap().count(), 0);
    }

    #[test]
    fn a_torn_file_and_a_wrong_line_are_errors_with_path_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("files.jsonl.zst");
        let mut writer = RecordWriter::create(&path).unwrap();
        for n in 0..20_000 {
            writer.write(&record(format!("{n}-{}", blake3::hash(&[1])).as_bytes())).unwrap();
        }
        writer.finish().unwrap();
        let bytes = crate::fs::read(&path).unwrap();
        crate::fs::write_durable(&path, &bytes[..bytes.len() - 9]).unwrap();
        let mut reader = RecordReader::open(&path).unwrap();
        let error = reader.find_map(Result::err).expect("a torn file is an error").to_string();
        assert!(error.contains("files.jsonl.zst, line "), "{error}");
        assert!(reader.next().is_none(), "it ends after an error");

        let line = zstd::encode_all(&b"{\"tree\":1}\n"[..], 3).unwrap();
        crate::fs::write_durable(&path, &line).unwrap();
        let error = RecordReader::open(&path).unwrap().next().unwrap().unwrap_err().to_string();
        assert!(error.contains("line 1: invalid type: integer `1`, expected a string"), "{error}");
    }

    #[test]
    fn a_directory_stands_before_what_is_in_it_and_before_its_neighbours() {
        let order: [&[u8]; 6] = [b"", b"a", b"a/z", b"a/z/b", b"a.b", b"a0"];
        let mut sorted = order.map(record);
        sorted.reverse();
        sorted.sort_by(walk_order);
        assert_eq!(sorted, order.map(record));
    }
}

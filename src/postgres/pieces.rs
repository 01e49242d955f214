//! The rows of a COPY in pieces of a handy size.
//!
//! A server sends every row in a message of its own (`CopyData`, see "Message Formats" in PostgreSQL's manual), and tokio-postgres
//! hands out message by message: for short rows that costs more than reading them from the tables, and a row of 500 MB is held as a whole.
//! COPY's text is one stream whatever the messages are, so here the messages are cut anew: short ones are joined and long ones are split.
//! All other messages stay as they are.

use tokio::io::ReadBuf;

/// Bytes of a message's head: its kind, and its length without the kind.
const HEAD: usize = 5;
/// The kind of `CopyData`.
const COPY_DATA: u8 = b'd';
/// Bytes of the longest `CopyData` that is made, with its head. tokio-postgres reads into a buffer of this size without growing it.
const LONGEST: usize = 64 * 1024;

/// Cuts what a server sends; what it gets may end anywhere.
#[derive(Debug, Default)]
pub struct Pieces {
    /// The part of the next message's head that was there when the bytes ended.
    head: Vec<u8>,
    /// Bytes that are still to come of the message that was begun.
    left: usize,
    /// The message that was begun last is `CopyData`.
    copying: bool,
}

impl Pieces {
    /// Whether rows were the last that came, so that more of them are to be expected.
    pub fn is_copying(&self) -> bool {
        self.copying
    }

    /// Cuts `bytes` and appends what comes of them to `out`, which ends with a whole message or within one that is no `CopyData`.
    pub fn cut(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        // Where the `CopyData` stands in `out` that is still growing.
        let mut open = None;
        while !bytes.is_empty() {
            if self.left == 0 {
                let wanted = HEAD - self.head.len();
                let (head, behind) = bytes.split_at(wanted.min(bytes.len()));
                bytes = behind;
                self.head.extend_from_slice(head);
                if let Some((kind, left)) = parse(&self.head) {
                    // A length that cannot be is for who reads it to refuse, also that of a row: all behind it stays as it is.
                    self.copying = kind == COPY_DATA && left.is_some();
                    self.left = left.unwrap_or(usize::MAX);
                    if !self.copying {
                        close(&mut open, out);
                        out.extend_from_slice(&self.head);
                    }
                    self.head.clear();
                }
                continue;
            }
            let room = if self.copying { room(&mut open, out) } else { usize::MAX };
            let (payload, behind) = bytes.split_at(self.left.min(bytes.len()).min(room));
            out.extend_from_slice(payload);
            self.left -= payload.len();
            bytes = behind;
        }
        close(&mut open, out);
    }
}

/// What was cut and waits to be read.
#[derive(Debug, Default)]
pub struct Ready {
    bytes: Vec<u8>,
    at: usize,
}

impl Ready {
    /// Whether all has been read.
    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The next bytes; gives the room of those that were read.
    pub fn replace(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        self.at = 0;
        std::mem::replace(&mut self.bytes, bytes)
    }

    /// Hands on what there is room for.
    pub fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let left = &self.bytes[self.at..];
        let count = left.len().min(buf.remaining());
        buf.put_slice(&left[..count]);
        self.at += count;
    }
}

/// Kind and length of the rest of a message, if its head is whole; no length if none can be so.
fn parse(head: &[u8]) -> Option<(u8, Option<usize>)> {
    let (kind, length) = head.split_first()?;
    let length = i32::from_be_bytes(length.try_into().ok()?);
    Some((*kind, usize::try_from(length).ok().and_then(|length| length.checked_sub(HEAD - 1))))
}

/// How many bytes the `CopyData` may still grow by; begins one if there is none with room.
fn room(open: &mut Option<usize>, out: &mut Vec<u8>) -> usize {
    if open.is_some_and(|at| out.len() - at >= LONGEST) {
        close(open, out);
    }
    let at = *open.get_or_insert_with(|| {
        out.extend_from_slice(&[COPY_DATA, 0, 0, 0, 0]);
        out.len() - HEAD
    });
    LONGEST - (out.len() - at)
}

/// Ends the `CopyData` that grows: its length is known now.
fn close(open: &mut Option<usize>, out: &mut [u8]) {
    if let Some(at) = open.take() {
        // It is at most LONGEST.
        let length = u32::try_from(out.len() - at - 1).unwrap_or(u32::MAX);
        out[at + 1..at + HEAD].copy_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::{HEAD, LONGEST, Pieces, parse};
    use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

    fn message(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len() + 4).unwrap().to_be_bytes();
        [&[kind], &length[..], payload].concat()
    }

    /// The messages of a stream: what is no row as it stands, and the text of the rows between.
    fn messages(mut stream: &[u8]) -> (Vec<Vec<u8>>, usize) {
        let mut found: Vec<Vec<u8>> = Vec::new();
        let (mut longest, mut in_rows) = (0, false);
        while !stream.is_empty() {
            let (kind, left) = parse(&stream[..HEAD]).unwrap();
            let (whole, behind) = stream.split_at(HEAD + left.unwrap());
            if kind == b'd' {
                longest = longest.max(whole.len());
                if !in_rows {
                    found.push(Vec::new());
                }
                found.last_mut().unwrap().extend_from_slice(&whole[HEAD..]);
            } else {
                found.push(whole.to_vec());
            }
            in_rows = kind == b'd';
            stream = behind;
        }
        (found.into_iter().filter(|message| !message.is_empty()).collect(), longest)
    }

    fn cut(stream: &[u8], at: &[usize]) -> Vec<u8> {
        let (mut pieces, mut out, mut begun) = (Pieces::default(), Vec::new(), 0);
        for end in at.iter().copied().chain([stream.len()]) {
            pieces.cut(&stream[begun..end], &mut out);
            begun = end;
        }
        out
    }

    #[test]
    fn short_rows_are_joined_and_long_ones_are_split() {
        let rows: Vec<Vec<u8>> = (0..10_000).map(|n| format!("{n}\n").into_bytes()).collect();
        let sent: Vec<u8> = rows.iter().flat_map(|row| message(b'd', row)).collect();
        let around = |rows: &[u8]| {
            [&message(b'H', b"\0\0\0")[..], rows, &message(b'c', b""), &message(b'Z', b"I")].concat()
        };
        let out = cut(&around(&sent), &[]);
        assert_eq!(out, around(&message(b'd', &rows.concat())));

        let long = vec![b'x'; 1_000_000];
        let out = cut(&message(b'd', &long), &[300_000, 300_001]);
        assert_eq!(messages(&out), (vec![long], LONGEST));
    }

    #[test]
    fn a_row_that_goes_on_is_rows_until_something_else_comes() {
        let mut pieces = Pieces::default();
        let mut out = Vec::new();
        assert!(!pieces.is_copying());
        let row = message(b'd', b"1\n");
        pieces.cut(&row[..3], &mut out);
        assert!(out.is_empty() && !pieces.is_copying());
        pieces.cut(&row[3..6], &mut out);
        assert_eq!((out.as_slice(), pieces.is_copying()), (&message(b'd', b"1")[..], true));
        pieces.cut(&row[6..], &mut out);
        assert!(pieces.is_copying());
        pieces.cut(&message(b'c', b""), &mut out);
        assert!(!pieces.is_copying());
    }

    #[test]
    fn a_length_that_cannot_be_is_left_as_it_is() {
        for length in [[0; 4], [0, 0, 0, 3], [0x80, 0, 0, 0], [0xff; 4]] {
            for kind in [b'E', b'd'] {
                let stream = [&[kind], &length[..]].concat();
                assert_eq!(cut(&stream, &[3]), stream);
                let behind_rows = [&message(b'd', b"1\n")[..], &stream].concat();
                assert_eq!(cut(&behind_rows, &[]), behind_rows);
            }
        }
        let old = b"E\xff\xff\xff\xffsorry, too many clients already\n\0";
        assert_eq!(cut(old, &[7, 9]), old);
    }

    proptest! {
        #[test]
        fn wherever_the_bytes_end_the_same_is_said(
            said in proptest::collection::vec(
                prop_oneof![
                    4 => (Just(b'd'), proptest::collection::vec(any::<u8>(), 0..40)),
                    1 => (Just(b'd'), (0..3 * LONGEST).prop_map(|length| vec![b'r'; length])),
                    1 => (prop_oneof![Just(b'c'), Just(b'N'), Just(b'D')], proptest::collection::vec(any::<u8>(), 0..40)),
                ],
                0..40,
            ),
            ends in proptest::collection::vec(any::<proptest::sample::Index>(), 0..30),
        ) {
            let stream: Vec<u8> = said.iter().flat_map(|(kind, payload)| message(*kind, payload)).collect();
            let mut ends: Vec<usize> = ends.iter().map(|end| end.index(stream.len() + 1)).collect();
            ends.sort_unstable();
            let out = cut(&stream, &ends);
            let (found, longest) = messages(&out);
            prop_assert_eq!(found, messages(&stream).0);
            prop_assert!(longest <= LONGEST);
        }
    }
}

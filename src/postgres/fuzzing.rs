//! What the fuzz targets drive: how the messages of a server are cut anew. Only cargo-fuzz builds this (`--cfg fuzzing`).

use tokio::io::AsyncRead;

use super::pieces::Pieces;
use super::recut::Recut;

/// What comes of a server's bytes that arrive in pieces which end there.
pub fn cut(bytes: &[u8], ends: &[usize]) -> Vec<u8> {
    let (mut pieces, mut out, mut begun) = (Pieces::default(), Vec::new(), 0);
    for end in ends.iter().copied().chain([bytes.len()]) {
        pieces.cut(&bytes[begun..end], &mut out);
        begun = end;
    }
    out
}

/// The same of a stream, as over TLS.
pub fn recut<S: AsyncRead + Unpin>(stream: S) -> impl AsyncRead + Unpin {
    Recut::new(stream)
}

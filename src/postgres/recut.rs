//! TLS whose rows come in [`Pieces`], as those of a [`Socket`](super::socket::Socket) do.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::pieces::{Pieces, Ready};

/// Bytes that one read takes at most: those of a record of TLS.
const CHUNK: usize = 16 * 1024;

/// Makes connections as its connector does.
#[derive(Clone)]
pub struct RecutTls(pub MakeRustlsConnect);

impl<S> MakeTlsConnect<S> for RecutTls
where
    MakeRustlsConnect: MakeTlsConnect<S>,
    RecutConnect<<MakeRustlsConnect as MakeTlsConnect<S>>::TlsConnect>:
        TlsConnect<S, Stream = Recut<<MakeRustlsConnect as MakeTlsConnect<S>>::Stream>>,
{
    type Stream = Recut<<MakeRustlsConnect as MakeTlsConnect<S>>::Stream>;
    type TlsConnect = RecutConnect<<MakeRustlsConnect as MakeTlsConnect<S>>::TlsConnect>;
    type Error = <MakeRustlsConnect as MakeTlsConnect<S>>::Error;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Self::TlsConnect, Self::Error> {
        self.0.make_tls_connect(domain).map(RecutConnect)
    }
}

/// The way to one [`Recut`].
pub struct RecutConnect<C>(C);

impl<S, C> TlsConnect<S> for RecutConnect<C>
where
    C: TlsConnect<S>,
    C::Future: Send + 'static,
{
    type Stream = Recut<C::Stream>;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, Self::Error>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let connecting = self.0.connect(stream);
        Box::pin(async move { connecting.await.map(Recut::new) })
    }
}

/// A stream whose bytes are cut anew.
#[derive(Debug)]
pub struct Recut<S> {
    inner: S,
    pieces: Pieces,
    chunk: Vec<u8>,
    ready: Ready,
}

impl<S> Recut<S> {
    /// Around a stream whose every byte is a server's.
    pub fn new(inner: S) -> Self {
        Self { inner, pieces: Pieces::default(), chunk: vec![0; CHUNK], ready: Ready::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Recut<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // What was read may have been a part of a head only.
        while this.ready.is_empty() {
            let mut chunk = ReadBuf::new(&mut this.chunk);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            let mut piece = this.ready.replace(Vec::new());
            piece.clear();
            this.pieces.cut(chunk.filled(), &mut piece);
            this.ready.replace(piece);
        }
        this.ready.give(buf);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Recut<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Recut<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.inner.channel_binding()
    }
}

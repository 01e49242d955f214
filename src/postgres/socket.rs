//! A socket to a server, without TLS, read in a way that suits COPY.
//!
//! A backend sends 8 KiB at a time. Whoever waits in epoll is woken by each of these writes, and with two cores the wake-ups, on both sides,
//! cost as much as reading the table. So a thread reads the socket: while rows come it sleeps a moment after each read that did not find
//! much, and finds more the next time, and it hands them on in [`Pieces`]. Statements and their answers, which are waited for, it never
//! delays.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::mpsc as threads;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, send, setsockopt, shutdown, sockopt};
use nix::unistd::read;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;

use super::pieces::{Pieces, Ready};

/// Bytes that one read takes at most: more than Linux keeps in a socket unless it was told to.
const CHUNK: usize = 256 * 1024;
/// A read that found less than this is followed by a pause.
const LITTLE: usize = 128 * 1024;
/// The pause: a backend at full speed writes in it about half of what a socket holds, so that it is never the one who waits.
const PAUSE: Duration = Duration::from_micros(200);
/// What was read and is waited for by nobody: then the thread waits, and with it the server.
const WAITING: usize = 2;

/// One connection's bytes.
#[derive(Debug)]
pub struct Socket {
    incoming: mpsc::Receiver<io::Result<Vec<u8>>>,
    ready: Ready,
    /// Pieces that were read go back to the thread, to be filled again.
    spare: threads::Sender<Vec<u8>>,
    /// Waits for room to write alone: an interest in reading would wake up at every byte that comes.
    outgoing: AsyncFd<OwnedFd>,
}

impl Socket {
    /// Connects to a server's socket in the file system; one whose path begins with NUL is abstract.
    pub async fn unix(path: &Path) -> io::Result<Self> {
        let socket = UnixStream::connect(path).await?.into_std()?;
        socket.set_nonblocking(false)?;
        Self::over(socket.into())
    }

    /// Connects over TCP, and gives the address that answered. A peer that is gone is noticed after `idle` seconds of silence.
    pub async fn tcp(
        host: &str,
        address: Option<IpAddr>,
        port: u16,
        idle: u32,
    ) -> io::Result<(Self, SocketAddr)> {
        let socket = match address {
            Some(address) => TcpStream::connect((address, port)).await,
            None => TcpStream::connect((host, port)).await,
        }?;
        let peer = socket.peer_addr()?;
        socket.set_nodelay(true)?;
        let socket = socket.into_std()?;
        socket.set_nonblocking(false)?;
        setsockopt(&socket, sockopt::KeepAlive, &true)?;
        setsockopt(&socket, sockopt::TcpKeepIdle, &idle)?;
        Ok((Self::over(socket.into())?, peer))
    }

    fn over(socket: OwnedFd) -> io::Result<Self> {
        let reading = socket.try_clone()?;
        let (sender, incoming) = mpsc::channel(WAITING);
        let (spare, spares) = threads::channel();
        // It ends with the connection: dropping this shuts the socket down.
        std::thread::Builder::new()
            .name("postgres-read".to_owned())
            .spawn(move || read_all(&reading, &sender, &spares))?;
        #[expect(
            deprecated,
            reason = "what it warns of is a descriptor that changes or is closed: this one is owned"
        )]
        let outgoing = AsyncFd::with_interest(socket, Interest::WRITABLE)?;
        Ok(Self { incoming, ready: Ready::default(), spare, outgoing })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // One that is not connected any more has no reader left to wake.
        let _ = shutdown(self.outgoing.as_raw_fd(), Shutdown::Both);
    }
}

/// Reads until the server or we have ended the connection.
fn read_all(
    socket: &OwnedFd,
    sender: &mpsc::Sender<io::Result<Vec<u8>>>,
    spares: &threads::Receiver<Vec<u8>>,
) {
    let mut pieces = Pieces::default();
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = match read(socket, &mut chunk) {
            Ok(0) => return,
            Ok(count) => count,
            Err(Errno::EINTR) => continue,
            Err(error) => {
                // Who has gone does not need to know.
                let _ = sender.blocking_send(Err(error.into()));
                return;
            }
        };
        let mut piece = spares.try_recv().unwrap_or_default();
        piece.clear();
        pieces.cut(&chunk[..count], &mut piece);
        if !piece.is_empty() && sender.blocking_send(Ok(piece)).is_err() {
            return;
        }
        if pieces.is_copying() && count < LITTLE {
            std::thread::sleep(PAUSE);
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ready.is_empty() {
            match ready!(this.incoming.poll_recv(cx)) {
                // The thread may have ended meanwhile.
                Some(Ok(piece)) => _ = this.spare.send(this.ready.replace(piece)),
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
        this.ready.give(buf);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // The thread's reads wait, so the socket does: only this call does not.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        loop {
            let mut guard = ready!(self.outgoing.poll_write_ready(cx))?;
            let sent = guard.try_io(|socket| Ok(send(socket.as_raw_fd(), bytes, flags)?));
            if let Ok(sent) = sent {
                return Poll::Ready(sent);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(self.outgoing.as_raw_fd(), Shutdown::Write).map_err(io::Error::from))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use nix::sys::socket::{getsockopt, setsockopt, sockopt};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::{CHUNK, Socket, WAITING};

    fn pair() -> (Socket, UnixStream) {
        let (ours, server) = UnixStream::pair().unwrap();
        (Socket::over(ours.into()).unwrap(), server)
    }

    fn message(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len() + 4).unwrap().to_be_bytes();
        [&[kind], &length[..], payload].concat()
    }

    #[tokio::test]
    async fn what_is_sent_arrives_whole_however_little_there_is_room_for() {
        let (mut socket, mut server) = pair();
        let sent: Vec<u8> =
            (0..5_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        let reading = std::thread::spawn(move || {
            let (mut heard, mut piece) = (Vec::new(), [0; 3333]);
            while let Ok(count @ 1..) = server.read(&mut piece) {
                heard.extend_from_slice(&piece[..count]);
            }
            server.write_all(&message(b'C', b"COPY 1\0")).unwrap();
            heard
        });
        socket.write_all(&sent).await.unwrap();
        // No more is sent, and the answer can still come.
        socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, message(b'C', b"COPY 1\0"));
        assert!(reading.join().unwrap() == sent, "something else arrived");
    }

    #[tokio::test]
    async fn answers_come_in_their_order_and_then_the_end() {
        let (mut socket, mut server) = pair();
        let rows = (0..2000_u32).map(|number| message(b'D', &number.to_be_bytes()));
        // Cut off within a message.
        let said: Vec<Vec<u8>> = rows.chain([message(b'D', b"the rest is lost")[..10].to_vec()]).collect();
        let wanted = said.concat();
        // In a thread of its own, as a server is: it waits when nobody reads.
        let saying = std::thread::spawn(move || said.iter().for_each(|one| server.write_all(one).unwrap()));
        let mut heard = vec![0; 5_000];
        socket.read_exact(&mut heard).await.unwrap();
        socket.read_to_end(&mut heard).await.unwrap();
        saying.join().unwrap();
        assert_eq!(heard, wanted);
    }

    #[tokio::test]
    async fn who_drops_it_hangs_up() {
        let (socket, mut server) = pair();
        drop(socket);
        server.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        assert_eq!(server.read(&mut [0; 8]).unwrap(), 0);
    }

    #[tokio::test]
    async fn rows_that_nobody_reads_are_left_to_the_server() {
        let (_socket, mut server) = pair();
        server.set_nonblocking(true).unwrap();
        let rows = message(b'd', &vec![b'r'; 100_000]);
        let (mut taken, mut full) = (0, 0);
        // It is full when nothing more has gone for a while.
        while full < 100 {
            match server.write(&rows) {
                Ok(count) => (taken, full) = (taken + count, 0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    full += 1;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("{error}"),
            }
            assert!(taken < 64 * CHUNK, "{taken} bytes are held");
        }
        assert!(taken > WAITING * 1000, "{taken}");
    }

    #[tokio::test]
    async fn a_connection_that_breaks_is_an_error_and_no_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connecting = Socket::tcp("localhost", Some(address.ip()), address.port(), 47);
        let (mut socket, peer) = connecting.await.unwrap();
        assert_eq!(peer, address);
        assert!(getsockopt(&socket.outgoing, sockopt::KeepAlive).unwrap());
        assert_eq!(getsockopt(&socket.outgoing, sockopt::TcpKeepIdle).unwrap(), 47);
        assert!(getsockopt(&socket.outgoing, sockopt::TcpNoDelay).unwrap());
        let (server, _) = listener.accept().unwrap();
        // It is reset instead of closed.
        setsockopt(&server, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
        drop(server);
        let error = socket.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

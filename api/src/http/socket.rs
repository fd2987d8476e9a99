//! A connection that does not wait for ever for the other side.
//!
//! Two waits are bounded here because nobody else bounds them: that for the first bytes, by which it is known which HTTP is
//! spoken, and that for a client to take what it asked for. Deliberately absent: the wait for the rest of a head, which hyper
//! bounds, and that for a body, which whoever reads it does.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

/// Bytes by which HTTP/2 is told from HTTP/1 (RFC 9113, 3.4). As long as what came could be their beginning, the rest is waited for.
const PREFACE_BYTES: usize = 24;

/// A TCP connection with limits to its silence.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    /// How many bytes came, as far as that matters.
    came: usize,
    /// Until when the first of them must have come.
    beginning: Pin<Box<Sleep>>,
    /// Longest wait for the other side to take anything.
    stall: Duration,
    /// Until when it must have, while it takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    /// Watches over a connection, whose first bytes come within `head`, and of which something is taken within each `stall`.
    pub fn new(stream: TcpStream, head: Duration, stall: Duration) -> Self {
        Self { stream, came: 0, beginning: Box::pin(sleep(head)), stall, stalled: None }
    }

    /// What became of a write, unless nothing was taken for too long.
    fn in_time<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stall = self.stall;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(stall)));
        if stalled.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing is taken")));
        }
        Poll::Pending
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if read.is_ready() {
            this.came = this.came.saturating_add(buf.filled().len() - before);
        } else if this.came < PREFACE_BYTES && this.beginning.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing is asked")));
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.in_time(written, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.in_time(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

//! The bytes that ansible-runner prints, as a blocking thread reads them: chunks from a channel, so
//! that the reader can be ended by closing it and can see whether more is waiting.

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

/// Bytes in chunks.
#[derive(Debug)]
pub(crate) struct Source {
    chunks: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Source {
    /// What arrives through this channel.
    pub(crate) fn new(chunks: mpsc::Receiver<Bytes>) -> Self {
        Self { chunks, current: Bytes::new() }
    }

    /// The bytes at hand, waiting for some; none at the end.
    pub(crate) fn fill(&mut self) -> Option<&[u8]> {
        while self.current.is_empty() {
            self.current = self.chunks.blocking_recv()?;
        }
        Some(&self.current)
    }

    /// Goes past bytes at hand.
    pub(crate) fn consume(&mut self, count: usize) {
        self.current.advance(count.min(self.current.len()));
    }

    /// The next byte, without going past it; none at the end.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        self.fill()?.first().copied()
    }

    /// Whether reading on would wait.
    pub(crate) fn is_idle(&self) -> bool {
        self.current.is_empty() && self.chunks.is_empty()
    }

    /// All of these chunks and then the end.
    #[cfg(test)]
    pub(crate) fn of(chunks: &[&[u8]]) -> Self {
        let (sender, receiver) = mpsc::channel(chunks.len().max(1));
        for chunk in chunks {
            sender.try_send(Bytes::copy_from_slice(chunk)).unwrap();
        }
        Self::new(receiver)
    }
}

//! What a stream can be told to send.
//!
//! Flows in: bytes of several kinds of owners. Flows out: where they lie, which stays the same until
//! they were sent. It owns them until then, and copies none.

use super::{buffers::Chunk, output::Output};

/// What can be sent: a received chunk as it is, or bytes from elsewhere.
#[derive(Debug)]
#[non_exhaustive]
pub enum Payload {
    /// Received bytes, forwarded from the buffer that they were received into.
    Chunk(Chunk),
    /// Bytes that this payload owns.
    Owned(Vec<u8>),
    /// Bytes written into memory of the shard.
    Output(Output),
    /// Bytes that live as long as the process.
    Static(&'static [u8]),
    /// Shared bytes.
    #[cfg(feature = "bytes")]
    Bytes(bytes::Bytes),
}

impl Payload {
    /// The bytes to send. Their address does not change while the payload lives, also when it is
    /// moved.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Payload::Chunk(chunk) => chunk,
            Payload::Owned(bytes) => bytes,
            Payload::Output(bytes) => bytes,
            Payload::Static(bytes) => bytes,
            #[cfg(feature = "bytes")]
            Payload::Bytes(bytes) => bytes,
        }
    }
}

impl From<Chunk> for Payload {
    fn from(chunk: Chunk) -> Payload {
        Payload::Chunk(chunk)
    }
}

impl From<Output> for Payload {
    fn from(bytes: Output) -> Payload {
        Payload::Output(bytes)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Payload {
        Payload::Owned(bytes)
    }
}

impl From<&'static [u8]> for Payload {
    fn from(bytes: &'static [u8]) -> Payload {
        Payload::Static(bytes)
    }
}

impl From<&'static str> for Payload {
    fn from(text: &'static str) -> Payload {
        Payload::Static(text.as_bytes())
    }
}

#[cfg(feature = "bytes")]
impl From<bytes::Bytes> for Payload {
    fn from(bytes: bytes::Bytes) -> Payload {
        Payload::Bytes(bytes)
    }
}

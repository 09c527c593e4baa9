//! What belongs to one hop: the fields that frame messages and steer connections, and what they say.

use http::Version;

/// How long the body of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none, and nothing in the head says so: neither `Content-Length` nor
    /// `Transfer-Encoding` (RFC 9112 section 6.3, rule 7).
    None,
    /// `Content-Length`, in bytes. Zero is kept apart from [`None`](Self::None), because origins
    /// do so, too.
    Exactly(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

impl BodyLength {
    /// Whether no byte of body follows the head.
    #[must_use]
    pub fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Exactly(0))
    }
}

/// How long the body of a response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseBody {
    /// There is none, whatever the fields say: an answer to HEAD, a 1xx, 204 or 304, or the 2xx that
    /// opens a CONNECT tunnel.
    None,
    /// `Content-Length`, in bytes.
    Exactly(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Up to the end of the connection.
    UntilClose,
}

impl From<BodyLength> for ResponseBody {
    fn from(length: BodyLength) -> Self {
        match length {
            BodyLength::None => Self::None,
            BodyLength::Exactly(length) => Self::Exactly(length),
            BodyLength::Chunked => Self::Chunked,
        }
    }
}

/// What the head of a message says about its connection after the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// It stays open. Nothing is written: this is what HTTP/1.1 means by default.
    Implied,
    /// It stays open, and `Connection: keep-alive` says so, as an HTTP/1.0 client needs it.
    KeepAlive,
    /// It is closed: `Connection: close`.
    Close,
    /// It changes to the protocol that the head names: `Connection: upgrade`, and `Upgrade`.
    Upgrade,
}

impl Persistence {
    /// What to say to a peer that speaks `version`, if the connection is kept or not.
    #[must_use]
    pub fn towards(version: Version, keep: bool) -> Self {
        match (keep, version) {
            (false, _) => Self::Close,
            (true, Version::HTTP_10) => Self::KeepAlive,
            (true, _) => Self::Implied,
        }
    }
}

/// The fields that the codec reads and writes itself, and nobody else touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum FramingField {
    Connection,
    ContentLength,
    Expect,
    Host,
    Te,
    TransferEncoding,
    Upgrade,
    /// `Keep-Alive`, `Proxy-Connection`, `HTTP2-Settings`: dropped unread.
    Dropped,
}

impl FramingField {
    /// Which of them `name` is, in any case.
    pub(in crate::http) fn of(name: &[u8]) -> Option<Self> {
        let (spelling, field): (&[u8], Self) = match name.len() {
            2 => (b"te", Self::Te),
            4 => (b"host", Self::Host),
            6 => (b"expect", Self::Expect),
            7 => (b"upgrade", Self::Upgrade),
            10 if matches!(name[0], b'k' | b'K') => (b"keep-alive", Self::Dropped),
            10 => (b"connection", Self::Connection),
            14 if matches!(name[0], b'h' | b'H') => (b"http2-settings", Self::Dropped),
            14 => (b"content-length", Self::ContentLength),
            16 => (b"proxy-connection", Self::Dropped),
            17 => (b"transfer-encoding", Self::TransferEncoding),
            _ => return None,
        };
        name.eq_ignore_ascii_case(spelling).then_some(field)
    }
}

/// Whether `bytes` are a token (RFC 9110 section 5.6.2): the name of a field, an option, a coding.
pub(in crate::http) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// Whether `byte` may stand in a token.
pub(in crate::http) fn is_token_byte(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let punctuation = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < punctuation.len() {
        table[punctuation[at] as usize] = true;
        at += 1;
    }
    table
};

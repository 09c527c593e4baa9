//! What was received: records found, opened where they lie, and given as chunks of data.

use std::{collections::VecDeque, ops::Range};

use rustls::{
    ContentType, Error, InvalidMessage, PeerMisbehaved, ProtocolVersion,
    crypto::cipher::InboundOpaqueMessage,
};

use super::{HEADER, StreamError, keys::Keys, post_handshake::PostHandshake};
use crate::ring::Chunk;

/// The most that follows a header: a full record, and what protection may add to it (RFC 5246
/// section 6.2.3; TLS 1.3 allows less, which opening a record checks).
const LONGEST: usize = (16 << 10) + 2048;

/// The start of a record whose rest is to come, and data that nobody has taken yet.
#[derive(Default)]
pub(super) struct Incoming {
    begun: Vec<u8>,
    first: Option<Chunk>,
    /// An idle connection has none.
    #[allow(clippy::box_collection, reason = "24 bytes less in an idle connection")]
    rest: Option<Box<VecDeque<Chunk>>>,
}

/// Whether more records may follow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    GoOn,
    /// The peer has ended its direction; what follows is of no meaning (RFC 8446 section 6.1).
    Close,
}

/// What a record was.
enum Opened {
    Data(Range<usize>),
    NoData,
    Close,
}

impl Incoming {
    /// Begins with bytes that came behind the handshake: whole pieces of data first, and the start
    /// of a record.
    pub(super) fn new(data: VecDeque<Chunk>, begun: Vec<u8>) -> Incoming {
        let mut incoming = Incoming { begun, ..Incoming::default() };
        data.into_iter().for_each(|chunk| incoming.push(chunk));
        incoming
    }

    pub(super) fn take(&mut self) -> Option<Chunk> {
        let taken = self.first.take()?;
        if let Some(rest) = &mut self.rest {
            self.first = rest.pop_front();
            if rest.is_empty() {
                self.rest = None;
            }
        }
        Some(taken)
    }

    pub(super) fn put_back(&mut self, chunk: Chunk) {
        if chunk.is_empty() {
            return;
        }
        if let Some(first) = self.first.replace(chunk) {
            self.rest.get_or_insert_default().push_front(first);
        }
    }

    fn push(&mut self, chunk: Chunk) {
        match self.first {
            None => self.first = Some(chunk),
            Some(_) => self.rest.get_or_insert_default().push_back(chunk),
        }
    }

    /// Opens the records in `chunk`, the first of which may have begun in earlier ones. What came
    /// before an error can be taken. What the peer is to be told at once is appended to `reply`.
    pub(super) fn open(
        &mut self,
        mut chunk: Chunk,
        keys: &mut Keys,
        messages: &mut PostHandshake,
        reply: &mut Vec<u8>,
    ) -> Result<Then, StreamError> {
        while !self.begun.is_empty() && !chunk.is_empty() {
            let missing = match record_length(&self.begun)? {
                None => HEADER - self.begun.len(),
                Some(length) => length - self.begun.len(),
            };
            let more = missing.min(chunk.len());
            self.begun.reserve_exact(missing);
            self.begun.extend_from_slice(&chunk[..more]);
            chunk.advance(more);
            if record_length(&self.begun)? == Some(self.begun.len()) {
                let mut record = std::mem::take(&mut self.begun);
                match open_record(&mut record, keys, messages, reply)? {
                    Opened::Data(data) => self.push(Chunk::of(record, data)),
                    Opened::NoData => {}
                    Opened::Close => return Ok(Then::Close),
                }
            }
        }
        if chunk.is_empty() {
            return Ok(Then::GoOn);
        }
        if chunk.bytes_mut().is_none() {
            chunk = chunk.copied_out();
        }
        let mut pieces = Pieces::default();
        let bytes = chunk.bytes_mut().unwrap_or_default();
        let opened = open_all(bytes, &mut pieces, keys, messages, reply);
        if let Ok((Then::GoOn, at)) = opened {
            self.begun.extend_from_slice(&chunk[at..]);
        }
        pieces.into_iter().for_each(|piece| self.push(chunk.part(piece)));
        opened.map(|(then, _)| then)
    }
}

/// Where data lies in a chunk. Most chunks hold one record.
#[derive(Default)]
struct Pieces {
    first: Option<Range<usize>>,
    more: Vec<Range<usize>>,
}

impl Pieces {
    fn push(&mut self, piece: Range<usize>) {
        match self.first {
            None => self.first = Some(piece),
            Some(_) => self.more.push(piece),
        }
    }

    fn into_iter(self) -> impl Iterator<Item = Range<usize>> {
        self.first.into_iter().chain(self.more)
    }
}

/// Opens all whole records. Says where the one begins that is not whole.
fn open_all(
    bytes: &mut [u8],
    pieces: &mut Pieces,
    keys: &mut Keys,
    messages: &mut PostHandshake,
    reply: &mut Vec<u8>,
) -> Result<(Then, usize), StreamError> {
    let mut at = 0;
    while let Some(length) = record_length(&bytes[at..])? {
        let Some(record) = bytes[at..].get_mut(..length) else { break };
        match open_record(record, keys, messages, reply)? {
            Opened::Data(data) => pieces.push(at + data.start..at + data.end),
            Opened::NoData => {}
            Opened::Close => return Ok((Then::Close, at)),
        }
        at += length;
    }
    Ok((Then::GoOn, at))
}

/// The length of the record that begins here, with its header; `None` where that is not whole.
fn record_length(bytes: &[u8]) -> Result<Option<usize>, StreamError> {
    let &[typ, major, _, long, longer, ..] = bytes else { return Ok(None) };
    let fault = match ContentType::from(typ) {
        ContentType::ApplicationData | ContentType::Handshake | ContentType::Alert => None,
        ContentType::ChangeCipherSpec => {
            return Err(Error::from(PeerMisbehaved::IllegalMiddleboxChangeCipherSpec).into());
        }
        _ => Some(InvalidMessage::InvalidContentType),
    };
    let fault = fault.or((major != 3).then_some(InvalidMessage::UnknownProtocolVersion));
    if let Some(fault) = fault {
        return Err(Error::InvalidMessage(fault).into());
    }
    let length = usize::from(u16::from_be_bytes([long, longer]));
    if length > LONGEST {
        return Err(Error::PeerSentOversizedRecord.into());
    }
    Ok(Some(HEADER + length))
}

/// Opens one record in place, and sees to it where it holds no data.
fn open_record(
    record: &mut [u8],
    keys: &mut Keys,
    messages: &mut PostHandshake,
    reply: &mut Vec<u8>,
) -> Result<Opened, StreamError> {
    let typ = ContentType::from(record[0]);
    // In TLS 1.3 every record says that it is data until it is opened (RFC 8446 section 5.2).
    if keys.is_tls13() && typ != ContentType::ApplicationData {
        let expect_types = vec![ContentType::ApplicationData];
        return Err(Error::InappropriateMessage { expect_types, got_type: typ }.into());
    }
    let start = record.as_ptr() as usize;
    let sealed = InboundOpaqueMessage::new(typ, ProtocolVersion::TLSv1_2, &mut record[HEADER..]);
    let plain = keys.open(sealed)?;
    let (typ, payload) = (plain.typ, plain.payload);
    match typ {
        ContentType::ApplicationData => {
            messages.data(payload.len())?;
            if payload.is_empty() {
                return Ok(Opened::NoData);
            }
            let at = payload.as_ptr() as usize - start;
            Ok(Opened::Data(at..at + payload.len()))
        }
        ContentType::Alert => {
            Ok(if messages.alert(payload, keys)? { Opened::Close } else { Opened::NoData })
        }
        ContentType::Handshake => {
            messages.handshake(payload, keys, reply)?;
            Ok(Opened::NoData)
        }
        got_type => {
            let expect_types = vec![ContentType::ApplicationData];
            Err(Error::InappropriateMessage { expect_types, got_type }.into())
        }
    }
}

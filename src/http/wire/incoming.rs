//! The messages that a peer sends.

use std::{
    io, mem,
    task::{Context, Poll, ready},
};

use crate::{
    http::{
        Headers, ResponseBody,
        h1::{BodyError, BodyPart, BodyReader, HeadLimits, HeadProgress, HeadReader, Parsed},
    },
    net::Receiving,
    ring::Chunk,
};

/// Where in the messages of a peer its stream is.
pub(in crate::http) struct Incoming {
    limits: HeadLimits,
    head: HeadReader,
    body: BodyReader,
    /// Bytes that were read and not counted yet.
    count: u64,
}

/// Why there is no head.
#[derive(Debug)]
pub(in crate::http) enum HeadFault<E> {
    /// It is not valid.
    Refused(E),
    /// The stream ended in the middle of it.
    Truncated,
    /// The stream failed.
    Stream(io::Error),
}

/// Why a body did not come to its end.
#[derive(Debug)]
pub(in crate::http) enum BodyFault {
    /// Its framing is not valid, or it was cut off.
    Refused(BodyError),
    /// The stream failed.
    Stream,
}

/// Whether TLS has ended without its close_notify. Between messages that is an end as any other: many
/// peers make it so, and nothing is lost by it. A body that the end of the connection delimits is cut
/// off by it (RFC 9112 section 9.8).
pub(in crate::http) fn is_unannounced_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

impl Incoming {
    pub(in crate::http) fn new(limits: HeadLimits) -> Incoming {
        let body = BodyReader::new(ResponseBody::None, limits);
        Incoming { limits, head: HeadReader::new(), body, count: 0 }
    }

    /// Reads a head, which `parse` takes in. `false` if the stream ended before it began, with or
    /// without a word.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub(in crate::http) async fn head<E>(
        &mut self,
        from: &mut Receiving<'_>,
        mut parse: impl FnMut(&[u8], &HeadLimits) -> Result<Parsed, E>,
    ) -> Result<bool, HeadFault<E>> {
        loop {
            let received = match from.receive().await {
                Err(error) if is_unannounced_end(&error) => None,
                received => received.map_err(HeadFault::Stream)?,
            };
            let Some(mut chunk) = received else {
                return if self.head.has_begun() { Err(HeadFault::Truncated) } else { Ok(false) };
            };
            let limits = self.limits;
            let progress = self.head.read(&chunk, limits.bytes, |bytes| parse(bytes, &limits));
            let progress = progress.map_err(HeadFault::Refused)?;
            let taken = match progress {
                HeadProgress::Done(length) => length,
                HeadProgress::More => chunk.len(),
            };
            self.count += taken as u64;
            if let HeadProgress::Done(length) = progress {
                chunk.advance(length);
                if !chunk.is_empty() {
                    from.unreceive(chunk);
                }
                return Ok(true);
            }
        }
    }

    /// Whether a head has begun and not ended.
    pub(in crate::http) fn head_has_begun(&self) -> bool {
        self.head.has_begun()
    }

    /// How many bytes were read since the last call.
    pub(in crate::http) fn take_count(&mut self) -> u64 {
        mem::take(&mut self.count)
    }

    /// The body of the message whose head was just read has this length, and trailers called as one
    /// of `hop_by_hop` are not for the next hop.
    pub(in crate::http) fn begin_body(
        &mut self,
        length: impl Into<ResponseBody>,
        hop_by_hop: &str,
    ) {
        self.body = BodyReader::new(length, self.limits);
        self.body.drop_trailers(hop_by_hop);
    }

    /// Whether the body has come to its end.
    pub(in crate::http) fn body_is_done(&self) -> bool {
        self.body.is_done()
    }

    /// The fields after a body.
    pub(in crate::http) fn trailers(&self) -> Option<&Headers> {
        self.body.trailers().filter(|trailers| !trailers.is_empty())
    }

    /// The next piece of the body; `None` at its end. Not taking up the poll again loses nothing.
    pub(in crate::http) fn poll_body(
        &mut self,
        from: &mut Receiving<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Chunk>, BodyFault>> {
        while !self.body.is_done() {
            let Some(mut chunk) = ready!(from.poll_receive(cx)).map_err(|_| BodyFault::Stream)?
            else {
                self.body.end_of_stream().map_err(BodyFault::Refused)?;
                return Poll::Ready(Ok(None));
            };
            let before = chunk.len();
            let cut = self.cut(&mut chunk).map_err(BodyFault::Refused)?;
            self.count += (before - chunk.len()) as u64;
            if let Some(data) = cut {
                if !chunk.is_empty() {
                    from.unreceive(chunk);
                }
                return Poll::Ready(Ok(Some(data)));
            }
            if !chunk.is_empty() {
                from.unreceive(chunk);
            }
        }
        Poll::Ready(Ok(None))
    }

    /// Cuts what comes first in a chunk of the body off: data, or framing, which is dropped.
    fn cut(&mut self, chunk: &mut Chunk) -> Result<Option<Chunk>, BodyError> {
        while !chunk.is_empty() && !self.body.is_done() {
            match self.body.step(chunk)? {
                BodyPart::Framing(length) | BodyPart::End(length) => chunk.advance(length),
                BodyPart::Data(length) => return Ok(Some(chunk.split_to(length))),
            }
        }
        Ok(None)
    }
}

//! Records, as what stands between a socket and its stream.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use super::{
    StreamError,
    incoming::{Incoming, Then},
    keys::Keys,
    outgoing::Outgoing,
    post_handshake::{PostHandshake, close_notify, fatal_alert, update_sealing_key},
    unsettled::Unsettled,
};
use crate::{
    net::{Layer, Leaves, Outlived, Socket},
    ring::{Chunk, Output, Payload},
    telemetry::{HandshakeResult, TlsCells, access_log::TlsSession},
    tls::Established,
};

/// TLS on an established connection.
pub(in crate::tls) struct RecordLayer {
    session: RefCell<Session>,
    established: Arc<Established>,
}

struct Session {
    keys: Keys,
    incoming: Incoming,
    outgoing: Outgoing,
    messages: PostHandshake,
    receiving: Receiving,
    /// Our direction has ended.
    finished: bool,
    /// The server may refuse us still. Boxed, as that does not last.
    unsettled: Option<Box<Unsettled>>,
}

enum Receiving {
    Open,
    Ended,
    Failed(StreamError),
}

impl RecordLayer {
    /// Goes on where a handshake has ended, with data and the start of a record that came behind it.
    pub(in crate::tls) fn new(
        keys: Keys,
        established: Established,
        data: VecDeque<Chunk>,
        begun: Vec<u8>,
    ) -> RecordLayer {
        let session = Session {
            keys,
            incoming: Incoming::new(data, begun),
            outgoing: Outgoing::default(),
            messages: PostHandshake::default(),
            receiving: Receiving::Open,
            finished: false,
            unsettled: None,
        };
        RecordLayer { session: RefCell::new(session), established: Arc::new(established) }
    }

    pub(in crate::tls) fn established(&self) -> &Arc<Established> {
        &self.established
    }
}

impl Session {
    fn take_in(&mut self, chunk: Chunk, socket: &Socket) {
        let Session { keys, incoming, messages, .. } = self;
        let mut reply = Vec::new();
        let opened = incoming.open(chunk, keys, messages, &mut reply);
        if !self.finished && !reply.is_empty() {
            send(socket, Payload::Owned(reply));
        }
        if self.keys.has_opened() && opened.is_ok() {
            self.unsettled = None;
        }
        match opened {
            Ok(Then::GoOn) => {}
            Ok(Then::Close) => self.receiving = Receiving::Ended,
            Err(error) => self.fail(error, socket),
        }
    }

    /// Gives the connection up, and says why.
    fn fail(&mut self, error: StreamError, socket: &Socket) {
        if !std::mem::replace(&mut self.finished, true) {
            let mut alert = Vec::new();
            fatal_alert(&error, &mut self.keys, &mut alert);
            send(socket, Payload::Owned(alert));
            socket.finish();
        }
        self.settle(&error);
        self.receiving = Receiving::Failed(error);
    }

    /// Counts the handshake as one that failed, if nothing has come from the server.
    fn settle(&mut self, error: &StreamError) {
        // Once we have ended, it may go without a word that it took us.
        let ended = self.finished && matches!(error, StreamError::Truncated);
        if let Some(unsettled) = self.unsettled.take().filter(|_| !ended) {
            unsettled.fail(error);
        }
    }

    /// Seals all that waits, and `last`, behind what is in `output`.
    fn seal(
        &mut self,
        last: Option<Payload>,
        socket: &Socket,
        output: &mut Output,
    ) -> Result<(), StreamError> {
        if self.keys.is_sealing_key_used_up() {
            update_sealing_key(&mut self.keys, output)?;
        }
        let Session { keys, outgoing, .. } = self;
        outgoing.seal(last, keys, socket.now(), output, |output| {
            let full = std::mem::replace(output, socket.output());
            // A failure is the socket's, which says so to whoever uses it next.
            let _ = socket.queue(Payload::Output(full));
        })
    }
}

impl RecordLayer {
    /// Counts the handshake that has led here once the peer is known to go on.
    pub(in crate::tls) fn count_handshake(
        &self,
        cells: Arc<TlsCells>,
        result: HandshakeResult,
        took: Duration,
    ) {
        let session = &mut *self.session.borrow_mut();
        let unsettled = Unsettled::new(cells, result, took);
        let is_open = matches!(session.receiving, Receiving::Open);
        if session.keys.is_tls13() && is_open && !session.keys.has_opened() {
            session.unsettled = Some(Box::new(unsettled));
        }
    }

    /// Says that the peer has ended its direction behind the data that is there.
    pub(in crate::tls) fn peer_has_ended(&mut self) {
        self.session.get_mut().receiving = Receiving::Ended;
    }
}

/// Hands records over, and whatever waits for them. A failure is the socket's, which says so to
/// whoever uses it next.
fn send(socket: &Socket, records: Payload) {
    let _ = socket.send(records);
}

impl Layer for RecordLayer {
    fn poll_receive(
        &self,
        socket: &Socket,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Chunk>>> {
        let session = &mut *self.session.borrow_mut();
        loop {
            if let Some(chunk) = session.incoming.take() {
                return Poll::Ready(Ok(Some(chunk)));
            }
            match &session.receiving {
                Receiving::Open => {}
                Receiving::Ended => return Poll::Ready(Ok(None)),
                Receiving::Failed(error) => return Poll::Ready(Err(error.clone().into())),
            }
            let received = ready!(socket.poll_receive(cx));
            if received.is_err() {
                session.settle(&StreamError::Truncated);
            }
            match received? {
                Some(chunk) => session.take_in(chunk, socket),
                None => {
                    session.settle(&StreamError::Truncated);
                    session.receiving = Receiving::Failed(StreamError::Truncated);
                }
            }
        }
    }

    fn session(&self) -> Arc<dyn TlsSession> {
        Arc::clone(self.established()) as Arc<dyn TlsSession>
    }

    fn ends_at(&self) -> Option<Instant> {
        self.established.ends_at()
    }

    fn outlived(&self) -> Option<Outlived> {
        Arc::clone(&self.established).outlived()
    }

    fn unreceive(&self, chunk: Chunk) {
        self.session.borrow_mut().incoming.put_back(chunk);
    }

    fn send(&self, socket: &Socket, payload: Payload, leaves: Leaves) -> io::Result<()> {
        let session = &mut *self.session.borrow_mut();
        if session.finished {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let last = match leaves {
            Leaves::Now => Some(payload),
            Leaves::WithTheNext if session.outgoing.wait(payload) => return Ok(()),
            Leaves::WithTheNext => None,
        };
        let mut output = socket.output();
        session.seal(last, socket, &mut output)?;
        socket.send(Payload::Output(output))
    }

    fn finish(&self, socket: &Socket) {
        let session = &mut *self.session.borrow_mut();
        if std::mem::replace(&mut session.finished, true) {
            return;
        }
        let mut output = socket.output();
        // Where it cannot be sealed the peer sees that the end is missing.
        let _ = session
            .seal(None, socket, &mut output)
            .and_then(|()| close_notify(&mut session.keys, &mut output));
        send(socket, Payload::Output(output));
        socket.finish();
    }

    fn announce_end(&self, socket: &Socket) {
        let session = &mut *self.session.borrow_mut();
        // A peer that has ended its direction, or has failed, listens no more.
        let listens = matches!(session.receiving, Receiving::Open);
        if !listens || std::mem::replace(&mut session.finished, true) {
            return;
        }
        let mut record = socket.output();
        if close_notify(&mut session.keys, &mut record).is_ok() {
            socket.send_at_once(&record);
        }
    }
}

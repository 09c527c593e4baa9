//! Records, as what stands between a socket and its stream.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    task::{Context, Poll, ready},
};

use super::{
    StreamError,
    incoming::{Incoming, Then},
    keys::Keys,
    outgoing::Outgoing,
    post_handshake::{PostHandshake, close_notify, fatal_alert, update_sealing_key},
};
use crate::{
    net::{Layer, Leaves, Socket},
    ring::{Chunk, Payload},
    tls::Established,
};

/// TLS on an established connection.
pub(in crate::tls) struct RecordLayer {
    session: RefCell<Session>,
    established: Established,
}

struct Session {
    keys: Keys,
    incoming: Incoming,
    outgoing: Outgoing,
    messages: PostHandshake,
    receiving: Receiving,
    /// Our direction has ended.
    finished: bool,
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
        };
        RecordLayer { session: RefCell::new(session), established }
    }

    pub(in crate::tls) fn established(&self) -> &Established {
        &self.established
    }
}

impl Session {
    fn take_in(&mut self, chunk: Chunk, socket: &Socket) {
        let Session { keys, incoming, messages, .. } = self;
        let mut reply = |record| send_record(socket, record, false);
        match incoming.open(chunk, keys, messages, &mut reply) {
            Ok(Then::GoOn) => {}
            Ok(Then::Close) => self.receiving = Receiving::Ended,
            Err(error) => self.fail(error, socket),
        }
    }

    /// Gives the connection up, and says why.
    fn fail(&mut self, error: StreamError, socket: &Socket) {
        if !self.finished
            && let Some(alert) = fatal_alert(&error, &mut self.keys)
        {
            // Where it cannot be sent, nobody is there to read it.
            let _ = socket.send(Payload::Owned(alert));
            socket.finish();
        }
        self.finished = true;
        self.receiving = Receiving::Failed(error);
    }

    fn send(&mut self, last: Option<Payload>, socket: &Socket) -> Result<(), StreamError> {
        if self.keys.is_sealing_key_used_up() {
            update_sealing_key(&mut self.keys, &mut |record| send_record(socket, record, true))?;
        }
        let Session { keys, outgoing, .. } = self;
        outgoing
            .seal(last, keys, socket.now(), |record, is_last| send_record(socket, record, !is_last))
    }
}

/// Hands a record over. A failure is the socket's, which says so to whoever uses it next.
fn send_record(socket: &Socket, record: Vec<u8>, more: bool) -> Result<(), StreamError> {
    let record = Payload::Owned(record);
    let _ = if more { socket.queue(record) } else { socket.send(record) };
    Ok(())
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
            match ready!(socket.poll_receive(cx))? {
                Some(chunk) => session.take_in(chunk, socket),
                None => session.receiving = Receiving::Failed(StreamError::Truncated),
            }
        }
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
        session.send(last, socket)?;
        Ok(())
    }

    fn finish(&self, socket: &Socket) {
        let session = &mut *self.session.borrow_mut();
        if std::mem::replace(&mut session.finished, true) {
            return;
        }
        let sent = session.send(None, socket);
        if let Ok(end) = sent.and_then(|()| close_notify(&mut session.keys)) {
            let _ = socket.send(Payload::Owned(end));
        }
        socket.finish();
    }
}

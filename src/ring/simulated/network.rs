//! Sockets in memory: listening ones, and streams between two of them.
//!
//! Flows in: calls, each done at once or not at all. Flows out: bytes, and the sockets that a call
//! has changed ([`Network::changed`]), for whose operations it is time to try again. It owns what
//! is on its way; it knows no operations, no clock and no descriptors beyond their numbers.
//!
//! The rules are those of Linux's TCP (`net/ipv4/tcp.c`, `tcp_reset` in `tcp_input.c`):
//!
//! - What arrived before a reset can still be received. Then comes the error, **once, to whoever
//!   asks first**: a send that takes it leaves the end of the stream to the receive.
//! - The error is EPIPE where the peer had ended its direction before, ECONNRESET otherwise.
//! - What a socket has sent and its peer has no window for waits in the sender's buffer, and is not
//!   acknowledged. Here it lies with the peer's bytes all the same, behind those in its window.
//! - A close with bytes not received, or with SO_LINGER 0, is a reset; bytes for a closed socket
//!   are answered by one.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    os::fd::RawFd,
};

pub(super) type SocketId = usize;

/// Connections that wait for an accept, at most.
const BACKLOG: usize = 16;

#[derive(Debug)]
pub(super) enum Role {
    Unconnected,
    Listening { queue: VecDeque<SocketId> },
    Connected { peer: SocketId },
}

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) role: Role,
    /// The number and inode of the descriptor that stands for it, once it has one.
    pub(super) descriptor: Option<(RawFd, u64)>,
    pub(super) closed: bool,
    pub(super) local: Option<SocketAddr>,
    pub(super) remote: Option<SocketAddr>,
    pub(super) resets_on_close: bool,
    arrived: VecDeque<u8>,
    window: usize,
    /// Bytes that may wait on this side for the peer's window, and all that were ever sent.
    send_buffer: usize,
    sent: u64,
    end_received: bool,
    end_sent: bool,
    was_reset: bool,
    error: Option<i32>,
}

/// How a call went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Went<T> {
    Done(T),
    Failed(i32),
    /// Not now: again when the socket has changed.
    Waits,
}

#[derive(Default)]
pub(super) struct Network {
    pub(super) sockets: Vec<Socket>,
    listening: BTreeMap<SocketAddr, SocketId>,
    /// Addresses from which no answer comes.
    silent: Vec<SocketAddr>,
    ports: u16,
    pub(super) changed: Vec<SocketId>,
}

impl Network {
    pub(super) fn socket(&mut self, window: usize, send_buffer: usize) -> SocketId {
        self.sockets.push(Socket {
            role: Role::Unconnected,
            descriptor: None,
            closed: false,
            local: None,
            remote: None,
            resets_on_close: false,
            arrived: VecDeque::new(),
            window,
            send_buffer,
            sent: 0,
            end_received: false,
            end_sent: false,
            was_reset: false,
            error: None,
        });
        self.sockets.len() - 1
    }

    pub(super) fn listen(&mut self, id: SocketId, address: SocketAddr) {
        self.sockets[id].role = Role::Listening { queue: VecDeque::new() };
        self.sockets[id].local = Some(address);
        self.listening.insert(address, id);
    }

    pub(super) fn silence(&mut self, address: SocketAddr) {
        self.silent.push(address);
    }

    pub(super) fn join(&mut self, client: SocketId, server: SocketId, address: SocketAddr) {
        self.ports += 1;
        let from = SocketAddr::from(([127, 0, 0, 1], 32_768 + self.ports % 28_000));
        let ends = [(client, server, from, address), (server, client, address, from)];
        for (id, peer, local, remote) in ends {
            let socket = &mut self.sockets[id];
            socket.role = Role::Connected { peer };
            (socket.local, socket.remote) = (Some(local), Some(remote));
            self.changed.push(id);
        }
    }

    pub(super) fn connect(&mut self, id: SocketId, address: SocketAddr) -> Went<()> {
        if self.silent.contains(&address) {
            return Went::Waits;
        }
        let Some(&listener) = self.listening.get(&address) else {
            return Went::Failed(libc::ECONNREFUSED);
        };
        let waiting = match &self.sockets[listener].role {
            Role::Listening { queue } => queue.len(),
            _ => unreachable!("it listens"),
        };
        if waiting >= BACKLOG {
            return Went::Waits;
        }
        let server = self.socket(self.sockets[id].window, self.sockets[id].send_buffer);
        self.join(id, server, address);
        if let Role::Listening { queue } = &mut self.sockets[listener].role {
            queue.push_back(server);
        }
        self.changed.push(listener);
        Went::Done(())
    }

    pub(super) fn accept(&mut self, listener: SocketId) -> Went<SocketId> {
        let Role::Listening { queue } = &mut self.sockets[listener].role else {
            return Went::Failed(libc::EINVAL);
        };
        match queue.pop_front() {
            None => Went::Waits,
            Some(accepted) => {
                // There is room in the queue again, for whom it was full.
                let connecting = |(_, socket): &(usize, &Socket)| {
                    matches!(socket.role, Role::Unconnected) && !socket.closed
                };
                let waiting = self.sockets.iter().enumerate().filter(connecting);
                self.changed.extend(waiting.map(|(id, _)| id));
                Went::Done(accepted)
            }
        }
    }

    /// Takes up to `most` of the bytes that have arrived; none at the end of the stream.
    pub(super) fn receive(&mut self, id: SocketId, most: usize) -> Went<Vec<u8>> {
        let socket = &mut self.sockets[id];
        let Role::Connected { peer } = socket.role else { return Went::Failed(libc::ENOTCONN) };
        if !socket.arrived.is_empty() {
            let count = socket.arrived.len().min(most);
            let bytes = socket.arrived.drain(..count).collect();
            self.changed.push(peer);
            return Went::Done(bytes);
        }
        if socket.end_received {
            return Went::Done(Vec::new());
        }
        match socket.error.take() {
            Some(error) => Went::Failed(error),
            None if socket.was_reset => Went::Done(Vec::new()),
            None => Went::Waits,
        }
    }

    /// Whether a receive would not wait, with nothing to receive.
    pub(super) fn has_ended(&self, id: SocketId) -> bool {
        let socket = &self.sockets[id];
        socket.end_received || socket.was_reset
    }

    pub(super) fn has_waiting(&self, listener: SocketId) -> bool {
        match &self.sockets[listener].role {
            Role::Listening { queue } => !queue.is_empty(),
            _ => false,
        }
    }

    /// Closes a connection that nobody got to see.
    pub(super) fn abort(&mut self, id: SocketId) {
        self.sockets[id].resets_on_close = true;
        self.close(id);
    }

    pub(super) fn has_arrived(&self, id: SocketId) -> usize {
        self.sockets[id].arrived.len()
    }

    /// Bytes that could be sent now.
    pub(super) fn room(&self, id: SocketId) -> usize {
        match self.sockets[id].role {
            Role::Connected { peer } => {
                let (socket, peer) = (&self.sockets[id], &self.sockets[peer]);
                match peer.closed {
                    true => usize::MAX,
                    false => peer.window + socket.send_buffer - peer.arrived.len(),
                }
            }
            _ => 0,
        }
    }

    /// Bytes that the peer has acknowledged, and those that were sent and it has not.
    pub(super) fn acknowledged(&self, id: SocketId) -> (u64, u64) {
        let Socket { role: Role::Connected { peer }, sent, .. } = self.sockets[id] else {
            return (0, 0);
        };
        let peer = &self.sockets[peer];
        let outstanding = peer.arrived.len().saturating_sub(peer.window) as u64;
        (sent - outstanding, outstanding)
    }

    /// Sends as much as there is room for. The flag says that the answer will be a reset.
    pub(super) fn send(&mut self, id: SocketId, bytes: &[u8]) -> Went<(usize, bool)> {
        let room = self.room(id);
        let socket = &mut self.sockets[id];
        let Role::Connected { peer } = socket.role else { return Went::Failed(libc::EPIPE) };
        if let Some(error) = socket.error.take() {
            return Went::Failed(error);
        }
        if socket.was_reset || socket.end_sent {
            return Went::Failed(libc::EPIPE);
        }
        let count = bytes.len().min(room);
        if count == 0 {
            return Went::Waits;
        }
        let peer_socket = &mut self.sockets[peer];
        let closed = peer_socket.closed;
        if !closed {
            peer_socket.arrived.extend(&bytes[..count]);
            self.sockets[id].sent += count as u64;
            self.changed.push(peer);
        }
        Went::Done((count, closed))
    }

    /// Ends the sending direction. What was sent before comes first: it has arrived already.
    pub(super) fn end(&mut self, id: SocketId) -> Result<(), i32> {
        let socket = &mut self.sockets[id];
        let Role::Connected { peer } = socket.role else { return Err(libc::ENOTCONN) };
        if socket.was_reset {
            return Err(libc::ENOTCONN);
        }
        socket.end_sent = true;
        self.sockets[peer].end_received = true;
        self.changed.extend([id, peer]);
        Ok(())
    }

    /// A reset arrives at a socket.
    pub(super) fn reset(&mut self, id: SocketId) {
        let socket = &mut self.sockets[id];
        if socket.was_reset || socket.closed {
            return;
        }
        socket.was_reset = true;
        socket.error = Some(if socket.end_received { libc::EPIPE } else { libc::ECONNRESET });
        self.changed.push(id);
    }

    pub(super) fn was_reset(&self, id: SocketId) -> bool {
        self.sockets[id].was_reset
    }

    pub(super) fn close(&mut self, id: SocketId) {
        let socket = &mut self.sockets[id];
        socket.closed = true;
        match std::mem::replace(&mut socket.role, Role::Unconnected) {
            Role::Unconnected => {}
            Role::Listening { queue } => {
                self.listening.retain(|_, listener| *listener != id);
                for waiting in queue {
                    self.abort(waiting);
                }
            }
            Role::Connected { peer } => {
                let unread = !std::mem::take(&mut socket.arrived).is_empty();
                let over = socket.was_reset || socket.end_sent && socket.end_received;
                socket.role = Role::Connected { peer };
                if unread || socket.resets_on_close && !over {
                    self.reset(peer);
                } else if !socket.was_reset && !socket.end_sent {
                    socket.end_sent = true;
                    self.sockets[peer].end_received = true;
                }
                self.changed.push(peer);
            }
        }
    }

    /// What `poll(2)` would report, of errors and ends.
    pub(super) fn events(&self, id: SocketId) -> i32 {
        let socket = &self.sockets[id];
        let both = socket.end_received && socket.end_sent;
        let mut events = 0;
        if socket.error.is_some() {
            events |= libc::POLLERR;
        }
        if socket.was_reset || both {
            events |= libc::POLLHUP;
        }
        if socket.was_reset || socket.end_received {
            events |= libc::POLLRDHUP;
        }
        i32::from(events)
    }
}

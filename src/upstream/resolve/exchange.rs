//! One question to one server, over UDP or TCP, without waiting.
//!
//! *In:* a question, a server, and word that the socket is ready. *Out:* a reply, or why there is
//! none. *Owns:* the socket: each question has one of its own, on a port that the kernel draws, and
//! connected, so that only the server's messages arrive.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    time::Instant,
};

use socket2::{Domain, Protocol, Socket, Type};

use super::message::{Question, Reply};

/// Messages that are looked at in one go: a flood must not keep the others waiting.
const MESSAGES: usize = 64;

/// A question that was sent.
#[derive(Debug)]
pub(super) struct Exchange {
    question: Question,
    transport: Transport,
    /// When it is given up.
    pub(super) deadline: Instant,
}

#[derive(Debug)]
enum Transport {
    Udp(UdpSocket),
    Tcp {
        stream: TcpStream,
        /// What has not been sent yet.
        outgoing: Vec<u8>,
        /// The length and what has come of the message.
        incoming: Vec<u8>,
    },
}

impl Exchange {
    /// Sends `question`, or begins to.
    pub(super) fn start(
        question: Question,
        server: SocketAddr,
        over_tcp: bool,
        deadline: Instant,
    ) -> io::Result<Exchange> {
        let transport = match over_tcp {
            false => {
                let any = match server {
                    SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                    SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
                };
                let socket = UdpSocket::bind(any)?;
                socket.set_nonblocking(true)?;
                socket.connect(server)?;
                socket.send(question.bytes())?;
                Transport::Udp(socket)
            }
            true => {
                let domain = Domain::for_address(server);
                let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
                socket.set_nonblocking(true)?;
                match socket.connect(&server.into()) {
                    Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => {
                        return Err(error);
                    }
                    _ => {}
                }
                // A question is far shorter than 64 KiB: a name has 255 bytes at most.
                let length = (question.bytes().len() as u16).to_be_bytes();
                let outgoing = [&length, question.bytes()].concat();
                Transport::Tcp { stream: socket.into(), outgoing, incoming: Vec::new() }
            }
        };
        Ok(Exchange { question, transport, deadline })
    }

    /// What to wait for.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        match &self.transport {
            Transport::Udp(socket) => socket.as_fd(),
            Transport::Tcp { stream, .. } => stream.as_fd(),
        }
    }

    /// Whether to wait until something can be sent, rather than until something has come.
    pub(super) fn wants_to_send(&self) -> bool {
        matches!(&self.transport, Transport::Tcp { outgoing, .. } if !outgoing.is_empty())
    }

    /// Goes on as far as it can. `None`: it is not done.
    pub(super) fn proceed(&mut self) -> Option<io::Result<Reply>> {
        let done = match &mut self.transport {
            Transport::Udp(socket) => receive(&self.question, socket),
            Transport::Tcp { stream, outgoing, incoming } => {
                talk(&self.question, stream, outgoing, incoming)
            }
        };
        match done {
            Err(error) if is_not_ready(&error) => None,
            done => Some(done),
        }
    }
}

fn is_not_ready(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn receive(question: &Question, socket: &UdpSocket) -> io::Result<Reply> {
    // Without EDNS a message has 512 bytes at most (RFC 1035, section 4.2.1); a longer one is cut
    // here, and malformed then.
    let mut buffer = [0; 1500];
    for _ in 0..MESSAGES {
        let length = socket.recv(&mut buffer)?;
        match question.read(&buffer[..length], true) {
            Reply::NotMine => {}
            reply => return Ok(reply),
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

fn talk(
    question: &Question,
    stream: &mut TcpStream,
    outgoing: &mut Vec<u8>,
    incoming: &mut Vec<u8>,
) -> io::Result<Reply> {
    while !outgoing.is_empty() {
        let sent = match stream.write(outgoing) {
            // It is not connected yet.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            sent => sent?,
        };
        outgoing.drain(..sent);
    }
    let mut buffer = [0; 4096];
    loop {
        if let Some((length, message)) = incoming.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length));
            if let Some(message) = message.get(..length) {
                return match question.read(message, false) {
                    Reply::NotMine => Err(io::Error::other("an answer to another question")),
                    reply => Ok(reply),
                };
            }
        }
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => incoming.extend_from_slice(&buffer[..length]),
        }
    }
}

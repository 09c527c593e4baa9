//! Runs a handshake on a stream.

use std::{collections::VecDeque, time::Duration};

use rustls::{
    AlertDescription, Error, PeerIncompatible,
    pki_types::CertificateDer,
    unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError},
};

use super::{HandshakeError, pace, side::Side};
use crate::{
    net::Stream,
    ring::{Chunk, Output},
    runtime::timeout,
    tls::{
        Established, PeerIdentity, Reason,
        client_hello::Reader,
        established::Used,
        record::{Keys, RecordLayer, give_up},
    },
};

/// How long a peer that was refused has to read why and to close.
const LINGER: Duration = Duration::from_secs(1);
/// What may be received while a message is not complete. rustls allows 64 KiB of one.
const LONGEST: usize = 128 << 10;

/// What rustls wants next.
enum Next {
    /// Another look at what is there.
    Again,
    /// More bytes from the peer.
    Receive,
    /// What was written is to be sent.
    Send,
    /// The handshake is over.
    Done,
    Closed,
}

/// Runs the handshake to its end, and puts its records between the socket and the stream. `hello`
/// reads what a client asks for, `used` is what is shown to the peer. `judge` is asked about the peer's certificates, also where a session
/// is resumed and rustls asks nobody.
pub(super) async fn drive<S: Side>(
    stream: &mut Stream,
    mut side: S,
    mut hello: Option<Reader>,
    used: Used,
    judge: impl FnOnce(&[CertificateDer<'_>]) -> Result<Option<PeerIdentity>, Reason>,
) -> Result<(), HandshakeError> {
    let mut server_name = None;
    let mut exchange = Exchange::default();
    let mut output = stream.output();
    loop {
        match exchange.process(&mut side, &mut output) {
            Ok(Next::Again) => {}
            Ok(Next::Send) => {
                let flight = std::mem::replace(&mut output, stream.output());
                stream.send(flight).await.map_err(HandshakeError::Transport)?;
            }
            Ok(Next::Receive) => {
                let before = exchange.received.len();
                exchange.receive(stream).await?;
                // One that cannot be read is refused below.
                if let Some(reader) = &mut hello
                    && let Ok(Some(read)) = reader.push(&exchange.received[before..])
                {
                    server_name = read.server_name;
                    hello = None;
                }
                pace::step().await;
            }
            Ok(Next::Done) if exchange.is_between_records() => break,
            Ok(Next::Done) => exchange.receive(stream).await?,
            Ok(Next::Closed) => return Err(HandshakeError::Closed),
            Err(error) => {
                match is_of_an_old_client(&error) {
                    true => output.extend_from_slice(&PROTOCOL_VERSION_ALERT),
                    false => exchange.write_alert(&mut side, &mut output),
                }
                refuse(stream, output).await;
                return Err(HandshakeError::Refused(error));
            }
        }
    }
    let judged = judge(side.common().peer_certificates().unwrap_or_default());
    let (peer, refusal) = match judged {
        Ok(peer) => (peer, None),
        Err(reason) => (None, Some(reason)),
    };
    let established = Established::new(side.common(), server_name, peer, used);
    let established = established.ok_or(HandshakeError::Refused(Error::HandshakeNotComplete))?;
    let (secrets, kernel) = side.into_kernel().map_err(HandshakeError::Refused)?;
    let mut keys = Keys::new(kernel, secrets).map_err(HandshakeError::Refused)?;
    if let Some(reason) = refusal {
        give_up(&mut keys, AlertDescription::AccessDenied, &mut output);
        refuse(stream, output).await;
        return Err(HandshakeError::NotAllowed(reason));
    }
    stream.set_layer(RecordLayer::new(keys, established, exchange.data, exchange.received));
    Ok(())
}

/// The alert protocol_version (RFC 8446 section 6.2), before there are keys.
const PROTOCOL_VERSION_ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 70];

/// Whether a client knows no version that is spoken here. rustls misses in its ClientHello what only
/// TLS 1.2 has (signature_algorithms, RFC 5246 section 7.4.1.4.1) before it looks at the version.
fn is_of_an_old_client(error: &Error) -> bool {
    matches!(error, Error::PeerIncompatible(PeerIncompatible::SignatureAlgorithmsExtensionRequired))
}

/// Sends the alert, and waits until it has been read: to close with bytes unread would reset the
/// connection, and take the alert back.
async fn refuse(stream: &mut Stream, alert: Output) {
    if stream.start_send(alert).is_err() {
        return;
    }
    stream.finish();
    let end = async { while let Ok(Some(_)) = stream.receive().await {} };
    let _ = timeout(LINGER, end).await;
}

/// What came from the peer and was not used yet.
#[derive(Default)]
struct Exchange {
    received: Vec<u8>,
    /// Data that came behind the handshake.
    data: VecDeque<Chunk>,
}

impl Exchange {
    async fn receive(&mut self, stream: &mut Stream) -> Result<(), HandshakeError> {
        if self.received.len() > LONGEST {
            let error = Error::InvalidMessage(rustls::InvalidMessage::MessageTooLarge);
            return Err(HandshakeError::Refused(error));
        }
        match stream.receive().await {
            Ok(Some(chunk)) => self.received.extend_from_slice(&chunk),
            Ok(None) => return Err(HandshakeError::Closed),
            Err(error) => return Err(HandshakeError::Transport(error)),
        }
        Ok(())
    }

    fn process<S: Side>(&mut self, side: &mut S, output: &mut Output) -> Result<Next, Error> {
        let status = side.process(&mut self.received);
        let discard = status.discard;
        let next = match status.state {
            Err(error) => Err(error),
            Ok(ConnectionState::EncodeTlsData(mut record)) => {
                write(output, |room| record.encode(room)).map(|()| Next::Again)
            }
            Ok(ConnectionState::TransmitTlsData(records)) => {
                records.done();
                Ok(Next::Send)
            }
            Ok(ConnectionState::BlockedHandshake) => Ok(Next::Receive),
            Ok(ConnectionState::WriteTraffic(_)) => Ok(Next::Done),
            Ok(ConnectionState::ReadTraffic(mut records)) => {
                while let Some(record) = records.next_record() {
                    let payload = record?.payload;
                    self.data.push_back(Chunk::of(payload.to_vec(), 0..payload.len()));
                }
                Ok(Next::Again)
            }
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Next::Closed),
            Ok(state) => Err(Error::General(format!("{state:?} in a handshake"))),
        };
        self.received.drain(..discard);
        next
    }

    /// Whether no part of a message is left with rustls, so that another may go on with the records.
    /// A handshake message in several records stays among the bytes until it is complete, with a
    /// whole record in front.
    fn is_between_records(&self) -> bool {
        match self.received[..] {
            [_, _, _, long, longer, ref rest @ ..] => {
                rest.len() < usize::from(u16::from_be_bytes([long, longer]))
            }
            _ => true,
        }
    }

    /// Writes the alert that rustls has made of an error, and what was to be sent before it. What was
    /// received stays, as rustls may know of messages in it; and rustls is not asked for more than it
    /// has, since it would look at them.
    fn write_alert<S: Side>(&mut self, side: &mut S, output: &mut Output) {
        while side.common().wants_write() {
            match self.process(side, output) {
                Ok(Next::Again) => {}
                _ => return,
            }
        }
    }
}

/// Calls with room to write to, which grows until it is enough.
fn write<E: Into<WriteError>>(
    output: &mut Output,
    mut call: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<(), Error> {
    let start = output.len();
    let mut room = 4096;
    loop {
        output.resize(start + room, 0);
        match call(&mut output[start..]).map_err(Into::into) {
            Ok(written) => {
                output.truncate(start + written);
                return Ok(());
            }
            Err(WriteError::TooSmall(InsufficientSizeError { required_size })) => {
                room = required_size;
            }
            Err(WriteError::Failed) => return Err(Error::EncryptError),
        }
    }
}

enum WriteError {
    TooSmall(InsufficientSizeError),
    Failed,
}

impl From<EncodeError> for WriteError {
    fn from(error: EncodeError) -> WriteError {
        match error {
            EncodeError::InsufficientSize(size) => WriteError::TooSmall(size),
            EncodeError::AlreadyEncoded => WriteError::Failed,
        }
    }
}

impl From<EncryptError> for WriteError {
    fn from(error: EncryptError) -> WriteError {
        match error {
            EncryptError::InsufficientSize(size) => WriteError::TooSmall(size),
            EncryptError::EncryptExhausted => WriteError::Failed,
        }
    }
}

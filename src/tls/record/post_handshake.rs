//! What a peer may say on an established connection other than data.

use rustls::{
    AlertDescription, ContentType, Error, HandshakeType, InvalidMessage, PeerMisbehaved,
    crypto::cipher::OutboundChunks,
};

use super::{StreamError, keys::Keys};

/// The most that a handshake message may hold, as rustls has it. A session ticket is the longest
/// that is expected.
const LONGEST: usize = 0xffff;
/// Records without data that a peer may send in a row: key updates, tickets, empty ones.
const PATIENCE: u8 = 32;

const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// The state of what comes besides data.
#[derive(Default)]
pub(super) struct PostHandshake {
    /// The start of a handshake message whose rest is to come in further records.
    begun: Vec<u8>,
    /// Records without data since the last one with some.
    in_a_row: u8,
    /// The peer has been told that there is no renegotiation.
    refused_renegotiation: bool,
}

impl PostHandshake {
    /// Takes in a record of data, of which there may be none.
    pub(super) fn data(&mut self, length: usize) -> Result<(), StreamError> {
        if !self.begun.is_empty() {
            let fault = PeerMisbehaved::MessageInterleavedWithHandshakeMessage;
            return Err(Error::from(fault).into());
        }
        if length == 0 {
            return self.without_data();
        }
        self.in_a_row = 0;
        Ok(())
    }

    fn without_data(&mut self) -> Result<(), StreamError> {
        self.in_a_row += 1;
        if self.in_a_row > PATIENCE {
            return Err(Error::from(PeerMisbehaved::TooManyKeyUpdateRequests).into());
        }
        Ok(())
    }

    /// Takes in an alert. `true` if the peer has ended its direction.
    pub(super) fn alert(&mut self, alert: &[u8], keys: &Keys) -> Result<bool, StreamError> {
        let &[level, description] = alert else {
            return Err(Error::InvalidMessage(InvalidMessage::MissingData("alert")).into());
        };
        let description = AlertDescription::from(description);
        match (level, description) {
            (_, AlertDescription::CloseNotify) => Ok(true),
            // Neither is an error in itself; everything else is in TLS 1.3 (RFC 8446 section 6.2).
            (_, AlertDescription::UserCanceled) => self.without_data().map(|()| false),
            (WARNING, _) if !keys.is_tls13() => self.without_data().map(|()| false),
            _ => Err(StreamError::AlertReceived(description)),
        }
    }

    /// Takes in handshake messages, or parts of some. The records that answer them are appended to
    /// `reply`.
    pub(super) fn handshake(
        &mut self,
        bytes: &[u8],
        keys: &mut Keys,
        reply: &mut Vec<u8>,
    ) -> Result<(), StreamError> {
        self.without_data()?;
        if self.begun.is_empty() && bytes.is_empty() {
            return Err(Error::InvalidMessage(InvalidMessage::InvalidEmptyPayload).into());
        }
        self.begun.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.begun);
        let mut rest = &all[..];
        while let [typ, long, longer, longest, after @ ..] = rest {
            let length = u32::from_be_bytes([0, *long, *longer, *longest]) as usize;
            if length > LONGEST {
                return Err(Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge).into());
            }
            let Some((message, after)) = after.split_at_checked(length) else { break };
            self.message(HandshakeType::from(*typ), message, after.is_empty(), keys, reply)?;
            rest = after;
        }
        self.begun = rest.to_vec();
        Ok(())
    }

    fn message(
        &mut self,
        typ: HandshakeType,
        message: &[u8],
        is_last: bool,
        keys: &mut Keys,
        reply: &mut Vec<u8>,
    ) -> Result<(), StreamError> {
        let renegotiation = match keys.is_client() {
            true => HandshakeType::HelloRequest,
            false => HandshakeType::ClientHello,
        };
        match typ {
            HandshakeType::NewSessionTicket if keys.is_tls13() => keys.keep_ticket(message),
            HandshakeType::KeyUpdate if keys.is_tls13() => {
                let requested = match message {
                    [0] => false,
                    [1] => true,
                    _ => return Err(Error::InvalidMessage(InvalidMessage::InvalidKeyUpdate).into()),
                };
                // What follows in the same record was protected by the old key (RFC 8446 section 5.1).
                if !is_last {
                    return Err(Error::from(PeerMisbehaved::KeyEpochWithPendingFragment).into());
                }
                keys.change_opening_key()?;
                if requested { update_sealing_key(keys, reply) } else { Ok(()) }
            }
            typ if typ == renegotiation && !keys.is_tls13() => {
                if std::mem::replace(&mut self.refused_renegotiation, true) {
                    let fault = PeerMisbehaved::TooManyRenegotiationRequests;
                    return Err(Error::from(fault).into());
                }
                alert(WARNING, AlertDescription::NoRenegotiation, keys, reply)
            }
            got_type => {
                Err(Error::InappropriateHandshakeMessage { expect_types: Vec::new(), got_type }
                    .into())
            }
        }
    }
}

/// Changes the key that seals. The record that says so to the peer is appended to `output`.
pub(super) fn update_sealing_key(keys: &mut Keys, output: &mut Vec<u8>) -> Result<(), StreamError> {
    if !keys.is_tls13() {
        return Err(StreamError::KeysExhausted);
    }
    let update = [u8::from(HandshakeType::KeyUpdate), 0, 0, 1, 0];
    keys.seal(ContentType::Handshake, OutboundChunks::Single(&update), output)?;
    keys.change_sealing_key()
}

/// Appends the record that ends our direction.
pub(super) fn close_notify(keys: &mut Keys, output: &mut Vec<u8>) -> Result<(), StreamError> {
    alert(WARNING, AlertDescription::CloseNotify, keys, output)
}

/// Appends the record that gives the connection up because of `error`, where the peer is to be told.
pub(super) fn fatal_alert(error: &StreamError, keys: &mut Keys, output: &mut Vec<u8>) {
    let description = match error {
        StreamError::Invalid(error) => description(error),
        StreamError::KeysExhausted => AlertDescription::InternalError,
        StreamError::AlertReceived(_) | StreamError::Truncated => return,
    };
    give_up(keys, description, output);
}

/// Appends the record that gives the connection up.
pub(in crate::tls) fn give_up(
    keys: &mut Keys,
    description: AlertDescription,
    output: &mut Vec<u8>,
) {
    // Without a key there is no way to tell.
    let _ = alert(FATAL, description, keys, output);
}

fn alert(
    level: u8,
    description: AlertDescription,
    keys: &mut Keys,
    output: &mut Vec<u8>,
) -> Result<(), StreamError> {
    let alert = [level, u8::from(description)];
    keys.seal(ContentType::Alert, OutboundChunks::Single(&alert), output)
}

/// Which alert says what was wrong (RFC 8446 section 6.2).
pub(super) fn description(error: &Error) -> AlertDescription {
    match error {
        Error::DecryptError => AlertDescription::BadRecordMac,
        Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
        Error::InvalidMessage(InvalidMessage::InvalidKeyUpdate) => {
            AlertDescription::IllegalParameter
        }
        Error::InvalidMessage(_) => AlertDescription::DecodeError,
        Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerMisbehaved(_) => AlertDescription::UnexpectedMessage,
        _ => AlertDescription::InternalError,
    }
}

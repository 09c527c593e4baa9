//! The keys of both directions, and how they change.

use rustls::{
    ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets, ProtocolVersion,
    SupportedCipherSuite,
    client::ClientConnectionData,
    crypto::cipher::{
        InboundOpaqueMessage, InboundPlainMessage, MessageDecrypter, MessageEncrypter,
        OutboundChunks, OutboundPlainMessage,
    },
    kernel::KernelConnection,
    server::ServerConnectionData,
};

use super::StreamError;

/// Records before the limit at which a key is changed, so that an alert still finds one to use.
const MARGIN: u64 = 1 << 10;

/// What rustls keeps of a connection whose records it does not see: the secrets that the next keys
/// are made of, and where a client's session tickets go.
pub(in crate::tls) enum Kernel {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl Kernel {
    fn suite(&self) -> SupportedCipherSuite {
        match self {
            Kernel::Client(kernel) => kernel.negotiated_cipher_suite(),
            Kernel::Server(kernel) => kernel.negotiated_cipher_suite(),
        }
    }
}

/// What protects the records of a connection.
pub(in crate::tls) struct Keys {
    kernel: Box<Kernel>,
    seal: Box<dyn MessageEncrypter>,
    sealed: u64,
    open: Box<dyn MessageDecrypter>,
    opened: u64,
}

impl Keys {
    pub(in crate::tls) fn new(kernel: Kernel, secrets: ExtractedSecrets) -> Result<Keys, Error> {
        let suite = kernel.suite();
        let (sealed, seal) = secrets.tx;
        let (opened, open) = secrets.rx;
        let mut seal = encrypter(suite, seal)?;
        if sealed > 0 {
            // A sealing key of aws-lc derives the start of its nonces from its first one and refuses
            // to go back behind it (`aead_aes_gcm_tls13_seal_scatter`). What this seals is never sent.
            let empty = OutboundChunks::new_empty();
            let (typ, version) = (ContentType::Alert, ProtocolVersion::TLSv1_2);
            seal.encrypt(OutboundPlainMessage { typ, version, payload: empty }, 0)?;
        }
        Ok(Keys { kernel: Box::new(kernel), seal, sealed, open: decrypter(suite, open)?, opened })
    }

    pub(super) fn is_tls13(&self) -> bool {
        matches!(self.kernel.suite(), SupportedCipherSuite::Tls13(_))
    }

    pub(super) fn is_client(&self) -> bool {
        matches!(*self.kernel, Kernel::Client(_))
    }

    /// Makes a record.
    pub(super) fn seal(
        &mut self,
        typ: ContentType,
        payload: OutboundChunks<'_>,
    ) -> Result<Vec<u8>, StreamError> {
        let message = OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_2, payload };
        let record = self.seal.encrypt(message, self.sealed)?;
        self.sealed += 1;
        Ok(record.encode())
    }

    /// Opens a record in place.
    pub(super) fn open<'a>(
        &mut self,
        record: InboundOpaqueMessage<'a>,
    ) -> Result<InboundPlainMessage<'a>, StreamError> {
        let plain = self.open.decrypt(record, self.opened)?;
        self.opened += 1;
        Ok(plain)
    }

    /// Whether the sealing key must be changed before it seals more.
    pub(super) fn is_sealing_key_used_up(&self) -> bool {
        let common = match self.kernel.suite() {
            SupportedCipherSuite::Tls13(suite) => &suite.common,
            SupportedCipherSuite::Tls12(suite) => &suite.common,
        };
        self.sealed >= common.confidentiality_limit.saturating_sub(MARGIN)
    }

    #[cfg(test)]
    pub(super) fn pretend_sealed(&mut self, records: u64) {
        self.sealed = records;
    }

    /// Seals with the next key from now on. The peer was told so, under the last one.
    pub(super) fn change_sealing_key(&mut self) -> Result<(), StreamError> {
        let (sequence, secrets) = match &mut *self.kernel {
            Kernel::Client(kernel) => kernel.update_tx_secret()?,
            Kernel::Server(kernel) => kernel.update_tx_secret()?,
        };
        self.seal = encrypter(self.kernel.suite(), secrets)?;
        self.sealed = sequence;
        Ok(())
    }

    /// Opens with the next key from now on, as the peer has said.
    pub(super) fn change_opening_key(&mut self) -> Result<(), StreamError> {
        let (sequence, secrets) = match &mut *self.kernel {
            Kernel::Client(kernel) => kernel.update_rx_secret()?,
            Kernel::Server(kernel) => kernel.update_rx_secret()?,
        };
        self.open = decrypter(self.kernel.suite(), secrets)?;
        self.opened = sequence;
        Ok(())
    }

    /// Keeps a session ticket, for the next connection to the same server.
    pub(super) fn keep_ticket(&mut self, ticket: &[u8]) -> Result<(), StreamError> {
        match &mut *self.kernel {
            Kernel::Client(kernel) => Ok(kernel.handle_new_session_ticket(ticket)?),
            Kernel::Server(_) => Err(Error::InappropriateHandshakeMessage {
                expect_types: Vec::new(),
                got_type: rustls::HandshakeType::NewSessionTicket,
            }
            .into()),
        }
    }
}

fn encrypter(
    suite: SupportedCipherSuite,
    secrets: ConnectionTrafficSecrets,
) -> Result<Box<dyn MessageEncrypter>, Error> {
    let (key, iv) = key_and_iv(secrets)?;
    Ok(match suite {
        SupportedCipherSuite::Tls13(suite) => suite.aead_alg.encrypter(key, iv),
        SupportedCipherSuite::Tls12(suite) => {
            let shape = suite.aead_alg.key_block_shape();
            let (fixed, explicit) = iv.as_ref().split_at(shape.fixed_iv_len);
            suite.aead_alg.encrypter(key, fixed, &explicit[..shape.explicit_nonce_len])
        }
    })
}

fn decrypter(
    suite: SupportedCipherSuite,
    secrets: ConnectionTrafficSecrets,
) -> Result<Box<dyn MessageDecrypter>, Error> {
    let (key, iv) = key_and_iv(secrets)?;
    Ok(match suite {
        SupportedCipherSuite::Tls13(suite) => suite.aead_alg.decrypter(key, iv),
        SupportedCipherSuite::Tls12(suite) => {
            let shape = suite.aead_alg.key_block_shape();
            suite.aead_alg.decrypter(key, &iv.as_ref()[..shape.fixed_iv_len])
        }
    })
}

fn key_and_iv(
    secrets: ConnectionTrafficSecrets,
) -> Result<(rustls::crypto::cipher::AeadKey, rustls::crypto::cipher::Iv), Error> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok((key, iv)),
        _ => Err(Error::General("the keys of this cipher suite cannot be extracted".into())),
    }
}

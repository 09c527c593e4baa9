//! The keys of both directions, and how they change.

use rustls::{
    ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets, SupportedCipherSuite,
    client::ClientConnectionData,
    crypto::cipher::{InboundOpaqueMessage, InboundPlainMessage, MessageDecrypter, OutboundChunks},
    kernel::KernelConnection,
    server::ServerConnectionData,
};

use super::{StreamError, seal::SealingKey};

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
    seal: SealingKey,
    sealed: u64,
    open: Box<dyn MessageDecrypter>,
    opened: u64,
}

impl Keys {
    pub(in crate::tls) fn new(kernel: Kernel, secrets: ExtractedSecrets) -> Result<Keys, Error> {
        let suite = kernel.suite();
        let (sealed, seal) = secrets.tx;
        let (opened, open) = secrets.rx;
        let seal = SealingKey::new(suite, &seal)?;
        Ok(Keys { kernel: Box::new(kernel), seal, sealed, open: decrypter(suite, open)?, opened })
    }

    pub(super) fn is_tls13(&self) -> bool {
        matches!(self.kernel.suite(), SupportedCipherSuite::Tls13(_))
    }

    pub(super) fn is_client(&self) -> bool {
        matches!(*self.kernel, Kernel::Client(_))
    }

    /// Appends a record to `output`.
    pub(super) fn seal(
        &mut self,
        typ: ContentType,
        payload: OutboundChunks<'_>,
        output: &mut Vec<u8>,
    ) -> Result<(), StreamError> {
        self.seal.seal(typ, payload, self.sealed, output)?;
        self.sealed += 1;
        Ok(())
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

    /// Whether the peer's records of this key have begun.
    pub(super) fn has_opened(&self) -> bool {
        self.opened > 0
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
        self.seal = SealingKey::new(self.kernel.suite(), &secrets)?;
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

fn decrypter(
    suite: SupportedCipherSuite,
    secrets: ConnectionTrafficSecrets,
) -> Result<Box<dyn MessageDecrypter>, Error> {
    let (key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key, iv),
        _ => return Err(Error::General("a cipher suite that is not known here".into())),
    };
    Ok(match suite {
        SupportedCipherSuite::Tls13(suite) => suite.aead_alg.decrypter(key, iv),
        SupportedCipherSuite::Tls12(suite) => {
            let shape = suite.aead_alg.key_block_shape();
            suite.aead_alg.decrypter(key, &iv.as_ref()[..shape.fixed_iv_len])
        }
    })
}

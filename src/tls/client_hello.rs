//! What a client asks for, before anything is answered.
//!
//! Flows in: the first bytes of a connection, in whatever pieces they come. Flows out: the names in
//! its ClientHello. It reads with rustls's parser, so it refuses what a handshake would refuse.

use std::fmt;

use rustls::server::Acceptor;

/// The most that a ClientHello may take: a handshake message of 64 KiB, in records of any size that
/// a client would make.
const LONGEST: usize = 128 << 10;

/// What a client asks for in its first message (RFC 8446 section 4.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientHello {
    /// The server that it wants to talk to (SNI, RFC 6066 section 3). A DNS name in lower case.
    pub server_name: Option<Box<str>>,
    /// The protocols that it offers (ALPN, RFC 7301), in its order.
    pub application_protocols: Vec<Box<[u8]>>,
}

/// The bytes are no ClientHello.
#[derive(Debug)]
pub struct NotClientHello(Reason);

#[derive(Debug)]
enum Reason {
    Invalid(rustls::Error),
    TooLong,
}

impl fmt::Display for NotClientHello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reason::Invalid(error) => write!(f, "no TLS ClientHello: {error}"),
            Reason::TooLong => write!(f, "no TLS ClientHello in the first {LONGEST} bytes"),
        }
    }
}

impl std::error::Error for NotClientHello {}

/// Reads a ClientHello.
#[derive(Default)]
pub struct Reader {
    acceptor: Acceptor,
    read: usize,
}

impl Reader {
    /// Takes the next bytes in. `None` until the message is complete. What follows it is ignored.
    ///
    /// # Errors
    ///
    /// When the bytes are not the start of a ClientHello, or too many of one.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<Option<ClientHello>, NotClientHello> {
        while !bytes.is_empty() {
            if self.read > LONGEST {
                return Err(NotClientHello(Reason::TooLong));
            }
            let invalid = |error| NotClientHello(Reason::Invalid(error));
            let general =
                |error: std::io::Error| invalid(rustls::Error::General(error.to_string()));
            self.read += self.acceptor.read_tls(&mut bytes).map_err(general)?;
            if let Some(accepted) = self.acceptor.accept().map_err(|(error, _)| invalid(error))? {
                let hello = accepted.client_hello();
                let protocols = hello.alpn().into_iter().flatten();
                return Ok(Some(ClientHello {
                    server_name: hello.server_name().map(|name| name.to_ascii_lowercase().into()),
                    application_protocols: protocols.map(Box::from).collect(),
                }));
            }
        }
        Ok(None)
    }
}

//! What a client asks for, before anything is answered.
//!
//! Flows in: the first bytes of a connection, in whatever pieces they come. Flows out: the names in
//! its ClientHello. It reads with rustls's parser, so it refuses what a handshake would refuse.

use std::fmt;

use rustls::server::Acceptor;

/// The most that a ClientHello may take, with the headers of its records: as much as rustls keeps of a
/// handshake message that is not complete.
const LONGEST: usize = u16::MAX as usize;

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
            if self.read >= LONGEST {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with_length<const N: usize>(bytes: &[u8]) -> Vec<u8> {
        [&bytes.len().to_be_bytes()[8 - N..], bytes].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes(), &with_length::<2>(content)[..]].concat()
    }

    /// The message of a client that asks for `name`, with padding (RFC 7685).
    fn hello(name: &str, padding: usize) -> Vec<u8> {
        let server_name = [&[0], &with_length::<2>(name.as_bytes())[..]].concat();
        let extensions = [
            extension(0, &with_length::<2>(&server_name)),
            extension(13, &with_length::<2>(&[4, 3])),
            extension(16, &with_length::<2>(&with_length::<1>(b"http/1.1"))),
            extension(21, &vec![0; padding]),
        ];
        let body = [
            &[3, 3][..],
            &[7; 32],
            &with_length::<1>(&[]),
            &with_length::<2>(&[0xc0, 0x2b]),
            &with_length::<1>(&[0]),
            &with_length::<2>(&extensions.concat()),
        ];
        [&[1], &with_length::<3>(&body.concat())[..]].concat()
    }

    fn in_records(message: &[u8], length: usize) -> Vec<u8> {
        let record = |piece| [&[22, 3, 1], &with_length::<2>(piece)[..]].concat();
        message.chunks(length).flat_map(record).collect()
    }

    /// What is found, and after how many segments.
    fn read(bytes: &[u8], segment: usize) -> Result<Option<(ClientHello, usize)>, NotClientHello> {
        let mut reader = Reader::default();
        for (index, segment) in bytes.chunks(segment).enumerate() {
            if let Some(hello) = reader.push(segment)? {
                return Ok(Some((hello, index + 1)));
            }
        }
        Ok(None)
    }

    proptest! {
        #[test]
        fn the_names_are_found_in_any_segments_and_records(
            padding in 0usize..600,
            record in 1usize..700,
            segment in 1usize..700,
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes = in_records(&hello("Shop.Example", padding), record);
            let (hello, segments) = read(&bytes, segment).unwrap().unwrap();
            prop_assert_eq!(hello.server_name.as_deref(), Some("shop.example"));
            prop_assert_eq!(hello.application_protocols, [Box::from(&b"http/1.1"[..])]);
            prop_assert_eq!(segments, bytes.len().div_ceil(segment));
            prop_assert!(read(&bytes[..cut.index(bytes.len())], segment).unwrap().is_none());
        }
    }

    #[test]
    fn the_longest_may_come_in_any_segments_and_nothing_longer() {
        let longest = |length: usize| {
            let without = in_records(&hello("a.example", 0), 16 << 10).len();
            // Four records more.
            in_records(&hello("a.example", length - without - 3 * HEADER), 16 << 10)
        };
        for segment in [1, 1000, 4096, usize::MAX] {
            let bytes = longest(LONGEST);
            assert_eq!(bytes.len(), LONGEST);
            assert!(read(&bytes, segment).unwrap().is_some(), "in segments of {segment}");
            assert!(read(&longest(LONGEST + 1), segment).is_err(), "in segments of {segment}");
        }
        let endless = [&[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..], &[0; LONGEST]].concat();
        assert!(read(&endless, 1).is_err());
    }

    /// The header of a record.
    const HEADER: usize = 5;
}

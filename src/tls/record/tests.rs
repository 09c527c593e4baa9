//! Records between two ends in memory, and what a peer may not do.

use std::{rc::Rc, sync::Arc};

use proptest::prelude::*;
use rustls::{
    AlertDescription, ClientConfig, ContentType, Error, RootCertStore, ServerConfig,
    SupportedProtocolVersion,
    client::UnbufferedClientConnection,
    crypto::cipher::OutboundChunks,
    pki_types::{PrivateKeyDer, ServerName},
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, UnbufferedStatus},
    version::{TLS12, TLS13},
};

use super::{
    StreamError,
    incoming::{Incoming, Then},
    keys::{Kernel, Keys},
    outgoing::Outgoing,
    post_handshake::{PostHandshake, close_notify, fatal_alert, update_sealing_key},
};
use crate::{
    ring::{Chunk, Output, Outputs, Payload},
    tls::provider,
};

/// One step of a handshake: what is left of the bytes from the peer, and what goes to it.
fn step<Data>(status: UnbufferedStatus<'_, '_, Data>, output: &mut Vec<u8>) -> (usize, bool) {
    let discard = status.discard;
    let done = match status.state.unwrap() {
        ConnectionState::EncodeTlsData(mut record) => {
            let start = output.len();
            output.resize(start + 16_384, 0);
            let written = record.encode(&mut output[start..]).unwrap();
            output.truncate(start + written);
            false
        }
        ConnectionState::TransmitTlsData(sent) => {
            sent.done();
            false
        }
        ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => true,
        _ => panic!("not in a handshake"),
    };
    (discard, done)
}

/// The keys of a client and of a server that have shaken hands.
fn keys(version: &'static SupportedProtocolVersion) -> (Keys, Keys) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    server.enable_secret_extraction = true;
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = UnbufferedClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = UnbufferedServerConnection::new(Arc::new(server)).unwrap();
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        loop {
            let (discard, done) = step(client.process_tls_records(&mut to_client), &mut to_server);
            to_client.drain(..discard);
            if done {
                break;
            }
        }
        loop {
            let (discard, done) = step(server.process_tls_records(&mut to_server), &mut to_client);
            to_server.drain(..discard);
            if done {
                break;
            }
        }
    }
    let (secrets, kernel) = client.dangerous_into_kernel_connection().unwrap();
    let client = Keys::new(Kernel::Client(kernel), secrets).unwrap();
    let (secrets, kernel) = server.dangerous_into_kernel_connection().unwrap();
    let server = Keys::new(Kernel::Server(kernel), secrets).unwrap();
    (client, server)
}

/// The receiving end of a connection.
struct End {
    keys: Keys,
    incoming: Incoming,
    messages: PostHandshake,
    replies: Vec<u8>,
}

impl End {
    fn new(keys: Keys) -> End {
        End {
            keys,
            incoming: Incoming::default(),
            messages: PostHandshake::default(),
            replies: Vec::new(),
        }
    }

    fn take_in(&mut self, bytes: &[u8]) -> Result<Then, StreamError> {
        let chunk = Chunk::of(bytes.to_vec(), 0..bytes.len());
        self.incoming.open(chunk, &mut self.keys, &mut self.messages, &mut self.replies)
    }

    fn data(&mut self) -> Vec<u8> {
        std::iter::from_fn(|| self.incoming.take()).flat_map(|chunk| chunk.to_vec()).collect()
    }

    /// Which alert answers these bytes.
    #[track_caller]
    fn refuses(&mut self, bytes: &[u8]) -> AlertDescription {
        let Err(error) = self.take_in(bytes) else { panic!("these bytes are refused") };
        let StreamError::Invalid(_) = &error else { panic!("{error}") };
        let mut alert = Vec::new();
        fatal_alert(&error, &mut self.keys, &mut alert);
        assert!(!alert.is_empty(), "the peer is told");
        match &error {
            StreamError::Invalid(error) => super::post_handshake::description(error),
            _ => unreachable!(),
        }
    }
}

fn seal(keys: &mut Keys, typ: ContentType, payload: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    keys.seal(typ, OutboundChunks::Single(payload), &mut record).unwrap();
    record
}

/// Sends `payload`. Gives the records, as many as were made into one piece of memory together.
fn send(outgoing: &mut Outgoing, keys: &mut Keys, payload: Vec<u8>, now: u64) -> Vec<Output> {
    let outputs = Rc::new(Outputs::default());
    let (mut pieces, mut last) = (Vec::new(), outputs.take());
    outgoing
        .seal(Some(Payload::Owned(payload)), keys, now, &mut last, |output| {
            pieces.push(std::mem::replace(output, outputs.take()));
        })
        .unwrap();
    pieces.push(last);
    pieces
}

/// The lengths of the records.
fn lengths(pieces: &[Output]) -> Vec<usize> {
    let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
    let mut rest = &bytes[..];
    let mut lengths = Vec::new();
    while let [_, _, _, long, longer, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*long, *longer]));
        lengths.push(length);
        rest = &after[length..];
    }
    lengths
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever is sent in whatever pieces, and received in whatever others, is the same bytes; keys
    /// may change at any time.
    #[test]
    fn what_is_sealed_is_opened(
        payloads in prop::collection::vec((0..40_000_usize, any::<bool>()), 1..12),
        cuts in prop::collection::vec(1..20_000_usize, 1..20),
        tls13 in any::<bool>(),
    ) {
        let (mut client, server) = keys(if tls13 { &TLS13 } else { &TLS12 });
        let mut outgoing = Outgoing::default();
        let (mut sent, mut wire) = (Vec::new(), Vec::new());
        for (count, (length, update)) in payloads.into_iter().enumerate() {
            let payload: Vec<u8> = (0..length).map(|i| (i + count) as u8).collect();
            sent.extend_from_slice(&payload);
            for record in send(&mut outgoing, &mut client, payload, 0) {
                wire.extend_from_slice(&record);
            }
            if update && tls13 {
                update_sealing_key(&mut client, &mut wire).unwrap();
            }
        }
        close_notify(&mut client, &mut wire).unwrap();
        let mut server = End::new(server);
        let (mut rest, mut got) = (&wire[..], Vec::new());
        let mut then = Then::GoOn;
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            then = server.take_in(piece).unwrap();
            got.extend_from_slice(&server.data());
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(got == sent);
        prop_assert!(then == Then::Close);
    }
}

#[test]
fn a_burst_begins_with_records_that_fit_a_segment() {
    let (mut client, _) = keys(&TLS13);
    let mut outgoing = Outgoing::default();
    let records = send(&mut outgoing, &mut client, vec![0; 100_000], 0);
    assert!(records.iter().all(|piece| piece.len() <= 20 << 10), "memory that is used again");
    let records = lengths(&records);
    assert!(records[..10].iter().all(|length| *length <= 1400));
    assert!(records[10] > 16_384);
    let records = send(&mut outgoing, &mut client, vec![0; 2000], 999_999_999);
    assert_eq!(lengths(&records).len(), 1, "the burst goes on");
    let records = send(&mut outgoing, &mut client, vec![0; 2000], 3_000_000_000);
    assert_eq!(lengths(&records).len(), 2, "another burst");
    assert_eq!(records.len(), 1, "they leave as one");
}

#[test]
fn a_key_is_changed_before_it_is_used_up() {
    for version in [&TLS12, &TLS13] {
        let (mut client, server) = keys(version);
        assert!(!client.is_sealing_key_used_up());
        client.pretend_sealed(1 << 24);
        assert!(client.is_sealing_key_used_up());
        let updated = update_sealing_key(&mut client, &mut Vec::new());
        match version.version {
            rustls::ProtocolVersion::TLSv1_3 => updated.unwrap(),
            _ => {
                assert!(matches!(updated, Err(StreamError::KeysExhausted)));
                continue;
            }
        }
        assert!(!client.is_sealing_key_used_up());
        drop(server);
    }
}

#[test]
fn an_asked_for_key_update_is_answered_under_the_old_key() {
    let (mut client, server) = keys(&TLS13);
    let mut server = End::new(server);
    let update = seal(&mut client, ContentType::Handshake, &[24, 0, 0, 1, 1]);
    client.change_sealing_key().unwrap();
    assert!(server.take_in(&update).is_ok());
    let mut client = End::new(client);
    client.take_in(&server.replies).unwrap();
    let record = seal(&mut server.keys, ContentType::ApplicationData, b"new key");
    client.take_in(&record).unwrap();
    assert_eq!(client.data(), b"new key");
    let record = seal(&mut client.keys, ContentType::ApplicationData, b"new key too");
    server.take_in(&record).unwrap();
    assert_eq!(server.data(), b"new key too");
}

#[test]
fn a_record_that_was_changed_on_its_way_is_refused() {
    for version in [&TLS12, &TLS13] {
        let (mut client, server) = keys(version);
        let mut server = End::new(server);
        let mut both = seal(&mut client, ContentType::ApplicationData, b"good");
        let mut bad = seal(&mut client, ContentType::ApplicationData, b"bad");
        *bad.last_mut().unwrap() ^= 1;
        both.extend_from_slice(&bad);
        assert_eq!(server.refuses(&both), AlertDescription::BadRecordMac);
        assert_eq!(server.data(), b"good", "what came before is still data");
    }
}

#[test]
fn what_is_no_record_is_refused() {
    let cases: [(&[u8], AlertDescription); 5] = [
        (b"GET / HTTP/1.1\r\n\r\n", AlertDescription::DecodeError),
        (&[23, 3, 3, 0x48, 1], AlertDescription::RecordOverflow),
        (&[23, 2, 0, 0, 1, 0], AlertDescription::DecodeError),
        (&[20, 3, 3, 0, 1, 1], AlertDescription::UnexpectedMessage),
        (&[21, 3, 3, 0, 2, 1, 0], AlertDescription::UnexpectedMessage),
    ];
    for (bytes, alert) in cases {
        let (_, server) = keys(&TLS13);
        assert_eq!(End::new(server).refuses(bytes), alert, "{bytes:?}");
    }
}

#[test]
fn a_peer_may_not_send_what_has_no_place_after_the_handshake() {
    use AlertDescription as Alert;
    use ContentType as Type;
    let ticket = [4, 0, 0, 0];
    let hello = [1, 0, 0, 0];
    let update_and_more = [24, 0, 0, 1, 0, 24, 0, 0, 1, 0];
    let long = [4, 1, 0, 0];
    let cases: [(Type, &[u8], Alert); 8] = [
        (Type::Handshake, &ticket, Alert::UnexpectedMessage),
        (Type::Handshake, &hello, Alert::UnexpectedMessage),
        (Type::Handshake, &update_and_more, Alert::UnexpectedMessage),
        (Type::Handshake, &[24, 0, 0, 1, 2], Alert::IllegalParameter),
        (Type::Handshake, &long, Alert::DecodeError),
        (Type::Handshake, b"", Alert::DecodeError),
        (Type::Alert, &[1], Alert::DecodeError),
        (Type::Heartbeat, b"x", Alert::UnexpectedMessage),
    ];
    for (typ, payload, alert) in cases {
        let (mut client, server) = keys(&TLS13);
        let record = seal(&mut client, typ, payload);
        assert_eq!(End::new(server).refuses(&record), alert, "{typ:?} {payload:?}");
    }
}

#[test]
fn data_may_not_come_in_the_middle_of_a_handshake_message() {
    let (mut client, server) = keys(&TLS13);
    let mut server = End::new(server);
    let begun = seal(&mut client, ContentType::Handshake, &[24, 0, 0]);
    server.take_in(&begun).unwrap();
    let data = seal(&mut client, ContentType::ApplicationData, b"data");
    assert_eq!(server.refuses(&data), AlertDescription::UnexpectedMessage);
}

#[test]
fn records_without_data_are_taken_with_patience_that_ends() {
    for payload in [&b""[..], &[24, 0, 0, 1, 0]] {
        let (mut client, server) = keys(&TLS13);
        let mut server = End::new(server);
        let send = |client: &mut Keys| {
            if payload.is_empty() {
                return seal(client, ContentType::ApplicationData, payload);
            }
            let record = seal(client, ContentType::Handshake, payload);
            client.change_sealing_key().unwrap();
            record
        };
        for _ in 0..32 {
            server.take_in(&send(&mut client)).unwrap();
        }
        server.take_in(&seal(&mut client, ContentType::ApplicationData, b"x")).unwrap();
        for _ in 0..32 {
            server.take_in(&send(&mut client)).unwrap();
        }
        assert_eq!(server.refuses(&send(&mut client)), AlertDescription::UnexpectedMessage);
    }
}

#[test]
fn renegotiation_is_declined_once_and_then_refused() {
    let (mut client, server) = keys(&TLS12);
    let mut server = End::new(server);
    let hello = seal(&mut client, ContentType::Handshake, &[1, 0, 0, 0]);
    server.take_in(&hello).unwrap();
    let mut client = End::new(client);
    client.take_in(&server.replies).unwrap();
    let hello = seal(&mut client.keys, ContentType::Handshake, &[1, 0, 0, 0]);
    assert_eq!(server.refuses(&hello), AlertDescription::UnexpectedMessage);
}

#[test]
fn alerts_of_the_peer_end_the_connection() {
    for (version, alert, ends) in [
        (&TLS13, [2, 40], true),
        (&TLS13, [1, 40], true),
        (&TLS12, [2, 40], true),
        (&TLS12, [1, 41], false),
        (&TLS13, [1, 90], false),
    ] {
        let (mut client, server) = keys(version);
        let record = seal(&mut client, ContentType::Alert, &alert);
        let taken = End::new(server).take_in(&record);
        match taken {
            Ok(then) => assert!(!ends && then == Then::GoOn),
            Err(StreamError::AlertReceived(_)) => assert!(ends),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_client_keeps_tickets_that_are_ones() {
    let (client, mut server) = keys(&TLS13);
    let mut client = End::new(client);
    // Lifetime, age, an empty nonce, a ticket of two bytes, no extensions.
    let body = [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 0, 0];
    let mut ticket = vec![4, 0, 0, body.len() as u8];
    ticket.extend_from_slice(&body);
    let (first, second) = ticket.split_at(7);
    for part in [first, second] {
        let record = seal(&mut server, ContentType::Handshake, part);
        client.take_in(&record).unwrap();
    }
    let record = seal(&mut server, ContentType::Handshake, &[4, 0, 0, 1, 0]);
    let Err(StreamError::Invalid(Error::InvalidMessage(_))) = client.take_in(&record) else {
        panic!("a ticket of one byte is none")
    };
}

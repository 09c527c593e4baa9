//! A listener that takes both TLS and plaintext, and a client of which every byte comes from outside.
//!
//! Flows in: four bytes that say how the kernel and the client behave, then the client's bytes.
//!
//! What must hold: the first two bytes say what the client speaks, or the time, where they do not come.
//! It is said as soon as they are there, and before that nothing is answered and no service has heard
//! of it. A service of plaintext gets every byte, as it came. Of TLS that is no handshake the service
//! hears nothing, and the client gets records and then the end; in bounded time; and nothing is left.

use std::{
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    PROXY, arrivals, run_on,
    wire::{End, PATIENCE, Then, Wire},
};
use crate::{
    connection::Connection,
    listener::Listener,
    net::Stream,
    ring::simulated::World,
    runtime::{sleep, timeout},
    shard::Shard,
    tls::{
        ServerCredentials,
        credentials::{OwnCertificate, ServerSettings, Source},
        terminate,
    },
};

/// How long first bytes are waited for.
const WITHIN: Duration = Duration::from_millis(200);
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_millis(500);
/// What the service says first, so that it shows when a connection is given to it.
const GREETING: &[u8] = b"greeting";

static CREDENTIALS: LazyLock<ServerCredentials> = LazyLock::new(|| {
    let certificate = include_str!("../../fuzz/corpus/pem/nameless.pem");
    let key = include_str!("../../fuzz/corpus/pem/key.pem");
    let own = OwnCertificate {
        certificate: Source::memory("certificate", certificate),
        key: Source::memory("key", key),
    };
    ServerCredentials::load("fuzz", ServerSettings::new(own)).expect("they belong together")
});

/// What the first bytes say.
#[derive(Clone, Copy)]
struct Manners {
    /// Most bytes in one send.
    piece: usize,
    /// After so many bytes the client pauses,
    pauses_after: usize,
    /// for longer than first bytes are waited for.
    for_long: bool,
    then: Then,
}

/// What the service has seen.
#[derive(Default)]
struct Seen {
    served: bool,
    received: Vec<u8>,
    ended: bool,
}

type Service = Arc<Mutex<Seen>>;

fn seen(service: &Service) -> MutexGuard<'_, Seen> {
    service.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs what an input says, and panics where something does not hold.
#[cfg_attr(not(fuzzing), allow(unreachable_pub, reason = "fuzz targets reach it"))]
pub fn permissive(input: &[u8]) {
    let Some((&[kernel, piece, pauses_after, rest], bytes)) = input.split_first_chunk() else {
        return;
    };
    let manners = Manners {
        piece: 1 + usize::from(piece) * usize::from(piece),
        pauses_after: usize::from(pauses_after).min(bytes.len()),
        for_long: rest & 4 != 0,
        then: Then::new(rest),
    };
    let bytes = bytes.to_vec();
    run_on(kernel, |world| exchange(world, manners, bytes.clone()));
}

async fn exchange(world: World, manners: Manners, bytes: Vec<u8>) {
    let service = Service::default();
    let served = Arc::clone(&service);
    let behind = move |_: &Shard| {
        let served = Arc::clone(&served);
        async move |connection: Connection| serve(connection, &served).await
    };
    let either = terminate(CREDENTIALS.clone(), behind)
        .permissive(WITHIN)
        .handshake_timeout(Some(HANDSHAKE));
    let listener = Listener::bind("127.0.0.1:0").expect("an address").serve(either);
    let shared = arrivals::serve(&world, &listener);
    let stream = Stream::connect(PROXY.into()).await.expect("the proxy listens");
    let mut wire = Wire::new(stream, world.random());
    (wire.pauses, wire.piece) = (0, manners.piece);
    let in_time = timeout(PATIENCE, speak(&mut wire, manners, &bytes, &service)).await;
    assert!(in_time.is_ok(), "the connection did not end");
    drop(wire);
    let is_gone = async {
        while shared.loads.total() > 0 {
            sleep(WITHIN).await;
        }
    };
    assert!(timeout(PATIENCE, is_gone).await.is_ok(), "the connection is still carried");
}

/// Greets, and takes in all that comes.
async fn serve(mut connection: Connection, service: &Service) {
    assert!(connection.tls().is_none(), "no input knows the keys");
    seen(service).served = true;
    let _ = connection.start_send(GREETING);
    while let Ok(received) = connection.receive().await {
        let Some(chunk) = received else {
            seen(service).ended = true;
            connection.finish();
            let _ = connection.flush().await;
            return;
        };
        seen(service).received.extend_from_slice(&chunk);
    }
}

/// Whether a connection that begins so speaks TLS, as far as that can be said.
fn speaks_tls(bytes: &[u8]) -> Option<bool> {
    match bytes {
        [] | [22] => None,
        [22, 3, ..] => Some(true),
        _ => Some(false),
    }
}

/// Says what it has to, listens to the end, and checks what has come of it.
async fn speak(wire: &mut Wire, manners: Manners, bytes: &[u8], service: &Service) {
    let (first, rest) = bytes.split_at(manners.pauses_after);
    let _ = wire.send(first).await;
    listen(wire, if manners.for_long { WITHIN * 2 } else { WITHIN / 4 }).await;
    let said = speaks_tls(first).or(manners.for_long.then_some(false));
    let served = seen(service).served;
    match said {
        Some(tls) => assert_eq!(served, !tls, "{}", first.escape_ascii()),
        None => assert!(!served && wire.unread.is_empty() && wire.end.is_none(), "too early"),
    }
    let tls = said.or(speaks_tls(bytes)).unwrap_or(false);
    if !tls {
        // What it gets does not depend on how it is sent.
        wire.send(rest).await.expect("there is somebody who takes all");
    } else {
        // The other side may have given it up already.
        let _ = timeout(HANDSHAKE, wire.send(rest)).await;
    }
    match manners.then {
        Then::Waits => listen(wire, HANDSHAKE * 4).await,
        Then::Finishes => {}
        Then::Resets => {
            wire.stream.reset_on_drop();
            assert!(bytes.starts_with(&seen(service).received));
            return;
        }
    }
    wire.stream.finish();
    listen(wire, PATIENCE).await;
    let seen = seen(service);
    assert_eq!(seen.served, !tls);
    if tls {
        check_records(&wire.unread, wire.end);
    } else {
        assert!(seen.received == bytes && seen.ended, "something is missing");
        assert_eq!((&wire.unread[..], wire.end), (GREETING, Some(End::InOrder)));
    }
}

/// Receives for a while, or to the end.
async fn listen(wire: &mut Wire, duration: Duration) {
    let to_the_end = async {
        while wire.end.is_none() {
            std::future::poll_fn(|cx| wire.poll_more(cx)).await;
        }
    };
    let _ = timeout(duration, to_the_end).await;
}

/// A server's handshake and alerts (RFC 8446 section 5.1), each record whole unless the end is missing.
fn check_records(mut bytes: &[u8], end: Option<End>) {
    while let Some((&[kind, 3, _, high, low], rest)) = bytes.split_first_chunk() {
        assert!((20..=23).contains(&kind), "a record of kind {kind}");
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some((_, behind)) = rest.split_at_checked(length) else { break };
        bytes = behind;
    }
    assert!(bytes.is_empty() || end == Some(End::Broken), "no record: {}", bytes.escape_ascii());
}

/// The seeds of the fuzz target, each on every kernel of a few, with a pause early on.
#[test]
fn the_seeds_of_the_fuzz_target_hold() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/permissive");
    let mut count = 0;
    for seed in std::fs::read_dir(seeds).unwrap() {
        let mut input = std::fs::read(seed.unwrap().path()).unwrap();
        permissive(&input);
        for kernel in 0..20 {
            input[0] = kernel;
            input[2] = kernel % 4;
            for (piece, rest) in [(0, 0), (0, 1), (3, 5), (255, 2), (255, 4)] {
                (input[1], input[3]) = (piece, rest);
                permissive(&input);
            }
        }
        count += 1;
    }
    assert!(count > 5, "where are they?");
}

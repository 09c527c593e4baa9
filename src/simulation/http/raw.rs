//! One client's connection, of which every byte comes from outside, as do the origin's answers.
//!
//! Flows in: four bytes that say how the kernel and the peers behave, then the bytes of the client, and
//! each answer of the origin, with NUL in between. The origin gives the next answer for each whole
//! request that reaches it, on whatever connection, and begins again behind the last one.
//!
//! What must hold: the origin sees complete and unambiguous requests, and the client complete answers,
//! no more than it has asked for, and then the end or a reset; in bounded time; and nothing is left.

use std::{cell::Cell, future::poll_fn, rc::Rc, task::Poll, time::Duration};

use super::{
    super::{
        ORIGIN, PROXY, milliseconds, run_on,
        wire::{End, PATIENCE, Then, Wire},
    },
    reader::{Answer, Request},
    stage::{Stage, cluster},
};
use crate::{
    http::{
        RequestHead, Timeouts,
        h1::{BodyReader, HeadLimits, HeadProgress, HeadReader},
    },
    net::{Accepting, Stream},
    ring::simulated::World,
    runtime::{spawn, timeout},
    upstream::retry::RetryPolicy,
};

/// The limit of each phase of the proxy's.
const LIMIT: Duration = Duration::from_millis(200);

/// What the first bytes say.
#[derive(Clone, Copy)]
struct Manners {
    kernel: u8,
    /// Most bytes in one send, of the client and of the origin.
    pieces: [usize; 2],
    then: Then,
    /// The origin ends a connection behind each answer.
    closes: bool,
    retries: bool,
}

impl Manners {
    fn new([kernel, client, origin, rest]: [u8; 4]) -> Manners {
        Manners {
            kernel,
            pieces: [client, origin].map(|piece| 1 + usize::from(piece) * usize::from(piece)),
            then: Then::new(rest),
            closes: rest & 4 != 0,
            retries: rest & 8 != 0,
        }
    }
}

/// Runs what an input says, and panics where something does not hold.
#[cfg_attr(not(fuzzing), allow(unreachable_pub, reason = "fuzz targets reach it"))]
pub fn http_proxy(input: &[u8]) {
    let Some((&manners, rest)) = input.split_first_chunk() else { return };
    let manners = Manners::new(manners);
    let mut parts = rest.split(|&byte| byte == 0).map(<[u8]>::to_vec);
    let client = parts.next().unwrap_or_default();
    let answers: Rc<[Vec<u8>]> = parts.collect();
    run_on(manners.kernel, |world| {
        let (client, answers) = (client.clone(), Rc::clone(&answers));
        exchange(world, manners, client, answers)
    });
}

async fn exchange(world: World, manners: Manners, bytes: Vec<u8>, answers: Rc<[Vec<u8>]>) {
    let mut cluster = cluster();
    if manners.retries {
        cluster = cluster.retry(Some(RetryPolicy::default()));
    }
    let timeouts = Timeouts {
        idle: Some(LIMIT),
        head: Some(LIMIT),
        request: Some(LIMIT * 5),
        stream_idle: Some(LIMIT),
        max_age: None,
        ..Timeouts::default()
    };
    let stage = Stage::new(&world, cluster, |proxy| proxy.timeouts(timeouts));
    serve(&world, manners, answers);
    let stream = Stream::connect(PROXY.into()).await.expect("the proxy listens");
    let mut wire = Wire::new(stream, world.random());
    (wire.pauses, wire.piece) = (0, manners.pieces[0]);
    let in_time = timeout(PATIENCE, ask(&mut wire, &bytes, manners.then)).await;
    assert!(in_time.is_ok(), "the connection did not end");
    drop(wire);
    stage.is_quiet().await;
}

/// Sends all bytes, and reads answers to the end.
async fn ask(wire: &mut Wire, bytes: &[u8], then: Then) {
    let methods = methods(bytes);
    let mut asked = methods.iter().map(String::as_str).map(Some).chain([None]);
    let (mut sent, mut is_last) = (0, false);
    while wire.end.is_none() {
        poll_fn(|cx| {
            while sent < bytes.len()
                && let Poll::Ready(piece) = wire.poll_piece(&bytes[sent..], cx)
            {
                sent += piece;
            }
            wire.poll_more(cx)
        })
        .await;
        let ended = wire.end == Some(End::InOrder);
        while !wire.unread.is_empty() {
            let unread = String::from_utf8_lossy(&wire.unread);
            assert!(!is_last, "behind the last answer comes {unread:?}");
            let method = asked.clone().next();
            let Some(method) = method else { panic!("nobody asked for {unread:?}") };
            let method =
                method.filter(|_| !Answer::is_to_no_request(&wire.unread)).unwrap_or_default();
            let Some((answer, length)) = Answer::whole(&wire.unread, method, ended) else { break };
            wire.unread.drain(..length);
            if answer.status == 101 {
                return;
            }
            if answer.status >= 200 {
                asked.next();
                is_last = answer.closes();
            }
        }
        if sent == bytes.len() {
            match then {
                Then::Waits => {}
                Then::Finishes => wire.stream.finish(),
                Then::Resets => return wire.stream.reset_on_drop(),
            }
        }
    }
    let unread = String::from_utf8_lossy(&wire.unread);
    let is_whole = wire.unread.is_empty() || wire.end == Some(End::Broken);
    assert!(is_whole, "a part of an answer is taken for the whole: {unread:?}");
}

/// The methods of the requests that begin in these bytes, up to the first that is refused. That the
/// library reads them in one way only is for `http_connection` to show.
fn methods(bytes: &[u8]) -> Vec<String> {
    let limits = HeadLimits { connect: false, ..HeadLimits::default() };
    let (mut methods, mut rest) = (Vec::new(), bytes);
    loop {
        let (mut reader, mut head) = (HeadReader::new(), RequestHead::new());
        let read = reader.read(rest, limits.bytes, |bytes| head.parse(bytes, &limits));
        let Ok(HeadProgress::Done(length)) = read else { return methods };
        rest = &rest[length..];
        methods.push(head.method().to_string());
        let mut body = BodyReader::new(head.body(), limits);
        while !body.is_done() {
            match body.step(rest) {
                Ok(part) if !rest.is_empty() => rest = &rest[part.length()..],
                _ => return methods,
            }
        }
    }
}

/// Serves every connection, each by a task of its own.
fn serve(world: &World, manners: Manners, answers: Rc<[Vec<u8>]>) {
    let accepting = Accepting::adopt(world.listen(ORIGIN.into()));
    let (world, next) = (world.clone(), Rc::new(Cell::new(0)));
    spawn(async move {
        while let Ok(socket) = accepting.accept().await {
            let mut wire = Wire::new(Stream::adopt(socket), world.random());
            (wire.pauses, wire.piece) = (0, manners.pieces[1]);
            let (answers, next) = (Rc::clone(&answers), Rc::clone(&next));
            spawn(async move { serve_one(wire, manners, &answers, &next).await }).detach();
        }
    })
    .detach();
}

async fn serve_one(mut wire: Wire, manners: Manners, answers: &[Vec<u8>], next: &Cell<usize>) {
    while let Some(request) = wire.read(Request::whole).await {
        let Some(answer) = answers.get(next.get() % answers.len().max(1)) else { return };
        next.set(next.get() + 1);
        if wire.send(answer).await.is_err() {
            return;
        }
        if request.asks_to_switch() && answer.starts_with(b"HTTP/1.1 101 ") {
            // What comes now is no HTTP any more.
            while wire.end.is_none() {
                wire.unread.clear();
                poll_fn(|cx| wire.poll_more(cx)).await;
            }
            return;
        }
        if manners.closes {
            wire.stream.finish();
            let _ = timeout(milliseconds(500), wire.stream.flush()).await;
            return;
        }
    }
}

/// The seeds of the fuzz target, each as it is, with every kernel of a few.
#[test]
fn the_seeds_of_the_fuzz_target_hold() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/http_proxy");
    let mut count = 0;
    for seed in std::fs::read_dir(seeds).unwrap() {
        let mut input = std::fs::read(seed.unwrap().path()).unwrap();
        for kernel in 0..20 {
            input[0] = kernel;
            http_proxy(&input);
        }
        count += 1;
    }
    assert!(count > 5, "where are they?");
}

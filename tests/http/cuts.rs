//! Messages in pieces: however they are cut, the same comes of them as in one piece.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use crate::{
    messages::{ANSWERS, BAD_ANSWERS, FORWARDED, REFUSED, REFUSED_BODIES},
    stage::{Origin, Stage, get, ok, send_apart, without_added},
    wire::Wire,
};

/// Runs a check for each index, on several threads: most of the time they wait.
fn for_each(count: usize, check: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    check(index);
                }
            });
        }
    });
}

/// Cut in two at each position, then byte by byte.
fn cuts(bytes: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let halves = (1..bytes.len()).map(|at| {
        let (front, back) = bytes.split_at(at);
        vec![front, back]
    });
    halves.chain([bytes.chunks(1).collect()])
}

#[test]
fn a_request_that_is_refused_is_refused_however_it_is_cut() {
    needs_io_uring!();
    let origin = Origin::echo();
    let stage = Stage::on(
        2,
        evenkeel::http::proxy(evenkeel::http::Routes::to(crate::stage::cluster(
            "origin",
            origin.address,
        ))),
    );
    for_each(REFUSED.len(), |index| {
        let (what, bytes, status) = REFUSED[index];
        for pieces in cuts(bytes) {
            let mut client = stage.client();
            send_apart(&mut client, pieces.iter().copied());
            // What is refused may be decided before its end has come.
            let answer = client.answer();
            assert_eq!(answer.status(), status, "{what}: {pieces:?}");
            assert!(client.is_over(), "{what}: {pieces:?}");
        }
    });
    assert_eq!(origin.all_seen(), "");
    stage.is_quiet();
}

#[test]
fn a_body_that_is_refused_is_refused_however_it_is_cut() {
    needs_io_uring!();
    let origin = Origin::echo();
    let stage = Stage::to(origin.address);
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for_each(REFUSED_BODIES.len(), |index| {
        let (what, body) = REFUSED_BODIES[index];
        for pieces in cuts(body) {
            let mut client = stage.client();
            client.send(head);
            send_apart(&mut client, pieces.iter().copied());
            assert_eq!(client.answer().status(), 400, "{what}: {pieces:?}");
            assert!(client.is_over(), "{what}: {pieces:?}");
        }
    });
    stage.is_quiet();
    assert!(!origin.all_seen().contains("\r\n0\r\n"));
}

#[test]
fn a_request_is_forwarded_alike_however_it_is_cut() {
    needs_io_uring!();
    for_each(FORWARDED.len(), |index| {
        let (bytes, expected) = FORWARDED[index];
        let origin = Origin::answering(ok("answer"));
        let stage = Stage::to(origin.address);
        let expected = expected.replace("ORIGIN", &origin.address.to_string());
        // How a body is cut into chunks is nobody's business but the sender's.
        let is_chunked = expected.contains("chunked");
        let mut seen = 0;
        for pieces in cuts(bytes) {
            let mut client = stage.client();
            send_apart(&mut client, pieces.iter().copied());
            assert_eq!(client.answer().text(), "answer", "{pieces:?}");
            let all = origin.all_seen();
            let got = without_added(&all[seen..]);
            seen = all.len();
            if is_chunked {
                let end = |text: &str| text.split_once("\r\n\r\n").map(|(head, _)| head.to_owned());
                assert_eq!(end(&got), end(&expected), "{pieces:?}");
            } else {
                assert_eq!(got, expected, "{pieces:?}");
            }
        }
    });
}

/// Tells its origin how to cut its answers.
fn cutting_origin(answer: &'static [u8]) -> Origin {
    Origin::new(move |wire: &mut Wire, _| {
        while let Some(request) = wire.request() {
            let at: usize = request.target()[1..].parse().unwrap();
            match at {
                0 => send_apart(wire, answer.chunks(1)),
                at => send_apart(wire, [&answer[..at], &answer[at..]]),
            }
        }
    })
}

#[test]
fn an_answer_is_the_same_however_it_is_cut() {
    needs_io_uring!();
    // What comes late behind an answer, of an origin that keeps its connection, cannot be told from
    // the next answer.
    let ends = |bytes: &[u8], reused| {
        let text = String::from_utf8_lossy(bytes);
        reused || text.contains("close") || text.contains("HTTP/1.0")
    };
    for_each(ANSWERS.len(), |index| {
        let (method, bytes, expected, reused) = ANSWERS[index];
        if !ends(bytes, reused) {
            return;
        }
        let origin = cutting_origin(bytes);
        let stage = Stage::to(origin.address);
        for at in 0..bytes.len() {
            let mut client = stage.client();
            client.send(format!("{method} /{at} HTTP/1.1\r\nHost: a\r\n\r\n"));
            if expected.contains("chunked") {
                let answer = client.answer();
                assert_eq!(answer.text(), "hello", "cut at {at}");
                assert_eq!(answer.trailers, "X-Sum: 1\r\n", "cut at {at}");
                continue;
            }
            let got = client.exactly(expected.len()).map(|got| String::from_utf8(got).unwrap());
            assert_eq!(got.as_deref(), Some(expected), "cut at {at}");
        }
    });
}

#[test]
fn an_answer_that_is_none_is_none_however_it_is_cut() {
    needs_io_uring!();
    for_each(BAD_ANSWERS.len(), |index| {
        let (what, bytes) = BAD_ANSWERS[index];
        let origin = cutting_origin(bytes);
        let stage = Stage::to(origin.address);
        for at in 0..bytes.len() {
            let answer = stage.ask(get(&format!("/{at}")));
            assert_eq!(answer.status(), 502, "{what}, cut at {at}: {answer:?}");
        }
    });
}

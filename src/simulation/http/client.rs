//! Clients: requests that are valid, or not, sent in pieces, one after the other or all at once, and
//! broken off anywhere. What comes back must be whole answers in order, or a clean cut.
//!
//! A request's target says everything about it: `/client/number/sent/wanted`, with the lengths of its
//! body and of the answer's. So whoever reads it knows what the bodies must be.

use std::task::{Context, Poll};

use super::{
    super::wire::{End, Wire},
    super::{milliseconds, peer::bytes},
    reader::Answer,
};
use crate::{ring::simulated::Random, runtime::timeout};

/// What has no place in a request, and is refused.
const REFUSED: [&str; 6] = [
    "GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "POST /99/0/1/0 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost : a\r\n\r\n",
    "GET /x HTTP/2.0\r\nHost: a\r\n\r\n",
    "GET /%2e%2e/x HTTP/1.1\r\nHost: a\r\n\r\n",
];

/// A request.
pub(super) struct Ask {
    pub(super) method: &'static str,
    pub(super) target: String,
    bytes: Vec<u8>,
    /// Whether it asks for the connection's end.
    closes: bool,
}

/// The numbers of a target.
pub(super) struct Target {
    key: u64,
    sent: usize,
    wanted: usize,
}

impl Target {
    pub(super) fn parse(target: &str) -> Target {
        let numbers = target
            .split('/')
            .skip(1)
            .map(|number| number.parse().unwrap_or_else(|_| panic!("a target: {target:?}")));
        let numbers: Vec<u64> = numbers.collect();
        let [client, number, sent, wanted] = numbers[..] else { panic!("a target: {target:?}") };
        Target { key: client << 32 | number << 1, sent: sent as usize, wanted: wanted as usize }
    }

    /// The body of the request.
    pub(super) fn sent(&self) -> Vec<u8> {
        bytes(self.key, 0, self.sent)
    }

    /// The body of its answer.
    pub(super) fn wanted(&self) -> Vec<u8> {
        bytes(self.key | 1, 0, self.wanted)
    }
}

impl Ask {
    pub(super) fn new(random: &mut Random, client: u64, number: u64, most: u64) -> Ask {
        let method = random.pick(&["GET", "GET", "HEAD", "POST", "PUT"]);
        let has_body = matches!(method, "POST" | "PUT");
        let mut length = || if random.chance(10) { 0 } else { random.scale(most) };
        let (sent, wanted) = (if has_body { length() } else { 0 }, length());
        let target = format!("/{client}/{number}/{sent}/{wanted}");
        let version = if random.chance(10) { "1.0" } else { "1.1" };
        let closes = version == "1.0" || random.chance(10);
        let mut head = format!("{method} {target} HTTP/{version}\r\nHost: a.example\r\n");
        if closes && version == "1.1" {
            head.push_str("connection: Close, X-Hop\r\nX-Hop: 1\r\n");
        }
        let body = Target::parse(&target).sent();
        let mut bytes = head.into_bytes();
        if version == "1.1" && has_body && random.chance(50) {
            bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            if random.chance(20) {
                bytes.extend_from_slice(b"Expect: 100-continue\r\n");
            }
            bytes.extend_from_slice(b"\r\n");
            chunk(random, &body, &mut bytes);
        } else {
            if has_body {
                bytes.extend_from_slice(format!("Content-Length: {sent}\r\n").as_bytes());
            }
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(&body);
        }
        Ask { method, target, bytes, closes }
    }

    fn refused(random: &mut Random) -> Ask {
        let request = random.pick(&REFUSED);
        // The origin sees the head of one whose body only is wrong, and may answer that.
        let target = request.split(' ').nth(1).unwrap_or_default().to_owned();
        Ask { method: "GET", target, bytes: request.as_bytes().to_vec(), closes: true }
    }
}

/// Writes a body in chunks of any size, with an extension or a trailer now and then.
pub(super) fn chunk(random: &mut Random, mut body: &[u8], out: &mut Vec<u8>) {
    while !body.is_empty() {
        let (front, rest) = body.split_at(random.scale(body.len() as u64) as usize);
        let extension = if random.chance(10) { ";a=b" } else { "" };
        out.extend_from_slice(format!("{:X}{extension}\r\n", front.len()).as_bytes());
        out.extend_from_slice(front);
        out.extend_from_slice(b"\r\n");
        body = rest;
    }
    let trailer = if random.chance(20) { "X-Sum: 1\r\n" } else { "" };
    out.extend_from_slice(format!("0\r\n{trailer}\r\n").as_bytes());
}

/// What a client does in the middle of what it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stops {
    Never,
    WithTheEnd,
    WithAReset,
    WithNothing,
}

pub(super) struct Client {
    wire: Wire,
    asks: Vec<Ask>,
    /// Whether it sends without waiting for answers.
    pipelines: bool,
    stops: Stops,
    /// Where in all that it would send it stops.
    stops_at: usize,
    sent: usize,
    answers: Vec<Answer>,
    stopped: bool,
}

impl Client {
    fn new(mut wire: Wire, asks: Vec<Ask>) -> Client {
        Client {
            pipelines: wire.random.chance(50),
            wire,
            asks,
            stops: Stops::Never,
            stops_at: usize::MAX,
            sent: 0,
            answers: Vec::new(),
            stopped: false,
        }
    }

    /// A client whose requests are all in order, up to the one that is the last.
    pub(super) fn fair(wire: Wire, mut asks: Vec<Ask>) -> Client {
        if let Some(last) = asks.iter().position(|ask| ask.closes) {
            asks.truncate(last + 1);
        }
        Client::new(wire, asks)
    }

    /// One that may do anything.
    pub(super) fn wild(wire: Wire, asks: Vec<Ask>) -> Client {
        let mut client = Client::new(wire, asks);
        let random = &mut client.wire.random;
        if random.chance(20) {
            client.asks.push(Ask::refused(random));
        }
        let all: usize = client.asks.iter().map(|ask| ask.bytes.len()).sum();
        let ways = [Stops::Never, Stops::WithTheEnd, Stops::WithAReset, Stops::WithNothing];
        client.stops = random.pick(&ways);
        if client.stops != Stops::Never {
            client.stops_at = random.below(all as u64) as usize;
        }
        client
    }

    /// Sends and receives to the end, or until patience runs out, and checks what came. `fair` says
    /// that every request must have its own answer.
    pub(super) async fn run(mut self, fair: bool) {
        let patience = milliseconds(if fair { 60_000 } else { 3000 });
        let in_time = timeout(patience, std::future::poll_fn(|cx| self.poll(cx))).await.is_ok();
        for (ask, answer) in self.asks.iter().zip(&self.answers) {
            let is_own = answer.field("x-target").is_some();
            assert!(is_own || answer.status >= 400, "{answer:?}");
            if is_own {
                assert_eq!(answer.field("x-target"), Some(&*ask.target), "the answer to another");
                let wanted = Target::parse(&ask.target).wanted();
                let is_bare = ask.method == "HEAD" || answer.status == 204;
                assert_eq!(answer.body, if is_bare { Vec::new() } else { wanted });
            }
            assert!(is_own || !fair, "{answer:?}");
        }
        if fair {
            assert!(in_time, "{} of {} answers", self.answers.len(), self.asks.len());
            assert_eq!(self.answers.len(), self.asks.len(), "{:?}", self.wire.end);
            assert_ne!(self.wire.end, Some(End::Broken));
        }
        if self.wire.end == Some(End::InOrder) {
            let rest = String::from_utf8_lossy(&self.wire.unread);
            assert!(rest.is_empty(), "a part of an answer is taken for the whole: {rest:?}");
        }
        if self.stopped && self.stops == Stops::WithAReset {
            self.wire.stream.reset_on_drop();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let received = self.wire.poll_more(cx).is_ready();
            self.take_answers();
            if self.wire.end.is_some() || self.is_done() {
                return Poll::Ready(());
            }
            if !received && self.poll_sending(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Sends a piece of what may be sent now.
    fn poll_sending(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = if self.pipelines { self.asks.len() } else { self.answers.len() + 1 };
        let all = self.asks.iter().take(now).flat_map(|ask| &ask.bytes);
        let rest: Vec<u8> = all.take(self.stops_at).skip(self.sent).copied().collect();
        if !rest.is_empty() {
            return self.wire.poll_piece(&rest, cx).map(|piece| self.sent += piece);
        }
        if self.sent == self.stops_at && !std::mem::replace(&mut self.stopped, true) {
            match self.stops {
                Stops::WithTheEnd => self.wire.stream.finish(),
                Stops::WithAReset => return Poll::Ready(()),
                Stops::Never | Stops::WithNothing => {}
            }
        }
        Poll::Pending
    }

    fn is_done(&self) -> bool {
        let all = self.answers.len() == self.asks.len();
        // One that says it is the last is followed by the end.
        let ends = self.answers.last().is_some_and(Answer::closes);
        (all && !ends) || (self.stopped && self.stops == Stops::WithAReset)
    }

    fn take_answers(&mut self) {
        let ended = self.wire.end == Some(End::InOrder);
        while !self.wire.unread.is_empty() {
            let Some(ask) = self.asks.get(self.answers.len()) else {
                panic!("nobody asked for {:?}", String::from_utf8_lossy(&self.wire.unread))
            };
            if let Some(last) = self.answers.last().filter(|answer| answer.closes()) {
                let more = String::from_utf8_lossy(&self.wire.unread);
                panic!("behind {:?} comes {more:?}", (last.status, &last.fields));
            }
            let is_cut = Answer::is_to_no_request(&self.wire.unread);
            let method = if is_cut { "" } else { ask.method };
            let Some((answer, length)) = Answer::whole(&self.wire.unread, method, ended) else {
                return;
            };
            self.wire.unread.drain(..length);
            if answer.status >= 200 {
                self.answers.push(answer);
            }
        }
    }
}

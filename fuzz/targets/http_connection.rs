//! Bytes of a whole connection of a client: requests, pipelined, in any pieces.
//!
//! They are read as the proxy reads them, without its sockets, and written anew for an origin. What the origin gets is
//! then read by a second reader, which knows one spelling of everything and nothing of the library. The invariant: the
//! origin sees a sequence of complete and unambiguous requests, the very ones that were meant, and at most the
//! beginning of one more; and that is the same however the bytes were cut. The first byte chooses the cuts.

#![no_main]

use std::num::NonZeroU64;

use evenkeel::http::{
    Headers, Persistence, RequestHead,
    h1::{
        BodyPart, BodyReader, CHUNK_END, HeadLimits, HeadProgress, HeadReader, write_chunk_head,
        write_last_chunk,
    },
};
use libfuzzer_sys::fuzz_target;

const LIMITS: HeadLimits = HeadLimits { bytes: 2048, fields: 16, connect: false };

/// A request as one side understands it.
#[derive(Debug, Default, PartialEq)]
struct Request {
    method: String,
    target: String,
    authority: String,
    body: Vec<u8>,
}

/// What a proxy makes of a connection.
#[derive(Debug, Default, PartialEq)]
struct Proxied {
    /// The requests that came to their end.
    whole: Vec<Request>,
    /// What the origin gets of them, body bytes of one request in one chunk.
    sent: Vec<u8>,
    /// What it gets of a request that did not.
    part: Vec<u8>,
}

/// Reads pieces up to the end, to something that is refused, or to a request that is the last.
fn proxy<'b>(pieces: impl Iterator<Item = &'b [u8]>) -> Proxied {
    let mut proxied = Proxied::default();
    let (mut reader, mut head) = (HeadReader::new(), RequestHead::new());
    let mut body: Option<(BodyReader, Request)> = None;
    for mut piece in pieces {
        // A body that is empty ends without a byte.
        while !piece.is_empty() || body.as_ref().is_some_and(|(body, _)| body.is_done()) {
            let Some((reading, request)) = &mut body else {
                match reader.read(piece, LIMITS.bytes, |bytes| head.parse(bytes, &LIMITS)) {
                    Ok(HeadProgress::More) => break,
                    Ok(HeadProgress::Done(length)) => piece = &piece[length..],
                    Err(_) => return proxied,
                }
                if head.authority().is_empty() {
                    head.set_authority("origin:80").expect("an authority");
                }
                proxied.part = encode(&head);
                body = Some((BodyReader::new(head.body(), LIMITS), asked(&head)));
                continue;
            };
            if !reading.is_done() {
                let Ok(part) = reading.step(piece) else { return proxied };
                let (front, rest) = piece.split_at(part.length());
                if let BodyPart::Data(_) = part {
                    request.body.extend_from_slice(front);
                }
                piece = rest;
            }
            if reading.is_done() {
                proxied.sent.append(&mut proxied.part);
                write_body(&head, &request.body, reading.trailers(), &mut proxied.sent);
                proxied.whole.push(std::mem::take(request));
                body = None;
                if !head.keep_alive() {
                    return proxied;
                }
            }
        }
    }
    proxied
}

fn asked(head: &RequestHead) -> Request {
    Request {
        method: head.method().to_string(),
        target: head.path_and_query().to_owned(),
        authority: head.authority().to_owned(),
        body: Vec::new(),
    }
}

fn encode(head: &RequestHead) -> Vec<u8> {
    let mut out = Vec::new();
    let persistence = match head.upgrade() {
        Some(_) => Persistence::Upgrade,
        None => Persistence::Implied,
    };
    head.encode(head.body(), persistence, &mut out);
    out
}

fn write_body(head: &RequestHead, body: &[u8], trailers: Option<&Headers>, out: &mut Vec<u8>) {
    let Some(trailers) = trailers else {
        out.extend_from_slice(body);
        return;
    };
    assert_eq!(head.body(), evenkeel::http::BodyLength::Chunked);
    if let Some(size) = NonZeroU64::new(body.len() as u64) {
        write_chunk_head(size, out);
        out.extend_from_slice(body);
        out.extend_from_slice(CHUNK_END);
    }
    write_last_chunk(trailers, out);
}

/// The origin's reader: panics at whatever is not spelled in the one way.
struct Origin<'b>(&'b [u8]);

impl<'b> Origin<'b> {
    fn take(&mut self, length: usize) -> &'b [u8] {
        let (front, rest) = self.0.split_at(length);
        self.0 = rest;
        front
    }

    fn line(&mut self) -> &'b [u8] {
        let end = self.0.windows(2).position(|pair| pair == b"\r\n").expect("a line ends");
        let line = self.take(end);
        self.take(2);
        assert!(!line.contains(&b'\r') && !line.contains(&b'\n'), "a line in a line");
        line
    }

    /// Fields up to the empty line.
    fn fields(&mut self) -> Vec<(String, &'b [u8])> {
        let mut fields = Vec::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                return fields;
            }
            let colon = line.iter().position(|&byte| byte == b':').expect("a colon");
            let name = str::from_utf8(&line[..colon]).expect("ASCII").to_ascii_lowercase();
            let value = line[colon + 1..].strip_prefix(b" ").expect("a space");
            let token =
                |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert!(!name.is_empty() && name.bytes().all(token), "{name:?}");
            assert!(value.iter().all(|&byte| byte == b'\t' || !byte.is_ascii_control()));
            assert_eq!(value.trim_ascii(), value);
            fields.push((name, value));
        }
    }

    fn request(&mut self) -> Request {
        let line = str::from_utf8(self.line()).expect("ASCII");
        let words: Vec<_> = line.split(' ').collect();
        let [method, target, "HTTP/1.1"] = words[..] else { panic!("{line:?}") };
        assert!(target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
        assert!(target.starts_with('/') || (target == "*" && method == "OPTIONS"), "{target:?}");
        let fields = self.fields();
        assert_eq!(fields[0].0, "host");
        let one = |name: &str| {
            let mut named = fields.iter().filter(|(known, _)| known == name);
            let value = named.next().map(|(_, value)| str::from_utf8(value).expect("ASCII"));
            assert!(named.next().is_none(), "{name} twice");
            value
        };
        for gone in ["keep-alive", "proxy-connection", "http2-settings"] {
            assert_eq!(one(gone), None);
        }
        let connection = one("connection").unwrap_or_default();
        assert!(["", "TE", "upgrade", "TE, upgrade"].contains(&connection), "{connection}");
        assert_eq!(one("te").is_some(), connection.starts_with("TE"));
        assert_eq!(one("upgrade").is_some(), connection.ends_with("upgrade"));
        let body = match (one("content-length"), one("transfer-encoding")) {
            (None, None) => Vec::new(),
            (Some(length), None) => {
                let number: usize = length.parse().expect("a number");
                assert_eq!(number.to_string(), length);
                self.take(number).to_vec()
            }
            (None, Some("chunked")) => self.chunks(),
            ambiguous => panic!("{ambiguous:?}"),
        };
        let authority = one("host").unwrap_or_default().to_owned();
        Request { method: method.to_owned(), target: target.to_owned(), authority, body }
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = str::from_utf8(self.line()).expect("ASCII");
            let size = usize::from_str_radix(line, 16).expect("a size");
            assert_eq!(format!("{size:x}"), line);
            if size == 0 {
                let trailers = self.fields();
                let framing = ["content-length", "transfer-encoding", "host", "connection"];
                assert!(trailers.iter().all(|(name, _)| !framing.contains(&name.as_str())));
                return body;
            }
            body.extend_from_slice(self.take(size));
            assert_eq!(self.take(2), b"\r\n");
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&cuts, bytes)) = input.split_first() else { return };
    let whole = proxy([bytes].into_iter());
    for size in [1, 2, 1 + usize::from(cuts)] {
        assert_eq!(proxy(bytes.chunks(size)), whole, "in pieces of {size}");
    }
    let mut origin = Origin(&whole.sent);
    for meant in &whole.whole {
        assert_eq!(&origin.request(), meant);
    }
    assert!(origin.0.is_empty(), "nothing that nobody asked for");
});

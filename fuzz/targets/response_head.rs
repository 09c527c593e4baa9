//! Bytes from an origin that claims to send a response.
//!
//! Beyond not panicking: what arrives byte by byte is decided as the whole is, and a head that is taken is written
//! anew in a form that is taken again, and means the same, whatever method it answers.

#![no_main]

mod by_byte;

use by_byte::read_by_byte;
use evenkeel::http::{
    Persistence, ResponseBody, ResponseHead,
    h1::{HeadLimits, HeadProgress, HeadReader, Parsed},
};
use http::{Method, StatusCode};
use libfuzzer_sys::fuzz_target;

const LIMITS: HeadLimits = HeadLimits { bytes: 4096, fields: 32, connect: false };

fuzz_target!(|bytes: &[u8]| {
    let mut head = ResponseHead::new();
    let mut reader = HeadReader::new();
    let whole = reader.read(bytes, LIMITS.bytes, |bytes| head.parse(bytes, &LIMITS));

    let end = whole.is_err().then_some(&b"\n"[..]);
    let mut dripped = ResponseHead::new();
    let parse = |bytes: &[u8]| dripped.parse(bytes, &LIMITS);
    let by_byte = read_by_byte(bytes, end, LIMITS.bytes, parse);
    assert_eq!(by_byte, whole);

    let Ok(HeadProgress::Done(length)) = whole else { return };
    assert!(length <= bytes.len());
    assert!((100..600).contains(&head.status().as_u16()));
    for method in [Method::GET, Method::HEAD] {
        let body = head.body(&method);
        let persistence = match head.upgrade() {
            Some(_) => Persistence::Upgrade,
            None => Persistence::towards(head.version(), head.keep_alive()),
        };
        let mut written = Vec::new();
        head.encode(body, persistence, &mut written);
        let mut again = ResponseHead::new();
        // What was a fact of the head, or was implied, may be a field of its own now.
        let limits = HeadLimits { bytes: 2 * LIMITS.bytes, fields: 2 * LIMITS.fields, ..LIMITS };
        assert_eq!(again.parse(&written, &limits), Ok(Parsed::Complete(written.len())));
        assert_eq!((again.status(), again.reason()), (head.status(), head.reason()));
        assert_eq!(again.headers(), head.headers());
        assert_eq!(again.body(&method), body);
        assert_eq!(again.upgrade(), head.upgrade());
        let until_close = body == ResponseBody::UntilClose;
        let keeps = head.keep_alive() || head.upgrade().is_some();
        assert_eq!(again.keep_alive(), keeps && !until_close);
        let never_has_body =
            head.status().is_informational() || head.status() == StatusCode::NO_CONTENT;
        assert!(!never_has_body || again.content_length().is_none());
    }
});

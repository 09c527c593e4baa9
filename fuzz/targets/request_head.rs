//! Bytes from a client that claims to send a request.
//!
//! Beyond not panicking: what arrives byte by byte is decided as the whole is, and a head that is taken is written
//! anew in a form that is taken again, and means the same.

#![no_main]

mod by_byte;

use by_byte::read_by_byte;
use evenkeel::http::{
    Persistence, RequestHead,
    h1::{HeadLimits, HeadProgress, HeadReader},
};
use libfuzzer_sys::fuzz_target;

const LIMITS: HeadLimits = HeadLimits { bytes: 4096, fields: 32, connect: true };

fuzz_target!(|bytes: &[u8]| {
    let mut head = RequestHead::new();
    let mut reader = HeadReader::new();
    let whole = reader.read(bytes, LIMITS.bytes, |bytes| head.parse(bytes, &LIMITS));

    let end = whole.is_err().then_some(&b"\n"[..]);
    let mut dripped = RequestHead::new();
    let parse = |bytes: &[u8]| dripped.parse(bytes, &LIMITS);
    let by_byte = read_by_byte(bytes, end, LIMITS.bytes, parse);
    assert_eq!(by_byte, whole);

    let Ok(HeadProgress::Done(length)) = whole else { return };
    assert!(length <= bytes.len());
    if head.authority().is_empty() {
        head.set_authority("origin:80").expect("an authority");
    }
    let persistence = match head.upgrade() {
        Some(_) => Persistence::Upgrade,
        None => Persistence::towards(head.version(), head.keep_alive()),
    };
    let mut written = Vec::new();
    head.encode(head.body(), persistence, &mut written);

    let mut again = RequestHead::new();
    // What was a fact of the head, or was implied, may be a field of its own now.
    let limits = HeadLimits { bytes: 2 * LIMITS.bytes, fields: 2 * LIMITS.fields, ..LIMITS };
    let parsed = again.parse(&written, &limits);
    assert_eq!(parsed, Ok(evenkeel::http::h1::Parsed::Complete(written.len())));
    assert_eq!(again.method(), head.method());
    assert_eq!(again.path_and_query(), head.path_and_query());
    assert_eq!((again.path(), again.query()), (head.path(), head.query()));
    assert_eq!(again.authority(), head.authority());
    assert_eq!(again.headers(), head.headers());
    assert_eq!(again.body(), head.body());
    // Whoever switches the protocol does not keep the connection for another request anyway.
    assert_eq!(again.keep_alive(), head.keep_alive() || head.upgrade().is_some());
    assert_eq!(again.expects_continue(), head.expects_continue());
    assert_eq!(again.te_trailers(), head.te_trailers());
    assert_eq!(again.upgrade(), head.upgrade());
});

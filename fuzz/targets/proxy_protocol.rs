//! Bytes from a peer that claims to speak the PROXY protocol.
//!
//! Beyond not panicking: what arrives byte by byte is decided as the whole is, an unfinished header is bounded, and
//! what was understood can be written and is understood the same again.

#![no_main]

use evenkeel::proxy_protocol::{Parsed, V2_MAX, encode_v1, encode_v2, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    let first_decision = (0..=bytes.len())
        .map(|end| parse(&bytes[..end]))
        .find(|parsed| *parsed != Ok(Parsed::Incomplete));
    assert_eq!(whole, first_decision.unwrap_or(Ok(Parsed::Incomplete)));

    match whole {
        Ok(Parsed::Incomplete) => assert!(bytes.len() < V2_MAX),
        Ok(Parsed::Done { header, consumed }) => {
            assert!(consumed <= bytes.len());
            let Some((source, destination)) = header.addresses() else { return };
            for written in [encode_v1(source, destination), encode_v2(source, destination)] {
                let Ok(Parsed::Done { header, consumed }) = parse(&written) else {
                    panic!("cannot read what was written: {written:?}");
                };
                assert_eq!(consumed, written.len());
                let (again, _) = header.addresses().expect("addresses were written");
                assert_eq!(again.ip().to_canonical(), source.ip().to_canonical());
                assert_eq!(again.port(), source.port());
            }
        }
        Err(error) => assert!(error.at < bytes.len()),
    }
});

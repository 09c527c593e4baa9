//! A ClientHello says the same in whatever pieces it comes, and nothing else is taken for one.
#![no_main]

use evenkeel::tls::client_hello::{ClientHello, Reader};
use libfuzzer_sys::fuzz_target;

/// What is read of these pieces, in order; the text of an error.
fn read<'b>(pieces: impl Iterator<Item = &'b [u8]>) -> Result<Option<ClientHello>, String> {
    let mut reader = Reader::default();
    for piece in pieces {
        if let Some(hello) = reader.push(piece).map_err(|error| error.to_string())? {
            return Ok(Some(hello));
        }
    }
    Ok(None)
}

fuzz_target!(|bytes: &[u8]| {
    let whole = read(std::iter::once(bytes));
    // The first byte says how long the pieces are.
    let longest = bytes.first().map_or(1, |byte| usize::from(*byte % 16) + 1);
    assert_eq!(read(bytes.chunks(1)), whole);
    assert_eq!(read(bytes.chunks(longest)), whole);
    if let Ok(Some(hello)) = whole {
        assert_eq!(bytes[..2], [22, 3], "what begins otherwise is plaintext to a permissive listener");
        if let Some(name) = hello.server_name {
            assert_eq!(*name, *name.to_ascii_lowercase());
            assert!(!name.is_empty() && !name.contains(['\0', '/', ':', ' ']), "{name:?}");
        }
    }
});

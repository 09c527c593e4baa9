//! A head that is read byte by byte.

use evenkeel::http::h1::{HeadProgress, HeadReader, Parsed};

/// Reads a head byte by byte, and says what reading all of `bytes` at once is to say. An error needs the
/// end of its line to be noticed at the latest, so `end` may follow.
pub fn read_by_byte<E>(
    bytes: &[u8],
    end: Option<&[u8]>,
    limit: usize,
    mut parse: impl FnMut(&[u8]) -> Result<Parsed, E>,
) -> Result<HeadProgress, E> {
    let mut reader = HeadReader::new();
    let mut before = 0;
    for byte in bytes.chunks(1).chain(end) {
        match reader.read(byte, limit, &mut parse)? {
            HeadProgress::More => before += byte.len(),
            HeadProgress::Done(length) => return Ok(HeadProgress::Done(before + length)),
        }
    }
    Ok(HeadProgress::More)
}

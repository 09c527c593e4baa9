//! What the load generator says to the origin: 64 bytes that order a response of some length.
//!
//! Bytes 0..8 hold the response's length, little endian; byte 8 is 1 where the origin shall end the
//! connection behind it; the rest is padding. A client orders again only after the whole response,
//! so that one order at most is under way on a connection.

pub(crate) const REQUEST_LEN: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Order {
    /// Bytes.
    pub(crate) response_len: u64,
    /// The origin sends its FIN behind the response.
    pub(crate) last: bool,
}

impl Order {
    pub(crate) const fn encode(self) -> [u8; REQUEST_LEN] {
        let mut request = [0; REQUEST_LEN];
        let len = self.response_len.to_le_bytes();
        let mut index = 0;
        while index < len.len() {
            request[index] = len[index];
            index += 1;
        }
        request[len.len()] = self.last as u8;
        request
    }

    fn decode(request: &[u8; REQUEST_LEN]) -> Self {
        let mut len = [0; 8];
        len.copy_from_slice(&request[..8]);
        Self { response_len: u64::from_le_bytes(len), last: request[8] == 1 }
    }
}

/// Puts a request together from however many pieces it arrives in.
pub(crate) struct Assembler {
    request: [u8; REQUEST_LEN],
    filled: usize,
}

/// More bytes than one order has.
#[derive(Debug)]
pub(crate) struct Pipelined;

impl Assembler {
    pub(crate) fn new() -> Self {
        Self { request: [0; REQUEST_LEN], filled: 0 }
    }

    /// # Errors
    /// The bytes go beyond the end of the order under way.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Option<Order>, Pipelined> {
        let end = self.filled + bytes.len();
        self.request.get_mut(self.filled..end).ok_or(Pipelined)?.copy_from_slice(bytes);
        self.filled = end % REQUEST_LEN;
        Ok((end == REQUEST_LEN).then(|| Order::decode(&self.request)))
    }
}

//! The heads of messages, as filters, routes and the access log see them.
//!
//! In: what the parsers of [`h1`](super::h1) found. Out: methods, targets, statuses, fields, and the
//! facts about this hop. A head owns its bytes: what was received is copied once, field by field in
//! canonical form, so a request that waits for its upstream pins no receive buffer of the shard. A
//! head is made to be reused: its `clear` keeps the memory, and after a few requests nothing allocates.
//! A connection between two requests needs no head at all.
//!
//! What concerns only one hop never appears among the fields of a head (RFC 9110 section 7.6.1): it is
//! read into facts ([`RequestHead::body`], [`RequestHead::keep_alive`], …) and written anew from what
//! the proxy decides for the next hop. `Connection` and the fields that it names, `Keep-Alive`,
//! `Proxy-Connection`, `TE`, `Upgrade`, `HTTP2-Settings`, `Transfer-Encoding`, `Content-Length`, `Host`
//! and `Expect` are such fields. `Trailer` stays, because trailers are forwarded. So do
//! `Proxy-Authenticate` and `Proxy-Authorization`: this proxy never asks for credentials, so they are
//! meant for another one further up (RFC 9110 section 11.7.2 lets a proxy relay them).
//!
//! Nothing here reads or writes a socket, or knows the wire format.

mod authority;
mod framing;
mod request;
mod response;

pub(super) use self::{
    authority::Authority,
    framing::{FramingField, is_token, is_token_byte},
    request::is_target_byte,
};
pub use self::{
    framing::{BodyLength, Persistence, ResponseBody},
    request::{InvalidTarget, RequestHead},
    response::ResponseHead,
};

//! HTTP/1.1 on the shards: strict parsing, messages written anew, requests proxied.

#![forbid(unsafe_code)]

pub mod h1;
mod head;
mod headers;
pub mod route;

pub use self::{
    head::{BodyLength, InvalidTarget, Persistence, RequestHead, ResponseBody, ResponseHead},
    headers::{Headers, InvalidHeader},
};

//! HTTP/1.1 on the shards: strict parsing, messages written anew, requests proxied.

#![forbid(unsafe_code)]

pub mod route;

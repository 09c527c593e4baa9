//! HTTP/1.1 on the shards: strict parsing, messages written anew, requests proxied.

#![forbid(unsafe_code)]

mod answer;
mod deadline;
mod filter;
pub mod h1;
mod head;
mod headers;
mod proxy;
pub mod route;
mod wire;

pub use self::{
    answer::Answer,
    filter::{Filter, Flow},
    head::{BodyLength, InvalidTarget, Persistence, RequestHead, ResponseBody, ResponseHead},
    headers::{Headers, InvalidHeader},
    proxy::{
        CertificateDetails, Fallback, FilterFactory, Forwarded, ForwardedClientCertificate,
        NoFilter, Proxy, ProxyOnShard, Routes, Timeouts, proxy,
    },
};

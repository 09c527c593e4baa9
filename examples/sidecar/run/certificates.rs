//! `GET /certs`: what listeners and clusters show, and whom they believe. In: the configuration and its
//! credentials. Out: JSON. Keys are not known here.

use std::time::SystemTime;

use evenkeel::{
    admin::Response,
    tls::{
        Certificate,
        credentials::{Credentials, Settings},
    },
};
use serde::Serialize;
use x509_cert::der::DateTime;

use super::credentials::{self, AllCredentials};
use crate::config::{Config, schema};

#[derive(Serialize)]
struct Answer<'c> {
    certificates: Vec<OfSet<'c>>,
}

/// One listener or cluster.
#[derive(Serialize)]
struct OfSet<'c> {
    /// `listener/NAME` or `cluster/NAME`.
    name: &'c str,
    /// Our own, and behind it those by which it was issued. Empty where we show none.
    chain: Vec<OfCertificate>,
    /// Empty where peers are asked for no certificate.
    roots: Vec<OfCertificate>,
    /// Absent where all are allowed that chain to the roots.
    #[serde(skip_serializing_if = "Option::is_none")]
    peers: Option<&'c [String]>,
    reloads: u64,
    /// Sets that were not taken.
    refused: u64,
}

#[derive(Serialize)]
struct OfCertificate {
    subject: String,
    issuer: String,
    serial: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    uris: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dns_names: Vec<String>,
    not_before: Option<String>,
    not_after: Option<String>,
    /// Until it expires; negative if it has.
    seconds_left: i64,
    sha256: String,
}

pub(super) fn certificates(config: &Config, all: &AllCredentials) -> Response {
    let now = SystemTime::now();
    let of_listeners = credentials::terminating(config).filter_map(|(name, terminated)| {
        Some(of_set(all.listener(name)?, terminated.clients.as_ref(), now))
    });
    let of_clusters = credentials::originating(config)
        .filter_map(|(name, tls)| Some(of_set(all.cluster(name)?, Some(&tls.servers), now)));
    let answer = Answer { certificates: of_listeners.chain(of_clusters).collect() };
    match serde_json::to_string_pretty(&answer) {
        Ok(json) => Response::json(200, json + "\n"),
        Err(error) => Response::text(500, format!("cannot show the certificates: {error}\n")),
    }
}

fn of_set<'c, S: Settings>(
    credentials: &'c Credentials<S>,
    trust: Option<&'c schema::Trust>,
    now: SystemTime,
) -> OfSet<'c> {
    let (current, reloads) = (credentials.current(), credentials.reloads());
    let shown = |all: &[Certificate]| all.iter().map(|it| of_certificate(it, now)).collect();
    OfSet {
        name: credentials.name(),
        chain: shown(current.own_certificates()),
        roots: shown(current.roots()),
        peers: trust.and_then(|trust| trust.peers.as_deref()),
        reloads: reloads.replaced,
        refused: reloads.failed,
    }
}

fn of_certificate(certificate: &Certificate, now: SystemTime) -> OfCertificate {
    let seconds_left = match certificate.not_after().duration_since(now) {
        Ok(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        Err(past) => i64::try_from(past.duration().as_secs()).map_or(i64::MIN, |past| -past),
    };
    OfCertificate {
        subject: certificate.subject().to_owned(),
        issuer: certificate.issuer().to_owned(),
        serial: certificate.serial().to_owned(),
        uris: certificate.uri_names().map(str::to_owned).collect(),
        dns_names: certificate.dns_names().map(str::to_owned).collect(),
        not_before: written(certificate.not_before()),
        not_after: written(certificate.not_after()),
        seconds_left,
        sha256: certificate.sha256(),
    }
}

/// As RFC 3339 has it; `None` for what it cannot say.
fn written(time: SystemTime) -> Option<String> {
    DateTime::from_system_time(time).ok().map(|time| time.to_string())
}

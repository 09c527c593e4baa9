//! `/certs`: what listeners and clusters show, and whom they believe. Flows in: credentials. Flows
//! out: JSON. It never sees a key.

use std::time::SystemTime;

use x509_cert::der::DateTime;

use super::{json::Json, request::Request, response::Response, routes::answer};
use crate::tls::{
    Certificate,
    credentials::{Credentials, Reloads, Settings},
};

/// What one listener or cluster does TLS with, as [`certificates`] shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificatesRow {
    /// The name of the credentials.
    pub name: String,
    /// Our own certificate, and behind it those by which it was issued. Empty where we show none.
    pub chain: Vec<Certificate>,
    /// Empty where peers are asked for no certificate.
    pub roots: Vec<Certificate>,
    /// The patterns of the peers that are allowed. `None` where all are that chain to the roots.
    pub peers: Option<Vec<String>>,
    /// What became of changed files.
    pub reloads: Reloads,
}

/// As they are at this moment.
impl<S: Settings> From<&Credentials<S>> for CertificatesRow {
    fn from(credentials: &Credentials<S>) -> CertificatesRow {
        let current = credentials.current();
        let trust = credentials.settings().trust();
        let peers = trust.and_then(|trust| trust.peers.as_ref());
        CertificatesRow {
            name: credentials.name().to_owned(),
            chain: current.own_certificates().to_vec(),
            roots: current.roots().to_vec(),
            peers: peers.map(|peers| peers.entries().collect()),
            reloads: credentials.reloads(),
        }
    }
}

/// The certificates in use: `{"certificates":[{"name","chain","roots","peers","reloads","refused"}]}`,
/// without `peers` where any are allowed, and for each certificate of `chain` and `roots`
/// `{"subject","issuer","serial","uris","dns_names","not_before","not_after","seconds_left","sha256"}`,
/// without lists that are empty.
pub fn certificates(
    list: impl Fn() -> Vec<CertificatesRow> + Send + Sync + 'static,
) -> impl Fn(&Request) -> Response + Send + Sync + 'static {
    move |_| {
        let now = SystemTime::now();
        answer("certificates", list().into_iter().map(|row| shown(row, now)))
    }
}

fn shown(row: CertificatesRow, now: SystemTime) -> Json {
    let all = |certificates: Vec<Certificate>| {
        Json::array(certificates.iter().map(|it| certificate(it, now)))
    };
    let mut fields = vec![
        ("name", Json::String(row.name)),
        ("chain", all(row.chain)),
        ("roots", all(row.roots)),
    ];
    if let Some(peers) = row.peers {
        fields.push(("peers", Json::array(peers.into_iter().map(Json::String))));
    }
    fields.push(("reloads", Json::integer(row.reloads.replaced)));
    fields.push(("refused", Json::integer(row.reloads.failed)));
    Json::Object(fields)
}

fn certificate(certificate: &Certificate, now: SystemTime) -> Json {
    let text = |text: &str| Json::String(text.to_owned());
    let mut fields = vec![
        ("subject", text(certificate.subject())),
        ("issuer", text(certificate.issuer())),
        ("serial", text(certificate.serial())),
    ];
    let mut list = |name, names: Vec<Json>| {
        if !names.is_empty() {
            fields.push((name, Json::Array(names)));
        }
    };
    list("uris", certificate.uri_names().map(text).collect());
    list("dns_names", certificate.dns_names().map(text).collect());
    let seconds_left = match certificate.not_after().duration_since(now) {
        Ok(left) => i128::from(left.as_secs()),
        Err(past) => -i128::from(past.duration().as_secs()),
    };
    fields.extend([
        ("not_before", time(certificate.not_before())),
        ("not_after", time(certificate.not_after())),
        ("seconds_left", Json::Integer(seconds_left)),
        ("sha256", Json::String(certificate.sha256())),
    ]);
    Json::Object(fields)
}

/// As RFC 3339 has it; null for what it cannot say.
fn time(time: SystemTime) -> Json {
    let written = DateTime::from_system_time(time).ok();
    Json::optional(written, |time| Json::String(time.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::tls::{
        ClientCredentials, Peers, ServerCredentials,
        credentials::{ClientSettings, OwnCertificate, ServerSettings, Source, Trust},
    };

    fn served(rows: Vec<CertificatesRow>) -> Value {
        let json = Json::array(rows.into_iter().map(|row| shown(row, SystemTime::now())));
        serde_json::from_str(&json.to_string()).unwrap()
    }

    #[test]
    fn credentials_are_shown_without_keys_and_what_is_not_there_is_left_out() {
        let made = rcgen::generate_simple_self_signed(["web.example".to_owned()]).unwrap();
        let pem = Source::memory("own", made.cert.pem());
        let key = Source::memory("key", made.signing_key.serialize_pem());
        let own = OwnCertificate { certificate: pem.clone(), key };
        let server = ServerCredentials::load("listener/web", ServerSettings::new(own)).unwrap();
        let peers = ["spiffe://td/ns/*", "spiffe://td/alice"];
        let trust = Trust::any(pem).peers(Peers::parse(peers).unwrap());
        let client = ClientCredentials::load("cluster/web", ClientSettings::new(trust)).unwrap();
        let shown = served(vec![(&server).into(), (&client).into()]);
        assert_eq!(shown[0]["name"], "listener/web");
        let first = &shown[0]["chain"][0];
        assert_eq!(first["dns_names"], serde_json::json!(["web.example"]));
        assert_eq!(first.get("uris"), None);
        assert!(first["seconds_left"].as_i64().unwrap() > 0);
        assert!(first["not_after"].as_str().unwrap().ends_with('Z'));
        assert_eq!(shown[0]["roots"], serde_json::json!([]));
        assert_eq!(shown[0].get("peers"), None);
        assert_eq!(shown[1]["chain"], serde_json::json!([]));
        assert_eq!(shown[1]["roots"][0]["sha256"], first["sha256"]);
        assert_eq!(shown[1]["peers"], serde_json::json!(peers));
        assert_eq!((&shown[1]["reloads"], &shown[1]["refused"]), (&0.into(), &0.into()));
    }
}

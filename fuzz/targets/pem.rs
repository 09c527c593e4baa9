//! Any bytes are taken for a certificate, a key, roots and a revocation list, or refused with the
//! name of what is wrong.
//!
//! Bytes that begin like DER are put into PEM first: to find their way through base64 takes a fuzzer long.
//! What does not come from the input is cheap to read: a certificate without a name, since every name
//! takes a search for the words of its parts.
#![no_main]

use std::sync::LazyLock;

use evenkeel::tls::{
    Certificate, ClientCredentials, Peers, ServerCredentials, SpiffeId,
    credentials::{ClientSettings, OwnCertificate, ServerSettings, Source, Trust},
    error::Error,
};
use libfuzzer_sys::fuzz_target;
use pem_rfc7468::{LineEnding, encode_string};

static CERTIFICATE: LazyLock<Source> =
    LazyLock::new(|| Source::memory("certificate", include_str!("../corpus/pem/nameless.pem")));
static KEY: LazyLock<Source> =
    LazyLock::new(|| Source::memory("key", include_str!("../corpus/pem/key.pem")));

/// The first byte of a certificate, of a key in PKCS #8 and of a revocation list: each is a sequence.
const SEQUENCE: u8 = 0x30;

/// What the input is as a source of this kind.
fn fuzzed(label: &str, bytes: &[u8]) -> Source {
    match bytes.first() {
        Some(&SEQUENCE) => {
            let pem = encode_string(label, LineEnding::LF, bytes).expect("any bytes have a PEM");
            Source::memory("fuzzed", pem)
        }
        _ => Source::memory("fuzzed", bytes),
    }
}

fn load(certificate: &Source, key: &Source) -> Result<ServerCredentials, Error> {
    let own = OwnCertificate { certificate: certificate.clone(), key: key.clone() };
    ServerCredentials::load("fuzz", ServerSettings::new(own))
}

fn own(certificate: &Source, key: &Source) {
    refused_or(load(certificate, key), |credentials| {
        let set = credentials.current();
        assert!(set.expires_at().is_some());
        assert!(!set.own_certificates().is_empty());
        set.own_certificates().iter().for_each(are_facts);
    });
}

fn trusted(trust: Trust) {
    let peers = Peers::parse(["spiffe://td/*"]).expect("it is one");
    let loaded = ClientCredentials::load("fuzz", ClientSettings::new(trust.peers(peers)));
    refused_or(loaded, |credentials| {
        let set = credentials.current();
        assert!(!set.roots().is_empty());
        set.roots().iter().for_each(are_facts);
    });
}

fn refused_or<T>(loaded: Result<T, Error>, check: impl FnOnce(T)) {
    match loaded {
        Ok(loaded) => check(loaded),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Nothing in a certificate can end a line of a log.
fn are_facts(certificate: &Certificate) {
    assert_eq!(certificate.sha256().len(), 64);
    for name in [certificate.subject(), certificate.issuer()] {
        assert!(!name.contains(['\r', '\n', '\0']));
    }
}

/// Else no input could be taken.
fn what_is_not_fuzzed_is_good() {
    load(&CERTIFICATE, &KEY).expect("they belong together");
}

fuzz_target!(init: what_is_not_fuzzed_is_good(), |bytes: &[u8]| {
    let certificate = fuzzed("CERTIFICATE", bytes);
    let key = fuzzed("PRIVATE KEY", bytes);
    own(&certificate, &KEY);
    own(&CERTIFICATE, &key);
    if bytes.first() != Some(&SEQUENCE) {
        own(&certificate, &key);
    }
    trusted(Trust::any(certificate));
    let mut trust = Trust::any(CERTIFICATE.clone());
    trust.revocation_lists.push(fuzzed("X509 CRL", bytes));
    trusted(trust);

    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(id) = text.parse::<SpiffeId>() {
            assert_eq!(id.as_str(), text);
            assert!(Peers::parse([text]).is_ok_and(|peers| peers.allow(&id)));
        }
        let _ = Peers::parse(text.lines());
    }
});

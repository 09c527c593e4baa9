//! Any bytes are taken for a certificate, a key, roots and a revocation list, or refused with the
//! name of what is wrong.
#![no_main]

use evenkeel::tls::{
    Peers, ServerCredentials, SpiffeId,
    credentials::{OwnCertificate, ServerSettings, Source, Trust},
};
use libfuzzer_sys::fuzz_target;

const CERTIFICATE: &str = include_str!("../corpus/pem/certificate.pem");
const KEY: &str = include_str!("../corpus/pem/key.pem");

fuzz_target!(|bytes: &[u8]| {
    let fuzzed = || Source::memory("fuzzed", bytes);
    let load = |certificate: Source, key: Source, clients: Option<Trust>| {
        let mut settings = ServerSettings::new(OwnCertificate { certificate, key });
        settings.clients = clients;
        match ServerCredentials::load("fuzz", settings) {
            Ok(credentials) => {
                let set = credentials.current();
                assert!(set.expires_at().is_some());
                for certificate in set.own_certificates().iter().chain(set.roots()) {
                    assert_eq!(certificate.sha256().len(), 64);
                    assert!(!certificate.subject().contains(['\r', '\n', '\0']));
                }
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    };
    let certificate = || Source::memory("certificate", CERTIFICATE);
    let key = || Source::memory("key", KEY);
    load(fuzzed(), fuzzed(), None);
    load(certificate(), fuzzed(), None);
    load(fuzzed(), key(), None);
    load(certificate(), key(), Some(Trust::any(fuzzed())));
    let mut trust = Trust::any(certificate());
    trust.revocation_lists.push(fuzzed());
    load(certificate(), key(), Some(trust));

    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(id) = text.parse::<SpiffeId>() {
            assert_eq!(id.as_str(), text);
            assert!(Peers::parse([text]).is_ok_and(|peers| peers.allow(&id)));
        }
        let _ = Peers::parse(text.lines());
    }
});

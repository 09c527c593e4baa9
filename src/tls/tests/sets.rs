//! Sets that are refused, and what is said of them.

use proptest::prelude::*;
use rcgen::{CertificateParams, date_time_ymd};

use super::authority::{Authority, Issued, client};
use crate::tls::{
    ClientCredentials, Error, ServerCredentials,
    credentials::{OwnCertificate, RootSources, ServerSettings, Source, Trust},
    error::Problem,
};

fn load(settings: ServerSettings) -> Error {
    ServerCredentials::load("server", settings).unwrap_err()
}

/// What is said of `own`, with the name of its file.
fn refusal(own: &Issued) -> String {
    load(own.server(None)).to_string()
}

fn trusting(trust: Trust) -> String {
    let good = Authority::new("authority").issue(&["a.example"], |_| ());
    load(good.server(Some(trust))).to_string()
}

#[test]
fn certificates_and_keys_that_do_not_fit() {
    let authority = Authority::new("authority");
    let issue = |change: fn(&mut CertificateParams)| authority.issue(&["a.example"], change);
    let good = issue(|_| ());
    let other = issue(|_| ());

    let mixed = Issued { key: other.key.clone(), ..good.clone() };
    assert!(
        refusal(&mixed).starts_with("own.pem: its first certificate is not for the private key")
    );
    let expired = refusal(&issue(|it| it.not_after = date_time_ymd(2024, 1, 1)));
    assert!(expired.starts_with("own.pem: certificate 1 has expired, "), "{expired}");
    assert!(expired.ends_with(" days ago"), "{expired}");
    let early = refusal(&issue(|it| it.not_before = date_time_ymd(3000, 1, 1)));
    assert!(early.starts_with("own.pem: certificate 1 is not valid yet"), "{early}");

    let with_key = |key: &str| refusal(&Issued { key: key.into(), ..good.clone() });
    assert_eq!(with_key(&good.certificate), "own.key: there is no private key in it");
    assert!(
        with_key(&(good.key.clone() + &other.key)).starts_with("own.key: there is more than one")
    );
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    assert!(with_key(encrypted).contains("needs a password"), "{}", with_key(encrypted));
    let broken = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    assert!(with_key(broken).starts_with("own.key: the private key cannot be used"));

    let with =
        |certificate: &str| refusal(&Issued { certificate: certificate.into(), ..good.clone() });
    assert_eq!(with(""), "own.pem: there is no certificate in it");
    assert_eq!(with(&good.key), "own.pem: there is no certificate in it");
    let broken = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let second = with(&(good.certificate.clone() + broken));
    assert!(second.starts_with("own.pem: certificate 2 cannot be read"), "{second}");
    let half = with(&good.certificate[..good.certificate.len() / 2]);
    assert!(half.starts_with("own.pem: is not PEM, or not all of it"), "{half}");
}

#[test]
fn a_chain_must_be_in_order() {
    let root = Authority::new("root");
    let first = root.below("first");
    let second = first.below("second");
    let leaf = second.issue(&["a.example"], |_| ());
    let loads = |authorities: &[&Authority]| {
        ServerCredentials::load("server", leaf.clone().behind(authorities).server(None))
    };
    for chain in [&[][..], &[&second], &[&second, &first], &[&second, &first, &root]] {
        assert!(loads(chain).is_ok());
    }
    // The name is right and the key is not.
    let namesake = Authority::new("root").below("first");
    for (chain, at) in [
        (&[&first, &second][..], 1),
        (&[&root], 1),
        (&[&second, &root], 2),
        (&[&second, &namesake], 2),
    ] {
        let error = loads(chain).unwrap_err();
        assert!(
            matches!(error.problem(), Problem::OutOfOrder { certificate } if *certificate == at),
            "{error}"
        );
    }
}

#[test]
fn roots_and_lists_that_are_none() {
    let authority = Authority::new("authority");
    assert_eq!(
        trusting(Trust::any(Source::memory("ca.pem", ""))),
        "ca.pem: there is no certificate in it"
    );
    let by_trust_domain = RootSources::ByTrustDomain([].into());
    let none = trusting(Trust { roots: by_trust_domain, ..authority.trust() });
    assert!(none.contains("at least one trust domain"), "{none}");
    let list = |pem: String| {
        let lists = vec![Source::memory("ca.crl", pem)];
        trusting(Trust { revocation_lists: lists, ..authority.trust() })
    };
    assert_eq!(list(authority.pem()), "ca.crl: there is no revocation list in it");
    let broken = "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n".to_owned();
    let second = list(authority.revocation_list(&[]) + &broken);
    assert!(second.starts_with("ca.crl: revocation list 2 cannot be used"), "{second}");
}

#[test]
fn servers_need_a_name_or_identities() {
    let authority = Authority::new("authority");
    let error = ClientCredentials::load("client", client(authority.trust(), None)).unwrap_err();
    assert!(matches!(error.problem(), Problem::NoName), "{error}");
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.pem");
    let error = trusting(Trust::any(missing.as_path()));
    assert!(error.starts_with(&format!("{}: cannot be read", missing.display())), "{error}");
    let long = folder.path().join("long.pem");
    std::fs::File::create(&long).unwrap().set_len(17 << 20).unwrap();
    assert!(trusting(Trust::any(long)).contains("more than 16777216 bytes"));
}

/// Whoever takes the roots of the system can.
#[test]
fn the_public_authorities() {
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    if !std::path::Path::new(bundle).exists() {
        assert!(std::env::var_os("CI").is_none(), "{bundle} is missing: install ca-certificates");
        eprintln!("SKIPPED the_public_authorities: there is no {bundle}");
        return;
    }
    let loaded = ClientCredentials::load("client", client(Trust::any(bundle), Some("a.example")));
    assert!(loaded.unwrap().current().roots().len() > 50);
}

#[test]
fn nothing_prints_a_key() {
    let good = Authority::new("authority").issue(&["a.example"], |_| ());
    let loaded = ServerCredentials::load("server", good.server(None)).unwrap();
    let secret = good.key.lines().nth(1).unwrap();
    for text in [
        format!("{loaded:?}"),
        format!("{:?}", loaded.settings()),
        format!("{:?}", loaded.current()),
    ] {
        assert!(!text.contains(secret), "{text}");
        assert!(!text.contains(&format!("{:?}", &good.key.as_bytes()[..8])), "{text}");
    }
}

proptest! {
    /// Whatever is done to good PEM, it is taken or refused, and nothing else.
    #[test]
    fn damaged_pem_is_taken_or_refused(
        which in 0usize..4, at in 0usize..2000, with: u8, cut: bool,
    ) {
        let authority = Authority::new("authority");
        let good = authority.issue(&["a.example"], |_| ());
        let pems = [good.certificate, good.key, authority.pem(), authority.revocation_list(&[1])];
        let [certificate, key, roots, list] = std::array::from_fn(|index| {
            let mut bytes = pems[index].as_bytes().to_vec();
            let at = at % bytes.len();
            match (index == which, cut) {
                (false, _) => {}
                (true, true) => bytes.truncate(at),
                (true, false) => bytes[at] = with,
            }
            Source::memory(["own.pem", "own.key", "ca.pem", "ca.crl"][index], bytes)
        });
        let trust = Trust { revocation_lists: vec![list], ..Trust::any(roots) };
        let mut settings = ServerSettings::new(OwnCertificate { certificate, key });
        settings.clients = Some(trust);
        if let Err(error) = ServerCredentials::load("server", settings) {
            prop_assert!(!error.to_string().is_empty());
            prop_assert!(error.about().starts_with(["own", "own", "ca", "ca"][which]), "{}", error);
        }
    }
}

//! Who is let in, and who is refused with which reason and which alert.

use std::collections::BTreeMap;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SerialNumber, date_time_ymd,
};
use rustls::{ALL_VERSIONS, AlertDescription as Alert, version::TLS12};

use super::{
    authority::{Authority, Issued, client, leaf},
    handshake::{between, with_unchecked_client},
};
use crate::tls::{
    Peers, Reason,
    credentials::{RootSources, ServerSettings, Source, Trust, Version},
};

const REVIEWS: &str = "spiffe://td/ns/default/sa/reviews";
const RATINGS: &str = "spiffe://td/ns/default/sa/ratings";

fn peers(entries: &[&str]) -> Peers {
    Peers::parse(entries).unwrap()
}

/// A client that shows `shown` to a server that trusts `clients`: the server's reason, and the
/// client's alert. The same with both versions of TLS.
fn refusal(shown: &Issued, clients: Trust) -> (Reason, Alert) {
    let authority = Authority::new("servers");
    let server = authority.issue(&["server.example"], |_| ());
    let [new, old] = [Version::Tls13, Version::Tls12].map(|version| {
        let mut client = shown.client(authority.trust(), Some("server.example"));
        client.oldest_version = version;
        let ends = between(client, server.server(Some(clients.clone())));
        (ends.server.reason(), ends.client.alert())
    });
    assert_eq!(new, old);
    new
}

/// The client's reason, and the server's alert.
fn refusal_of_server(shown: &Issued, servers: Trust, name: Option<&str>) -> (Reason, Alert) {
    let ends = between(client(servers, name), shown.server(None));
    (ends.client.reason(), ends.server.alert())
}

#[test]
fn both_ends_know_each_other() {
    let authority = Authority::new("authority");
    let reviews = authority.issue(&[REVIEWS], |_| ());
    let ratings = authority.issue(&[RATINGS], |_| ());
    let namespace = authority.trust().peers(peers(&["spiffe://td/ns/default/*"]));
    let ends = between(
        reviews.client(authority.trust().peers(peers(&[RATINGS])), None),
        ratings.server(Some(namespace)),
    );
    assert_eq!(ends.client.peer().as_deref(), Some(RATINGS));
    assert_eq!(ends.server.peer().as_deref(), Some(REVIEWS));
    let judged = ends.server.judged.unwrap().unwrap();
    assert_eq!(judged.certificate().uri_names().collect::<Vec<_>>(), [REVIEWS]);
}

#[test]
fn a_chain_over_an_intermediate() {
    let root = Authority::new("root");
    let intermediate = root.below("intermediate");
    let server = intermediate.issue(&["server.example"], |_| ()).behind(&[&intermediate]);
    let ends = between(client(root.trust(), Some("server.example")), server.server(None));
    assert_eq!(ends.client.peer(), None);
    assert!(ends.server.judged.unwrap().is_none());
}

#[test]
fn without_peers_any_chain_will_do() {
    let authority = Authority::new("authority");
    let server = authority.issue(&["server.example"], |_| ());
    for names in [&["https://a.example"][..], &["https://a/1", "https://a/2"], &["a.example"]] {
        let shown = authority.issue(names, |_| ());
        let ends = between(
            shown.client(authority.trust(), Some("server.example")),
            server.server(Some(authority.trust())),
        );
        assert_eq!(ends.server.peer(), None);
        assert!(ends.server.judged.unwrap().is_some());
    }
}

#[test]
fn clients_that_are_refused() {
    let authority = Authority::new("authority");
    let any = || authority.trust();
    let named = || authority.trust().peers(peers(&[REVIEWS]));
    let reviews = |change: fn(&mut CertificateParams)| authority.issue(&[REVIEWS], change);

    let good = reviews(|_| ());
    assert_eq!(
        refusal(&good, Authority::new("other").trust()),
        (Reason::UnknownCa, Alert::UnknownCA)
    );
    // The name of an authority is not its key.
    let namesake = Authority::new("authority").trust();
    assert_eq!(refusal(&good, namesake), (Reason::UnknownCa, Alert::UnknownCA));

    let self_signed = Issued::self_signed(&leaf(&[REVIEWS]));
    assert_eq!(refusal(&self_signed, any()), (Reason::UnknownCa, Alert::UnknownCA));
    let mut own_authority = leaf(&[REVIEWS]);
    own_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own_authority = Issued::self_signed(&own_authority);
    assert_eq!(refusal(&own_authority, any()), (Reason::UnknownCa, Alert::UnknownCA));

    let no_server =
        reviews(|it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert_eq!(refusal(&no_server, any()), (Reason::KeyUsage, Alert::UnsupportedCertificate));
    let no_signing = reviews(|it| it.key_usages = vec![KeyUsagePurpose::KeyEncipherment]);
    assert_eq!(refusal(&no_signing, any()), (Reason::KeyUsage, Alert::UnsupportedCertificate));
    let issuing = reviews(|it| it.key_usages.push(KeyUsagePurpose::KeyCertSign));
    assert_eq!(refusal(&issuing, named()), (Reason::KeyUsage, Alert::UnsupportedCertificate));

    let nobody = authority.issue(&["client.example"], |_| ());
    assert_eq!(refusal(&nobody, named()), (Reason::NoIdentity, Alert::CertificateUnknown));
    let malformed = authority.issue(&["spiffe://td/ns/"], |_| ());
    assert_eq!(refusal(&malformed, named()), (Reason::NoIdentity, Alert::CertificateUnknown));
    let two = authority.issue(&[REVIEWS, RATINGS], |_| ());
    assert_eq!(refusal(&two, named()), (Reason::ManyIdentities, Alert::CertificateUnknown));
    assert_eq!(refusal(&two, any()), (Reason::ManyIdentities, Alert::CertificateUnknown));
    let other = authority.issue(&[RATINGS], |_| ());
    assert_eq!(refusal(&other, named()), (Reason::PeerNotAllowed, Alert::AccessDenied));
}

/// Such a client cannot be loaded, for we check what we show. So it is judged without a handshake.
#[test]
fn a_certificate_out_of_date_is_refused() {
    let authority = Authority::new("authority");
    let good = authority.issue(&["server.example"], |_| ());
    let set = good.server(Some(authority.trust()));
    let expired = authority.issue(&[REVIEWS], |it| it.not_after = date_time_ymd(2024, 1, 1));
    let early = authority.issue(&[REVIEWS], |it| it.not_before = date_time_ymd(3000, 1, 1));
    for (shown, reason, alert) in [
        (&expired, Reason::Expired, Alert::CertificateExpired),
        (&early, Reason::NotYetValid, Alert::CertificateExpired),
    ] {
        let ends = with_unchecked_client(shown, &authority, set.clone(), ALL_VERSIONS);
        assert_eq!((ends.server.reason(), ends.client.alert()), (reason, alert));
    }
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let authority = Authority::new("authority");
    let server = authority.issue(&["server.example"], |_| ());
    let ends = between(
        client(authority.trust(), Some("server.example")),
        server.server(Some(authority.trust())),
    );
    assert_eq!(ends.server.reason(), Reason::NoCertificate);
    assert_eq!(ends.client.alert(), Alert::CertificateRequired);
    assert_eq!(ends.client.reason(), Reason::RefusedByPeer);
    assert_eq!(ends.server.judged.unwrap_err(), Reason::NoCertificate);
}

#[test]
fn revoked_clients_are_refused_and_others_not() {
    let root = Authority::new("root");
    let intermediate = root.below("intermediate");
    let issue = |serial: u64| {
        let number =
            |it: &mut CertificateParams| it.serial_number = Some(SerialNumber::from(serial));
        intermediate.issue(&[REVIEWS], number).behind(&[&intermediate])
    };
    let mut trust = root.trust();
    trust.revocation_lists = vec![Source::memory(
        "list.pem",
        root.revocation_list(&[]) + &intermediate.revocation_list(&[7]),
    )];
    assert_eq!(refusal(&issue(7), trust.clone()), (Reason::Revoked, Alert::CertificateRevoked));

    let server = root.issue(&["server.example"], |_| ());
    let connect = |trust: &Trust| {
        let client = issue(8).client(root.trust(), Some("server.example"));
        between(client, server.server(Some(trust.clone())))
    };
    assert_eq!(connect(&trust).server.peer().as_deref(), Some(REVIEWS));
    // An issuer without a list may issue.
    trust.revocation_lists = vec![Source::memory("list.pem", root.revocation_list(&[7]))];
    assert_eq!(connect(&trust).server.peer().as_deref(), Some(REVIEWS));
}

#[test]
fn each_trust_domain_has_its_own_roots() {
    let ours = Authority::new("ours");
    let theirs = Authority::new("theirs");
    let roots = BTreeMap::from([
        ("td".parse().unwrap(), Source::memory("td", ours.pem())),
        ("partner.example".parse().unwrap(), Source::memory("partner", theirs.pem())),
    ]);
    let trust = || Trust {
        roots: RootSources::ByTrustDomain(roots.clone()),
        revocation_lists: Vec::new(),
        peers: None,
    };
    let server = ours.issue(&["server.example"], |_| ());
    let partner = theirs.issue(&["spiffe://partner.example/a"], |_| ());
    let ends =
        between(partner.client(ours.trust(), Some("server.example")), server.server(Some(trust())));
    assert_eq!(ends.server.peer().as_deref(), Some("spiffe://partner.example/a"));

    let impostor = theirs.issue(&[REVIEWS], |_| ());
    assert_eq!(refusal(&impostor, trust()), (Reason::UnknownCa, Alert::UnknownCA));
    let stranger = ours.issue(&["spiffe://elsewhere/a"], |_| ());
    assert_eq!(refusal(&stranger, trust()), (Reason::UnknownCa, Alert::UnknownCA));
    let nobody = ours.issue(&["client.example"], |_| ());
    assert_eq!(refusal(&nobody, trust()), (Reason::NoIdentity, Alert::CertificateUnknown));
}

#[test]
fn servers_that_are_refused() {
    let authority = Authority::new("authority");
    let server = authority.issue(&["server.example", REVIEWS], |_| ());
    let wrong = refusal_of_server(&server, authority.trust(), Some("other.example"));
    assert_eq!(wrong, (Reason::BadName, Alert::BadCertificate));
    let unknown = Authority::new("other").trust();
    let unknown = refusal_of_server(&server, unknown, Some("server.example"));
    assert_eq!(unknown, (Reason::UnknownCa, Alert::UnknownCA));
    let ratings = authority.trust().peers(peers(&[RATINGS]));
    let not_allowed = refusal_of_server(&server, ratings, Some("server.example"));
    assert_eq!(not_allowed, (Reason::PeerNotAllowed, Alert::AccessDenied));
    let client_only = |it: &mut CertificateParams| {
        it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    let client_only = authority.issue(&["server.example"], client_only);
    let usage = refusal_of_server(&client_only, authority.trust(), Some("server.example"));
    assert_eq!(usage, (Reason::KeyUsage, Alert::UnsupportedCertificate));
}

#[test]
fn servers_by_address_and_by_identity() {
    let authority = Authority::new("authority");
    let server = authority.issue(&["127.0.0.1", REVIEWS], |_| ());
    let by_address = client(authority.trust(), Some("127.0.0.1"));
    assert_eq!(between(by_address, server.server(None)).client.peer().as_deref(), Some(REVIEWS));
    let wrong = refusal_of_server(&server, authority.trust(), Some("127.0.0.2"));
    assert_eq!(wrong, (Reason::BadName, Alert::BadCertificate));
    // By its identity, whatever name is asked for.
    let reviews = || authority.trust().peers(peers(&[REVIEWS]));
    for name in [None, Some("other.example")] {
        let ends = between(client(reviews(), name), server.server(None));
        assert_eq!(ends.client.peer().as_deref(), Some(REVIEWS));
    }
}

#[test]
fn protocols_and_versions_that_do_not_meet() {
    let authority = Authority::new("authority");
    let server = authority.issue(&["server.example"], |_| ());
    let mut asks = client(authority.trust(), Some("server.example"));
    asks.application_protocols = vec![b"h2".to_vec()];
    let mut offers = server.server(None);
    offers.application_protocols = vec![b"http/1.1".to_vec()];
    let ends = between(asks.clone(), offers.clone());
    assert_eq!(ends.server.reason(), Reason::NoCommonProtocol);
    assert_eq!(ends.client.reason(), Reason::NoCommonProtocol);
    asks.application_protocols.push(b"http/1.1".to_vec());
    between(asks, offers).server.result.unwrap();

    let new = ServerSettings { oldest_version: Version::Tls13, ..server.server(None) };
    let ends = with_unchecked_client(&server, &authority, new, &[&TLS12]);
    assert_eq!(ends.server.reason(), Reason::NoCommonVersion);
    assert_eq!(ends.client.alert(), Alert::ProtocolVersion);
    assert_eq!(ends.client.reason(), Reason::NoCommonVersion);
}

/// Labels are told apart, and a verifier's reason is what comes out of rustls.
#[test]
fn reasons_survive_rustls() {
    let reasons = [
        Reason::UnknownCa,
        Reason::Expired,
        Reason::NotYetValid,
        Reason::NoIdentity,
        Reason::ManyIdentities,
        Reason::PeerNotAllowed,
        Reason::KeyUsage,
        Reason::NoCertificate,
        Reason::BadCertificate,
    ];
    for reason in reasons {
        assert_eq!(Reason::from(&reason.into_error()), reason);
        assert_eq!(reasons.iter().filter(|other| other.as_str() == reason.as_str()).count(), 1);
    }
}

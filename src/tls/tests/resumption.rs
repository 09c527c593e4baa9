//! Sessions are resumed where they may be, and nowhere else.

use super::{
    authority::{Authority, Issued, client},
    handshake::{between, run},
};
use crate::tls::{
    ClientCredentials, Peers, Reason, ServerCredentials,
    credentials::{ClientSettings, ServerSettings, Version},
};

const REVIEWS: &str = "spiffe://td/reviews";

fn load_client(settings: ClientSettings) -> ClientCredentials {
    ClientCredentials::load("client", settings).unwrap()
}

fn load_server(settings: ServerSettings) -> ServerCredentials {
    ServerCredentials::load("server", settings).unwrap()
}

struct Pair {
    authority: Authority,
    server: Issued,
    client: Issued,
}

impl Pair {
    fn new() -> Pair {
        let authority = Authority::new("authority");
        let server = authority.issue(&["server.example"], |_| ());
        let client = authority.issue(&[REVIEWS], |_| ());
        Pair { authority, server, client }
    }

    fn client(&self) -> ClientSettings {
        self.client.client(self.authority.trust(), Some("server.example"))
    }

    fn mutual(&self) -> ServerSettings {
        self.server.server(Some(self.authority.trust()))
    }
}

#[test]
fn a_session_is_resumed_with_the_identity_of_both_ends() {
    let pair = Pair::new();
    let server = load_server(pair.mutual());
    for oldest in [Version::Tls12, Version::Tls13] {
        let client = load_client(ClientSettings { oldest_version: oldest, ..pair.client() });
        assert!(!run(&client, &server).server.resumed);
        let again = run(&client, &server);
        assert!(again.server.resumed && again.client.resumed);
        assert_eq!(again.server.peer().as_deref(), Some(REVIEWS));
        // Clones are the same end.
        assert!(run(&client.clone(), &server.clone()).server.resumed);
    }
}

#[test]
fn no_session_is_resumed_without_tickets() {
    let pair = Pair::new();
    let with = || load_client(pair.client());
    let without = load_server(ServerSettings { tickets: false, ..pair.mutual() });
    let client = with();
    run(&client, &without);
    assert!(!run(&client, &without).server.resumed);

    let server = load_server(pair.mutual());
    let client = load_client(ClientSettings { tickets: false, ..pair.client() });
    run(&client, &server);
    assert!(!run(&client, &server).server.resumed);
}

/// CVE-2025-23419.
#[test]
fn a_session_of_one_listener_is_worth_nothing_at_another() {
    let pair = Pair::new();
    let open = load_server(pair.server.server(None));
    let mutual = load_server(pair.mutual());
    let same = load_server(pair.mutual());
    for (first, second) in [(&open, &mutual), (&mutual, &open), (&mutual, &same)] {
        let client = load_client(pair.client());
        run(&client, first);
        let moved = run(&client, second);
        moved.server.result.unwrap();
        assert!(!moved.server.resumed);
    }
    // And one that has no certificate gets nowhere with it.
    let anonymous = load_client(client(pair.authority.trust(), Some("server.example")));
    run(&anonymous, &open).server.result.unwrap();
    assert!(run(&anonymous, &open).server.resumed);
    assert_eq!(run(&anonymous, &mutual).server.reason(), Reason::NoCertificate);
}

#[test]
fn clusters_share_no_sessions() {
    let pair = Pair::new();
    let server = load_server(pair.mutual());
    run(&load_client(pair.client()), &server);
    assert!(!run(&load_client(pair.client()), &server).server.resumed);
}

/// A resumed session shows the certificate of the full handshake. Whoever judges it may know better
/// than whoever did then.
#[test]
fn certificates_of_a_session_are_judged_again() {
    let pair = Pair::new();
    let shown = between(pair.client(), pair.mutual());
    assert_eq!(shown.server.peer().as_deref(), Some(REVIEWS));
    let expired = pair.authority.issue(&[REVIEWS], |it| {
        it.not_after = rcgen::date_time_ymd(2024, 1, 1);
    });
    let others = Peers::parse(["spiffe://td/ratings"]).unwrap();
    let judge = |issued: &Issued, trust| {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        let set = load_server(pair.server.server(Some(trust))).current();
        set.judge(&[der]).map(|_| ())
    };
    let trust = || pair.authority.trust();
    assert_eq!(judge(&pair.client, trust()), Ok(()));
    assert_eq!(judge(&expired, trust()), Err(Reason::Expired));
    assert_eq!(judge(&pair.client, trust().peers(others)), Err(Reason::PeerNotAllowed));
}

//! Mutual TLS between two proxies: a client of plain TCP connects to LISTEN, and its bytes reach UPSTREAM
//! through a connection on which both ends have proved who they are, until Ctrl-C.
//!
//! `cargo run --release --example mtls -- 127.0.0.1:8080 127.0.0.1:80`
//!
//! The certificates are made here and held in memory. With files, `Source::file` takes the place of
//! `Source::memory`, and a `Watch` looks for new ones.

use std::{error::Error, time::Duration};

use evenkeel::{
    Connection, Listener, Proxy, Relay, Service as _, ServiceFactory,
    shard::Shard,
    signal,
    tls::{
        self, ClientCredentials, Peers, ServerCredentials,
        credentials::{ClientSettings, OwnCertificate, ServerSettings, Source, Trust},
    },
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};

const CLIENT: &str = "spiffe://example.org/client";
const SERVER: &str = "spiffe://example.org/server";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(upstream), None) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        eprintln!("usage: mtls LISTEN UPSTREAM (both ip:port)");
        std::process::exit(2);
    };
    let mut termination = signal::terminate()?;
    let authority = authority()?;

    // The server's side takes nobody but the client, and says who came.
    let mut settings = ServerSettings::new(issue(&authority, SERVER)?);
    settings.clients = Some(trust(&authority, CLIENT)?);
    let relay = Relay::to([upstream]);
    let service =
        tls::terminate(ServerCredentials::load("server", settings)?, move |shard: &Shard| {
            let relay = relay.make(shard);
            async move |connection: Connection| {
                let peer = connection.tls().and_then(|tls| tls.peer()?.spiffe_id().cloned());
                if let Some(peer) = peer {
                    println!("a connection of {peer}");
                }
                relay.serve(connection).await;
            }
        });
    let server = Proxy::builder()
        .listener(Listener::bind("127.0.0.1:0")?.named("server").serve(service))
        .start()?;
    let between = server.local_addr("server").ok_or("the server has no address")?;

    // The client's side talks to nobody but the server.
    let mut settings = ClientSettings::new(trust(&authority, SERVER)?);
    settings.own = Some(issue(&authority, CLIENT)?);
    let relay = Relay::to([between.to_string()]).tls(ClientCredentials::load("client", settings)?);
    let client = Proxy::builder().listener(Listener::bind(&listen)?.serve(relay)).start()?;
    for listener in client.local_addrs() {
        println!("listening on {}", listener.address);
    }
    termination.wait();
    let drained = client.drain(Duration::from_secs(30)).report();
    server.drain(Duration::from_secs(1)).report()?;
    Ok(drained?)
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Result<Authority, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

/// A certificate for a SPIFFE id, and its key.
fn issue(authority: &Authority, id: &str) -> Result<OwnCertificate, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(id.try_into()?)];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    Ok(OwnCertificate {
        certificate: Source::memory(id, certificate.pem()),
        key: Source::memory(id, key.serialize_pem()),
    })
}

/// Trusts one peer, if `authority` vouches for it.
fn trust(authority: &Authority, peer: &str) -> Result<Trust, tls::IdentityError> {
    let roots = Source::memory("authority", authority.pem());
    Ok(Trust::any(roots).peers(Peers::parse([peer])?))
}

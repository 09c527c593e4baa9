//! Who the two proxies of the demonstration are to each other: an authority in memory, a certificate for
//! each, and what each has verified of the other.
//!
//! In: nothing. Out: credentials, and a service in front of another that notes down the peers that it
//! sees. Nothing is written to a file; with the process the authority is gone.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use evenkeel::{
    Connection, Error, Service, ServiceFactory,
    shard::Shard,
    tls::{
        ClientCredentials, Peers, ServerCredentials,
        credentials::{ClientSettings, OwnCertificate, ServerSettings, Source, Trust},
    },
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};

pub(super) const OUTBOUND: &str = "spiffe://cluster.local/ns/demo/sa/outbound";
pub(super) const INBOUND: &str = "spiffe://cluster.local/ns/demo/sa/inbound";

/// Vouches for both.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Result<Authority, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority of the demonstration");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().map_err(failed)?;
        CertifiedIssuer::self_signed(params, key).map(Authority).map_err(failed)
    }

    /// What inbound serves with: it takes nobody but outbound.
    pub(super) fn inbound(&self) -> Result<ServerCredentials, Error> {
        let mut settings = ServerSettings::new(self.issue(INBOUND)?);
        settings.clients = Some(self.trust(OUTBOUND)?);
        settings.application_protocols = vec![b"http/1.1".to_vec()];
        ServerCredentials::load("inbound", settings).map_err(failed)
    }

    /// What outbound connects with: it talks to nobody but inbound.
    pub(super) fn outbound(&self) -> Result<ClientCredentials, Error> {
        let mut settings = ClientSettings::new(self.trust(INBOUND)?);
        settings.own = Some(self.issue(OUTBOUND)?);
        settings.application_protocols = vec![b"http/1.1".to_vec()];
        ClientCredentials::load("outbound", settings).map_err(failed)
    }

    fn issue(&self, id: &str) -> Result<OwnCertificate, Error> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(id.try_into().map_err(failed)?)];
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.0).map_err(failed)?;
        Ok(OwnCertificate {
            certificate: Source::memory(id, certificate.pem()),
            key: Source::memory(id, key.serialize_pem()),
        })
    }

    fn trust(&self, peer: &str) -> Result<Trust, Error> {
        let roots = Source::memory("authority", self.0.pem());
        Ok(Trust::any(roots).peers(Peers::parse([peer]).map_err(failed)?))
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Invalid(format!("making certificates: {error}"))
}

/// What was seen of clients: who they are, and how they talk.
#[derive(Clone, Default)]
pub(super) struct Seen(Arc<Mutex<BTreeSet<String>>>);

impl Seen {
    /// In front of a service behind TLS.
    pub(super) fn before<S>(&self, service: S) -> Noting<S> {
        Noting { seen: self.clone(), service }
    }

    pub(super) fn peers(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn note(&self, connection: &Connection) {
        let Some(tls) = connection.tls() else { return };
        let id = tls.peer().and_then(|peer| peer.spiffe_id());
        let id = id.map_or("somebody without a name", |id| id.as_str());
        let (version, suite) = (tls.version(), tls.cipher_suite().suite());
        let line = format!("{id}, {version:?}, {suite:?}");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(line);
    }
}

/// A service that notes down its clients: see [`Seen::before`].
pub(super) struct Noting<S> {
    seen: Seen,
    service: S,
}

impl<S: ServiceFactory> ServiceFactory for Noting<S> {
    type Service = Noting<S::Service>;

    fn make(&self, shard: &Shard) -> Self::Service {
        Noting { seen: self.seen.clone(), service: self.service.make(shard) }
    }

    fn check(&self) -> Result<(), String> {
        self.service.check()
    }
}

impl<S: Service> Service for Noting<S> {
    async fn serve(&self, connection: Connection) {
        self.seen.note(&connection);
        self.service.serve(connection).await;
    }
}

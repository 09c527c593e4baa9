//! One set, as handshakes use it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    ClientConfig, ServerConfig,
    client::Resumption,
    pki_types::{CertificateDer, ServerName},
    server::NoServerSessionStorage,
    sign::SingleCertAndKey,
};

use super::{
    Fingerprint,
    contents::Contents,
    retirement::Retirement,
    settings::{ClientSettings, OwnCertificate, ServerSettings, Trust},
};
use crate::tls::{
    Certificate, PeerIdentity, Reason,
    error::{Error, Problem},
    provider::{provider, ticketer},
    verify::{ClientVerifier, PeerVerifier, ServerVerifier, Side},
};

/// How many servers a cluster remembers sessions of. They are all of one name, unless the
/// configuration is used for others as well.
const REMEMBERED_SERVERS: usize = 256;

/// A set that has passed every check, ready for handshakes. It does not change.
pub struct Snapshot<C> {
    config: Arc<C>,
    peers: Option<Arc<PeerVerifier>>,
    own: Vec<Certificate>,
    roots: Vec<Certificate>,
    own_contents: Fingerprint,
    trust_contents: Fingerprint,
    /// Where connections do not outlive their set.
    retirement: Option<Retirement>,
}

/// The set of a listener.
pub type ServerSnapshot = Snapshot<ServerConfig>;
/// The set of a cluster.
pub type ClientSnapshot = Snapshot<ClientConfig>;

impl<C> Snapshot<C> {
    /// The configuration for rustls. It allows that the keys of a connection are taken out of
    /// rustls, for the records are made elsewhere.
    pub fn config(&self) -> &Arc<C> {
        &self.config
    }

    /// Judges a peer after a handshake, whether it was a full one or resumed a session: in the
    /// latter, rustls asks nobody. `None` for a peer that was not asked for a certificate.
    ///
    /// # Errors
    ///
    /// Why the peer is refused. The connection must be closed.
    pub fn judge(
        &self,
        peer_certificates: &[CertificateDer<'_>],
    ) -> Result<Option<PeerIdentity>, Reason> {
        let Some(peers) = &self.peers else {
            return Ok(None);
        };
        peers.judge(peer_certificates, SystemTime::now()).map(Some)
    }

    /// Our chain, our own certificate first. Empty if we have none to show.
    pub fn own_certificates(&self) -> &[Certificate] {
        &self.own
    }

    /// The roots that peers must chain to.
    pub fn roots(&self) -> &[Certificate] {
        &self.roots
    }

    /// When the first certificate of our chain ends to be valid. `None` if we have none to show.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.own.iter().map(Certificate::not_after).min()
    }

    /// When its connections are to end; `None` where they end when they like.
    pub(in crate::tls) fn retirement(&self) -> Option<&Retirement> {
        self.retirement.as_ref()
    }

    /// Another set is in its place.
    pub(super) fn retire(&self) {
        if let Some(retirement) = &self.retirement {
            retirement.begin();
        }
    }

    /// Whether it was made of `contents`.
    pub(super) fn is_of(&self, contents: &Contents<'_>) -> bool {
        contents.fingerprints() == [self.own_contents, self.trust_contents]
    }

    /// Checks a set. `previous` is the one that it follows.
    pub(super) fn new<S: Settings<Config = C>>(
        settings: &S,
        contents: &Contents<'_>,
        previous: Option<&Snapshot<C>>,
    ) -> Result<Snapshot<C>, Error> {
        let own = contents.own(SystemTime::now())?;
        let judge = contents.judge(S::PEERS)?;
        let (peers, roots) = judge.map(|judge| (judge.peers, judge.roots)).unzip();
        let [own_contents, trust_contents] = contents.fingerprints();
        let kept = previous.filter(|previous| previous.trust_contents == trust_contents);
        let (key, own) = own.map(|own| (own.key, own.chain)).unzip();
        let key = key.map(|key| Arc::new(SingleCertAndKey::from(key)));
        let kept = kept.map(|kept| &*kept.config);
        let config = settings.config(Parts { key, peers: peers.clone(), kept })?;
        Ok(Snapshot {
            config: Arc::new(config),
            peers,
            own: own.unwrap_or_default(),
            roots: roots.unwrap_or_default(),
            own_contents,
            trust_contents,
            retirement: settings.drain_after().map(Retirement::new),
        })
    }
}

impl<C> fmt::Debug for Snapshot<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("own", &self.own).finish_non_exhaustive()
    }
}

/// Settings of one of the two ends: [`ServerSettings`] and [`ClientSettings`]. Nobody else can
/// implement it.
pub trait Settings: Send + Sync + 'static {
    /// What rustls wants.
    type Config: Send + Sync + 'static;

    /// Which end the peers are.
    #[doc(hidden)]
    const PEERS: Side;

    /// What we show, if anything.
    fn own(&self) -> Option<&OwnCertificate>;

    /// Whose certificates peers must show, if any.
    fn trust(&self) -> Option<&Trust>;

    /// How long connections go on after their set was replaced; `None`: for as long as they like.
    fn drain_after(&self) -> Option<Duration>;

    #[doc(hidden)]
    fn config(&self, parts: Parts<'_, Self::Config>) -> Result<Self::Config, Error>;
}

/// What a configuration is made of, besides the settings.
pub struct Parts<'p, C> {
    key: Option<Arc<SingleCertAndKey>>,
    peers: Option<Arc<PeerVerifier>>,
    /// The configuration before, if its sessions may be resumed: only our certificate has changed.
    kept: Option<&'p C>,
}

impl Settings for ServerSettings {
    type Config = ServerConfig;

    const PEERS: Side = Side::Client;

    fn own(&self) -> Option<&OwnCertificate> {
        Some(&self.own)
    }

    fn trust(&self) -> Option<&Trust> {
        self.clients.as_ref()
    }

    fn drain_after(&self) -> Option<Duration> {
        self.drain_after
    }

    fn config(&self, parts: Parts<'_, ServerConfig>) -> Result<ServerConfig, Error> {
        let refuse = |why| Error::new(&self.own.certificate.name(), Problem::Configuration(why));
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&self.oldest_version.and_newer())
            .map_err(refuse)?;
        let builder = match parts.peers {
            Some(peers) => builder.with_client_cert_verifier(Arc::new(ClientVerifier::new(peers))),
            None => builder.with_no_client_auth(),
        };
        let key = parts.key.ok_or_else(|| refuse(rustls::Error::NoCertificatesPresented))?;
        let mut config = builder.with_cert_resolver(key);
        config.alpn_protocols.clone_from(&self.application_protocols);
        // Ours is by cost: see `provider`.
        config.ignore_client_order = true;
        config.enable_secret_extraction = true;
        // What a client needs to resume lies with the client, in its ticket.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        match (self.tickets, parts.kept) {
            (false, _) => config.send_tls13_tickets = 0,
            (true, Some(kept)) => config.ticketer = Arc::clone(&kept.ticketer),
            (true, None) => config.ticketer = ticketer().map_err(refuse)?,
        }
        Ok(config)
    }
}

impl Settings for ClientSettings {
    type Config = ClientConfig;

    const PEERS: Side = Side::Server;

    fn own(&self) -> Option<&OwnCertificate> {
        self.own.as_ref()
    }

    fn trust(&self) -> Option<&Trust> {
        Some(&self.servers)
    }

    fn drain_after(&self) -> Option<Duration> {
        self.drain_after
    }

    fn config(&self, parts: Parts<'_, ClientConfig>) -> Result<ClientConfig, Error> {
        let roots = self.servers.roots.first_name();
        let refuse = |why| Error::new(&roots, Problem::Configuration(why));
        let name = self.servers.peers.is_none();
        if name && self.server_name.is_none() {
            return Err(Error::new(&roots, Problem::NoName));
        }
        let peers = parts.peers.ok_or_else(|| refuse(rustls::Error::NoCertificatesPresented))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&self.oldest_version.and_newer())
            .map_err(refuse)?
            // Not weaker than rustls' own: see `verify`.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ServerVerifier { peers, name }));
        let mut config = match parts.key {
            Some(key) => builder.with_client_cert_resolver(key),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.application_protocols);
        config.enable_secret_extraction = true;
        config.enable_sni = self.server_name.is_some();
        config.resumption = match self.tickets {
            true => Resumption::in_memory_sessions(REMEMBERED_SERVERS),
            false => Resumption::disabled(),
        };
        Ok(config)
    }
}

/// The name to give to rustls. Where it is neither sent nor verified, one that cannot be.
pub(super) fn server_name(settings: &ClientSettings) -> ServerName<'static> {
    let nobody = || ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into());
    settings.server_name.clone().unwrap_or_else(nobody)
}

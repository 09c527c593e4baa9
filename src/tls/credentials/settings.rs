//! What to load, and how to use it.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustls::{SupportedProtocolVersion, pki_types::ServerName, version};
use zeroize::Zeroizing;

use super::pem::Pem;
use crate::tls::{
    Peers, TrustDomain,
    error::{Error, Problem},
};

/// How many bytes a file may have. The longest are the revocation lists of public authorities.
const LONGEST_FILE: u64 = 16 << 20;

/// Where PEM comes from.
#[derive(Clone, PartialEq, Eq)]
pub struct Source(Place);

#[derive(Clone, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Memory { name: Arc<str>, pem: Arc<Zeroizing<Vec<u8>>> },
}

impl Source {
    /// A file. It is read again at each look for changes, through whatever links are in its path
    /// then.
    pub fn file(path: impl Into<PathBuf>) -> Source {
        Source(Place::File(path.into()))
    }

    /// PEM in memory. `name` is what errors call it.
    pub fn memory(name: impl Into<Arc<str>>, pem: impl Into<Vec<u8>>) -> Source {
        Source(Place::Memory { name: name.into(), pem: Arc::new(Zeroizing::new(pem.into())) })
    }

    /// The path, or the name.
    pub fn name(&self) -> Cow<'_, str> {
        match &self.0 {
            Place::File(path) => path.to_string_lossy(),
            Place::Memory { name, .. } => Cow::Borrowed(name),
        }
    }

    /// All of it. What was read is overwritten when it is dropped: it may be a private key.
    pub(super) fn read(&self) -> Result<Pem<'_>, Error> {
        match &self.0 {
            Place::Memory { name, pem } => {
                Ok(Pem { name: Cow::Borrowed(name), bytes: Arc::clone(pem) })
            }
            Place::File(path) => {
                let refuse = |problem| Err(Error::new(&self.name(), problem));
                match File::open(path).and_then(|file| read_once(&file)) {
                    Err(error) => refuse(Problem::Read(error)),
                    Ok(bytes) if bytes.len() as u64 > LONGEST_FILE => {
                        refuse(Problem::TooLong { limit: LONGEST_FILE })
                    }
                    Ok(bytes) => Ok(Pem { name: self.name(), bytes: Arc::new(bytes) }),
                }
            }
        }
    }
}

/// Reads a file, into a buffer that need not grow: growing would leave copies behind.
fn read_once(file: &File) -> io::Result<Zeroizing<Vec<u8>>> {
    let size = file.metadata()?.len().min(LONGEST_FILE);
    // One more, to see the end.
    let mut bytes = Zeroizing::new(Vec::with_capacity(size as usize + 1));
    file.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Never what is in it.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({:?})", self.name())
    }
}

impl<P: Into<PathBuf>> From<P> for Source {
    fn from(path: P) -> Source {
        Source::file(path)
    }
}

/// What we show of ourselves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnCertificate {
    /// Our certificate, and behind it those by which it was issued, each by the next. The root may
    /// be left out.
    pub certificate: Source,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1, without a password.
    pub key: Source,
}

/// Whom peers must be vouched for by, and which of them are allowed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trust {
    /// The roots.
    pub roots: RootSources,
    /// Revocation lists, any number in each source. A peer that is on one, or whose issuer is, is
    /// refused. A list counts however old it is, and an issuer without a list may issue.
    pub revocation_lists: Vec<Source>,
    /// The peers that are allowed. `None`: any that chain to the roots.
    pub peers: Option<Peers>,
}

impl Trust {
    /// Trusts whoever chains to the roots in `source`.
    pub fn any(source: impl Into<Source>) -> Trust {
        let roots = RootSources::Any(source.into());
        Trust { roots, revocation_lists: Vec::new(), peers: None }
    }

    /// And is one of `peers`.
    pub fn peers(mut self, peers: Peers) -> Trust {
        self.peers = Some(peers);
        self
    }
}

/// Where the roots are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RootSources {
    /// Roots for anybody.
    Any(Source),
    /// Each for the SPIFFE ids of its trust domain, and for nobody without one.
    ByTrustDomain(BTreeMap<TrustDomain, Source>),
}

impl RootSources {
    /// What an error about all of them names.
    pub(super) fn first_name(&self) -> String {
        let source = match self {
            RootSources::Any(source) => Some(source),
            RootSources::ByTrustDomain(sources) => sources.values().next(),
        };
        source.map_or_else(|| "roots".to_owned(), |source| source.name().into_owned())
    }
}

/// How to be a server.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ServerSettings {
    /// What we show.
    pub own: OwnCertificate,
    /// Whose certificates clients must show. `None`: they are asked for none.
    pub clients: Option<Trust>,
    /// The application protocols that we offer, the best first. None: it is left open which is
    /// spoken.
    pub application_protocols: Vec<Vec<u8>>,
    /// Whether clients may resume a session: yes, if not said otherwise.
    pub tickets: bool,
    /// The oldest version that is spoken: TLS 1.2, if not said otherwise.
    pub oldest_version: Version,
    /// How long connections go on after the certificate, the key, the roots or a revocation list that
    /// they were made with was replaced, and up to a tenth of that longer, so that not all peers come
    /// back at once. `None`, if not said otherwise: for as long as they like.
    ///
    /// A connection of HTTP ends with its next answer, or without one if it is idle. A relayed
    /// one ends in order as soon as nothing moves for a second; where something always does, it is
    /// reset once this time has passed again.
    pub drain_after: Option<Duration>,
}

impl ServerSettings {
    /// Shows `own`, and asks clients for nothing.
    pub fn new(own: OwnCertificate) -> ServerSettings {
        ServerSettings {
            own,
            clients: None,
            application_protocols: Vec::new(),
            tickets: true,
            oldest_version: Version::Tls12,
            drain_after: None,
        }
    }
}

/// How to be a client.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ClientSettings {
    /// What we show to a server that asks.
    pub own: Option<OwnCertificate>,
    /// Whose certificates servers must show.
    pub servers: Trust,
    /// The DNS name or address of the server. A name is sent as the SNI. The server's certificate
    /// must be for it, unless `servers` says which peers are allowed: then it only serves as SNI, and
    /// may be left out.
    pub server_name: Option<ServerName<'static>>,
    /// The application protocols that we ask for, the best first.
    pub application_protocols: Vec<Vec<u8>>,
    /// Whether sessions are resumed: yes, if not said otherwise.
    pub tickets: bool,
    /// The oldest version that is spoken: TLS 1.2, if not said otherwise.
    pub oldest_version: Version,
    /// As [`ServerSettings::drain_after`]. Of connections of HTTP, those that were made with what was
    /// replaced carry no other request from then on; the time is for relayed ones.
    pub drain_after: Option<Duration>,
}

impl ClientSettings {
    /// Trusts `servers`, and shows nothing.
    pub fn new(servers: Trust) -> ClientSettings {
        ClientSettings {
            own: None,
            servers,
            server_name: None,
            application_protocols: Vec::new(),
            tickets: true,
            oldest_version: Version::Tls12,
            drain_after: None,
        }
    }
}

/// A version of TLS. There is none older here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl Version {
    /// It, and all that are newer.
    pub(super) fn and_newer(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Version::Tls12 => vec![&version::TLS13, &version::TLS12],
            Version::Tls13 => vec![&version::TLS13],
        }
    }
}

//! The certificates, keys, roots and revocation lists of one listener or one cluster.
//!
//! Settings say which, and they are read, checked as a whole, and made into a [`Snapshot`]: the
//! configuration for rustls, and what judges peers. Shards take the current snapshot for each
//! handshake; a reload puts another in its place in one step, for new handshakes. A set that does
//! not pass is refused, and the snapshot before it stays.
//!
//! All shards share a snapshot, and with it the keys of the session tickets, so that a session is
//! resumed wherever its next connection lands. No two listeners or clusters share one: a session
//! that was begun where no client certificate is asked for must not be resumed where one is
//! (CVE-2025-23419). For the same reason, a listener has new ticket keys as soon as its roots or
//! revocation lists change, and keeps them if only its own certificate does. A cluster forgets its
//! sessions with any change.

mod contents;
mod metrics;
mod pem;
mod retirement;
mod settings;
mod snapshot;
mod watch;

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use rustls::pki_types::ServerName;

use self::contents::Contents;
pub(super) use self::retirement::{Place, Retirement};
pub use self::{
    settings::{
        ClientSettings, OwnCertificate, RootSources, ServerSettings, Source, Trust, Version,
    },
    snapshot::{ClientSnapshot, ServerSnapshot, Settings, Snapshot},
    watch::Watch,
};
use super::{error::Error, provider::sha256};

/// What a listener is a TLS server with. Cloning is cheap, and clones are the same.
pub type ServerCredentials = Credentials<ServerSettings>;
/// What a cluster is a TLS client with. Cloning is cheap, and clones are the same.
pub type ClientCredentials = Credentials<ClientSettings>;

/// What one end of a connection is made with: see [`ServerCredentials`] and [`ClientCredentials`].
pub struct Credentials<S: Settings>(Arc<Shared<S>>);

struct Shared<S: Settings> {
    name: Box<str>,
    settings: S,
    current: ArcSwap<Snapshot<S::Config>>,
    /// Held while a set is read and checked: one at a time.
    refused: Mutex<Option<Fingerprint>>,
    counts: Arc<Counts>,
}

/// They may outlive their credentials: a count of all reloads never goes down.
#[derive(Default)]
struct Counts {
    replaced: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    fn read(&self) -> Reloads {
        Reloads { replaced: self.replaced.load(Relaxed), failed: self.failed.load(Relaxed) }
    }
}

/// What tells one refused set from another.
type Fingerprint = [u8; 32];

/// What a reload did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reloaded {
    /// Nothing has changed.
    Unchanged,
    /// New handshakes use a new set.
    Replaced,
}

/// How many reloads there have been, since the credentials were loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reloads {
    /// With a new set as their result.
    pub replaced: u64,
    /// Refused, each set counted once.
    pub failed: u64,
}

impl<S: Settings> Credentials<S> {
    /// Reads and checks a set. `name` is what the log calls it: the listener or the cluster.
    ///
    /// It reads files, and blocks meanwhile.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it.
    pub fn load(name: impl Into<Box<str>>, settings: S) -> Result<Credentials<S>, Error> {
        let contents = Contents::read(&settings)?;
        let current = ArcSwap::from_pointee(Snapshot::new(&settings, &contents, None)?);
        Ok(Credentials(Arc::new(Shared {
            name: name.into(),
            settings,
            current,
            refused: Mutex::new(None),
            counts: Arc::default(),
        })))
    }

    /// The set for the next handshake. A handshake, and the judgement after it, must use the same.
    pub fn current(&self) -> Arc<Snapshot<S::Config>> {
        self.0.current.load_full()
    }

    /// Looks for changes at once. See [`Watch`] for looking now and then.
    ///
    /// It reads files, and blocks meanwhile.
    ///
    /// # Errors
    ///
    /// What is wrong with the new set. The one before stays.
    pub fn reload(&self) -> Result<Reloaded, Error> {
        self.0.reload()
    }

    /// Says that others have taken the place of these for good: the connections that were made with
    /// them end as after a reload, where the settings say so.
    pub fn retire(&self) {
        self.current().retire();
    }

    /// How many reloads there have been.
    pub fn reloads(&self) -> Reloads {
        self.0.counts.read()
    }

    /// The listener or the cluster that they are for.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What they were loaded from.
    pub fn settings(&self) -> &S {
        &self.0.settings
    }
}

impl ClientCredentials {
    /// The name to give to rustls for a connection.
    pub fn server_name(&self) -> ServerName<'static> {
        snapshot::server_name(&self.0.settings)
    }
}

impl<S: Settings> Shared<S> {
    fn reload(&self) -> Result<Reloaded, Error> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current.load();
        let (fingerprint, next) = match Contents::read(&self.settings) {
            Err(error) => (sha256(error.to_string().as_bytes()), Err(error)),
            Ok(contents) if current.is_of(&contents) => {
                *refused = None;
                return Ok(Reloaded::Unchanged);
            }
            Ok(contents) => {
                let next = Snapshot::new(&self.settings, &contents, Some(&current));
                (sha256(&contents.fingerprints().concat()), next)
            }
        };
        match next {
            Ok(next) => {
                self.current.store(Arc::new(next));
                current.retire();
                self.counts.replaced.fetch_add(1, Relaxed);
                *refused = None;
                tracing::info!(name = &*self.name, "certificates replaced");
                Ok(Reloaded::Replaced)
            }
            Err(error) => {
                // The same set is looked at again and again until it is mended, or until its time
                // has come.
                if refused.replace(fingerprint) != Some(fingerprint) {
                    self.counts.failed.fetch_add(1, Relaxed);
                    tracing::error!(
                        name = &*self.name,
                        %error,
                        "new certificates refused, those before stay in use"
                    );
                }
                Err(error)
            }
        }
    }
}

/// Only clones are equal.
impl<S: Settings> PartialEq for Credentials<S> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<S: Settings> Eq for Credentials<S> {}

impl<S: Settings> Clone for Credentials<S> {
    fn clone(&self) -> Self {
        Credentials(Arc::clone(&self.0))
    }
}

impl<S: Settings> fmt::Debug for Credentials<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("name", &self.0.name).finish_non_exhaustive()
    }
}

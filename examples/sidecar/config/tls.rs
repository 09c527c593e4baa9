//! From TLS as it is written to TLS as the library takes it.
//!
//! In: one section, each value of which has been read. Out: settings, which the library checks with the
//! files that they name when it loads them.

use evenkeel::tls::{
    Peers,
    credentials::{ClientSettings, OwnCertificate, RootSources, ServerSettings, Source, Trust},
};
use rustls::pki_types::ServerName;

use super::{route::Unusable, schema};

impl schema::Terminated {
    /// The same for the library.
    ///
    /// # Errors
    /// Never for a section of a configuration that was checked.
    pub(crate) fn settings(&self) -> Result<ServerSettings, Unusable> {
        let mut settings = ServerSettings::new(own(&self.own));
        settings.clients = self.clients.as_ref().map(trust).transpose()?;
        settings.application_protocols = protocols(&self.alpn);
        settings.drain_after = self.drain_after;
        Ok(settings)
    }
}

impl schema::ClusterTls {
    /// The same for the library.
    ///
    /// # Errors
    /// Never for a section of a configuration that was checked.
    pub(crate) fn settings(&self) -> Result<ClientSettings, Unusable> {
        let mut settings = ClientSettings::new(trust(&self.servers)?);
        settings.own = self.own.as_ref().map(own);
        settings.server_name = match &self.sni {
            Some(name) => Some(ServerName::try_from(name.clone()).map_err(|_| Unusable)?),
            None => None,
        };
        settings.application_protocols = protocols(&self.alpn);
        settings.drain_after = self.drain_after;
        Ok(settings)
    }
}

fn own(own: &schema::Own) -> OwnCertificate {
    OwnCertificate { certificate: Source::file(&own.certificate), key: Source::file(&own.key) }
}

fn trust(trust: &schema::Trust) -> Result<Trust, Unusable> {
    let roots = match &trust.roots {
        schema::Roots::Any(path) => RootSources::Any(Source::file(path)),
        schema::Roots::ByTrustDomain(paths) => {
            let source = |(name, path): (&String, _)| {
                Ok((name.parse().map_err(|_| Unusable)?, Source::file(path)))
            };
            RootSources::ByTrustDomain(paths.iter().map(source).collect::<Result<_, _>>()?)
        }
    };
    let peers = match &trust.peers {
        Some(peers) => Some(Peers::parse(peers).map_err(|_| Unusable)?),
        None => None,
    };
    Ok(Trust { roots, revocation_lists: trust.crl.iter().map(Source::file).collect(), peers })
}

fn protocols(alpn: &[String]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.clone().into_bytes()).collect()
}

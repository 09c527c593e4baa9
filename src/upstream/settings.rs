//! What a cluster is told: its endpoints, how one is chosen, and what it may cost.
//!
//! *In:* setters, by an embedder or from a configuration. *Out:* [`ClusterSettings`], which are
//! checked: whatever takes them need not look for contradictions. *Never:* resolves a name.

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use super::{
    connect::{ConnectOptions, Source},
    health::HealthCheck,
    limits::Limits,
    outlier::Outlier,
    retry::{RetryBudget, RetryPolicy},
};
use crate::sys::dial::Keepalive;

/// The most that an endpoint can weigh, so that sums of weights stay far from overflow.
pub const HEAVIEST: u32 = 1_000_000;

/// How an endpoint is chosen for a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// Of two endpoints, drawn by their weights, the one with fewer requests in flight for its
    /// weight.
    #[default]
    LeastRequest,
    /// One after the other, smoothly by their weights, each shard for itself.
    RoundRobin,
    /// Drawn by their weights.
    Random,
    /// The same one for the same value of this header, for as long as it is there; drawn by weight
    /// where a request has no such header.
    Hash {
        /// The header's name, in any case.
        header: Arc<str>,
    },
}

/// Where an endpoint is: an address, or a name that stands for any number of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// An address.
    Socket(SocketAddr),
    /// A name, resolved again and again for as long as a cluster has it. Every address that it
    /// stands for is an endpoint, with the weight that the name has.
    Name {
        /// The host's name, in lower case. With a dot at its end the search list of resolv.conf(5)
        /// is left out.
        host: Arc<str>,
        /// The port, which is the same for all of its addresses.
        port: u16,
    },
}

impl EndpointAddress {
    /// `host:port`, as a `Host` header has it.
    pub(super) fn authority(&self) -> Arc<str> {
        match self {
            EndpointAddress::Socket(address) => address.to_string().into(),
            EndpointAddress::Name { host, port } => {
                format!("{}:{port}", host.trim_end_matches('.')).into()
            }
        }
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndpointAddress::Socket(address) => address.fmt(f),
            EndpointAddress::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl FromStr for EndpointAddress {
    type Err = EndpointAddressError;

    /// `ip:port`, `[ipv6]:port` or `name:port`. The port is not 0.
    fn from_str(text: &str) -> Result<EndpointAddress, EndpointAddressError> {
        let refused = |why| EndpointAddressError { text: text.to_owned(), why };
        if let Ok(address) = text.parse::<SocketAddr>() {
            return match address.port() {
                0 => Err(refused("port 0 cannot be connected to")),
                _ => Ok(EndpointAddress::Socket(address)),
            };
        }
        let (host, port) =
            text.rsplit_once(':').ok_or_else(|| refused("a port is missing: write host:port"))?;
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse() {
            Ok(0) => Err(refused("port 0 cannot be connected to")),
            Ok(port) if digits => {
                check_host(host).map_err(refused)?;
                Ok(EndpointAddress::Name { host: host.to_ascii_lowercase().into(), port })
            }
            _ => Err(refused("the port is a number from 1 to 65535")),
        }
    }
}

/// Checks a host's name by RFC 1123, section 2.1, and RFC 1035, section 2.3.4. Underscores, which
/// names of services have, are let pass.
fn check_host(host: &str) -> Result<(), &'static str> {
    let labels = host.strip_suffix('.').unwrap_or(host);
    if labels.len() > 253 {
        return Err("a name has at most 253 characters");
    }
    for label in labels.split('.') {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !(1..=63).contains(&label.len()) {
            return Err("the parts of a name have 1 to 63 characters");
        }
        if !label.bytes().all(legal) || label.starts_with('-') || label.ends_with('-') {
            return Err("the parts of a name are letters, digits, and hyphens between them");
        }
    }
    let last = labels.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("the last part of a name is not a number: if this is an IPv4 address, it has \
                    four parts of at most 255");
    }
    Ok(())
}

/// A text that is no address of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointAddressError {
    text: String,
    why: &'static str,
}

impl fmt::Display for EndpointAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no endpoint: {}", self.text, self.why)
    }
}

impl std::error::Error for EndpointAddressError {}

/// One endpoint as it was configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EndpointSettings {
    pub(super) address: EndpointAddress,
    pub(super) weight: u32,
}

/// The checked description of a cluster. Cheap to share, never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    pub(super) name: Arc<str>,
    pub(super) endpoints: Vec<EndpointSettings>,
    pub(super) policy: Policy,
    pub(super) limits: Limits,
    pub(super) outlier: Option<Outlier>,
    pub(super) retry: Option<RetryPolicy>,
    pub(super) retry_budget: Option<RetryBudget>,
    pub(super) health: Option<HealthCheck>,
    pub(super) connect: ConnectOptions,
    pub(super) pool_idle: Option<Duration>,
}

impl ClusterSettings {
    /// A cluster with these endpoints, all else at its default: see the setters.
    pub fn builder(name: &str) -> ClusterBuilder {
        ClusterBuilder {
            settings: ClusterSettings {
                name: name.into(),
                endpoints: Vec::new(),
                policy: Policy::default(),
                limits: Limits::default(),
                outlier: None,
                retry: None,
                retry_budget: None,
                health: None,
                connect: ConnectOptions::default(),
                pool_idle: Some(Duration::from_secs(4)),
            },
            may_be_empty: false,
            mistake: None,
        }
    }

    /// A cluster without endpoints: whoever uses it knows the address of each request, as the
    /// original destination. Limits, timeouts and retries hold as for any other.
    pub fn original_destination(name: &str) -> ClusterBuilder {
        ClusterBuilder { may_be_empty: true, ..ClusterSettings::builder(name) }
    }

    /// What the cluster is called in routes, metrics and logs.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How an endpoint is chosen.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How many connections and requests may be there at a time.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// When endpoints that fail are left out; `None`: never.
    pub fn outlier(&self) -> Option<&Outlier> {
        self.outlier.as_ref()
    }

    /// What is retried unless a route says otherwise; `None`: nothing.
    pub fn retry(&self) -> Option<&RetryPolicy> {
        self.retry.as_ref()
    }

    /// How many retries there may be beside requests; `None`: that is left to the limit of retries.
    pub fn retry_budget(&self) -> Option<RetryBudget> {
        self.retry_budget
    }

    /// How endpoints are asked whether they are well; `None`: they are not asked.
    pub fn health(&self) -> Option<&HealthCheck> {
        self.health.as_ref()
    }

    /// How connections are made.
    pub fn connect_options(&self) -> &ConnectOptions {
        &self.connect
    }

    /// How long an upstream connection may be idle in a pool; `None`: without end.
    pub fn pool_idle(&self) -> Option<Duration> {
        self.pool_idle
    }

    /// The names among the endpoints, each once.
    pub fn host_names(&self) -> impl Iterator<Item = &Arc<str>> {
        let mut seen = HashSet::new();
        self.endpoints.iter().filter_map(move |endpoint| match &endpoint.address {
            EndpointAddress::Name { host, .. } => seen.insert(host).then_some(host),
            EndpointAddress::Socket(_) => None,
        })
    }
}

/// Makes [`ClusterSettings`]. A mistake is kept, and said by [`ClusterBuilder::build`].
#[derive(Clone, Debug)]
#[must_use = "build it"]
pub struct ClusterBuilder {
    settings: ClusterSettings,
    may_be_empty: bool,
    mistake: Option<String>,
}

impl ClusterBuilder {
    /// Adds an endpoint, `ip:port` or `name:port`, of weight 1.
    pub fn endpoint(self, address: &str) -> ClusterBuilder {
        self.weighted_endpoint(address, 1)
    }

    /// Adds an endpoint with its weight: 1 to [`HEAVIEST`].
    pub fn weighted_endpoint(mut self, address: &str, weight: u32) -> ClusterBuilder {
        if !(1..=HEAVIEST).contains(&weight) {
            self.mistake.get_or_insert(format!(
                "the endpoint {address:?} has the weight {weight}: weights are from 1 to {HEAVIEST}"
            ));
        }
        match address.parse() {
            Ok(address) => self.settings.endpoints.push(EndpointSettings { address, weight }),
            Err(error) => {
                self.mistake.get_or_insert(format!("{error}"));
            }
        }
        self
    }

    /// How an endpoint is chosen. Default: [`Policy::LeastRequest`].
    pub fn policy(mut self, policy: Policy) -> ClusterBuilder {
        self.settings.policy = policy;
        self
    }

    /// Limits over all shards together. Default: none.
    pub fn limits(mut self, limits: Limits) -> ClusterBuilder {
        self.settings.limits = limits;
        self
    }

    /// Leaves out endpoints that fail. Default: no.
    pub fn outlier(mut self, outlier: Option<Outlier>) -> ClusterBuilder {
        self.settings.outlier = outlier;
        self
    }

    /// What is retried unless a route says otherwise. Default: nothing.
    pub fn retry(mut self, retry: Option<RetryPolicy>) -> ClusterBuilder {
        self.settings.retry = retry;
        self
    }

    /// Bounds retries by a share of the requests under way. Default: no.
    pub fn retry_budget(mut self, budget: Option<RetryBudget>) -> ClusterBuilder {
        self.settings.retry_budget = budget;
        self
    }

    /// Asks endpoints whether they are well. Default: no.
    pub fn health(mut self, health: Option<HealthCheck>) -> ClusterBuilder {
        self.settings.health = health;
        self
    }

    /// How long an upstream connection may be idle in a pool. It should be less than what the
    /// servers allow, which is 5 s for many, so that a request seldom meets a connection that is
    /// being closed. `None`: without end. Default: 4 s.
    pub fn pool_idle(mut self, idle: Option<Duration>) -> ClusterBuilder {
        self.settings.pool_idle = idle;
        self
    }

    /// How long connecting may take; `None` leaves it to the kernel. Default: 5 s.
    pub fn connect_timeout(mut self, timeout: Option<Duration>) -> ClusterBuilder {
        self.settings.connect.timeout = timeout;
        self
    }

    /// Connects from this address of the host, for endpoints of its family.
    pub fn source(mut self, address: IpAddr) -> ClusterBuilder {
        self.settings.connect.set_source(address);
        self
    }

    /// Connects from the client's own address, which needs CAP_NET_ADMIN and rules that bring the
    /// answers back. Such connections serve one client only.
    pub fn transparent_source(mut self) -> ClusterBuilder {
        self.settings.connect.source = Source::Client;
        self
    }

    /// Sets SO_MARK on upstream sockets; needs CAP_NET_ADMIN.
    pub fn mark(mut self, mark: u32) -> ClusterBuilder {
        self.settings.connect.mark = Some(mark);
        self
    }

    /// Speaks TLS on upstream connections, those of health checks included. The time to connect covers
    /// the handshake.
    #[cfg(feature = "__tls")]
    pub fn tls(mut self, credentials: crate::tls::ClientCredentials) -> ClusterBuilder {
        self.settings.connect.tls = Some(credentials);
        self
    }

    /// TCP keepalive on upstream connections; `None` switches it off. Default: the first probe after
    /// 180 s without a sign of life, then as the host has it: 9 more, 75 s apart, by default.
    pub fn keepalive(mut self, idle: Option<Duration>) -> ClusterBuilder {
        let keepalive = idle.map(|idle| Keepalive { idle });
        self.settings.connect.keepalive = keepalive;
        self
    }

    /// The settings.
    ///
    /// # Errors
    /// The first mistake in them: an endpoint that is none, a weight out of range, an endpoint
    /// twice, no endpoint at all, or a number that cannot work.
    pub fn build(self) -> Result<ClusterSettings, ClusterError> {
        let ClusterBuilder { settings, may_be_empty, mistake } = self;
        let refused = |why: String| ClusterError { cluster: Arc::clone(&settings.name), why };
        if let Some(mistake) = mistake {
            return Err(refused(mistake));
        }
        if settings.endpoints.is_empty() && !may_be_empty {
            return Err(refused("it needs an endpoint".to_owned()));
        }
        let mut seen = HashSet::new();
        for EndpointSettings { address, .. } in &settings.endpoints {
            if !seen.insert(address) {
                return Err(refused(format!("the endpoint {address} is there twice")));
            }
        }
        let parts = [
            settings.outlier.as_ref().map_or(Ok(()), Outlier::check),
            settings.retry.as_ref().map_or(Ok(()), RetryPolicy::check),
            settings.health.as_ref().map_or(Ok(()), HealthCheck::check),
        ];
        for part in parts {
            part.map_err(|why| refused(why.to_owned()))?;
        }
        Ok(settings)
    }
}

/// A cluster that cannot be as it is described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterError {
    cluster: Arc<str>,
    why: String,
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the cluster {:?}: {}", self.cluster, self.why)
    }
}

impl std::error::Error for ClusterError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_addresses_or_names() {
        let address = |text: &str| text.parse::<EndpointAddress>();
        let name = |host: &str, port| EndpointAddress::Name { host: host.into(), port };
        assert_eq!(
            address("10.0.0.1:80"),
            Ok(EndpointAddress::Socket("10.0.0.1:80".parse().unwrap()))
        );
        assert_eq!(
            address("[fd00::1]:80"),
            Ok(EndpointAddress::Socket("[fd00::1]:80".parse().unwrap()))
        );
        assert_eq!(address("B.Example:8080"), Ok(name("b.example", 8080)));
        assert_eq!(address("web_1.default.svc.:80"), Ok(name("web_1.default.svc.", 80)));
        assert_eq!(&*name("b.example.", 80).authority(), "b.example:80");
        for wrong in [
            "",
            ":",
            ":80",
            "b.example",
            "b.example:",
            "b.example:0",
            "b.example:+80",
            "b.example:65536",
            "b..example:80",
            ".:80",
            "-b.example:80",
            "b example:80",
            "1.2.3:80",
            "300.1.1.1:80",
            "10.0.0.1:0",
            "[::1:80",
            "fd00::1:80",
        ] {
            assert!(address(wrong).is_err(), "{wrong:?}: {:?}", address(wrong));
        }
        let long = format!("{}.example:80", "a".repeat(64));
        assert!(address(&long).is_err());
    }

    #[test]
    fn contradictions_are_refused_with_the_clusters_name() {
        let refused = |builder: ClusterBuilder| builder.build().unwrap_err().to_string();
        let cluster = || ClusterSettings::builder("reviews");
        assert_eq!(refused(cluster()), r#"the cluster "reviews": it needs an endpoint"#);
        let twice = cluster().endpoint("a.example:80").endpoint("A.example:80");
        assert!(refused(twice).contains("a.example:80 is there twice"));
        assert!(refused(cluster().weighted_endpoint("10.0.0.1:80", 0)).contains("weight 0"));
        assert!(refused(cluster().endpoint("nonsense")).contains("nonsense"));
        assert!(ClusterSettings::original_destination("passthrough").build().is_ok());
        let names = cluster().endpoint("a.example:80").endpoint("a.example:81").build().unwrap();
        assert_eq!(names.host_names().map(|host| &**host).collect::<Vec<_>>(), ["a.example"]);
    }
}

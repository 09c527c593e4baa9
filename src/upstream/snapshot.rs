//! A cluster as it is at one moment: its settings, and the endpoints that they come to.
//!
//! *In:* settings, and the addresses of the names in them. *Out:* one immutable value, which shards
//! choose from. Only the bits that say which endpoints are available change in it; a change of
//! anything else is another snapshot. *Never:* forgets what is known of an endpoint that stays.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{
    endpoint::{Availability, Endpoint, EndpointId, Tally},
    pick::{self, Sampler},
    settings::{ClusterSettings, EndpointAddress, EndpointSettings, Policy},
};

/// Addresses of host names, as last heard.
pub(super) type Addresses = HashMap<Arc<str>, Arc<[IpAddr]>>;

/// What requests are spread over.
#[derive(Debug)]
pub struct Snapshot {
    pub(super) settings: Arc<ClusterSettings>,
    /// Names the cluster where a connection leads to an address that is no endpoint of it.
    pub(super) elsewhere: EndpointId,
    pub(super) endpoints: Box<[Arc<Endpoint>]>,
    pub(super) available: Availability,
    pub(super) sampler: Sampler,
    /// What each endpoint puts into consistent hashing.
    pub(super) seeds: Box<[u64]>,
}

impl Snapshot {
    /// The endpoints of `settings`. What is known of one that `before` has too is kept.
    pub(super) fn new(
        settings: Arc<ClusterSettings>,
        addresses: &Addresses,
        before: Option<&Snapshot>,
    ) -> Snapshot {
        let mut known: HashMap<(&str, SocketAddr), &Arc<Endpoint>> = HashMap::new();
        for endpoint in before.iter().flat_map(|before| before.endpoints.iter()) {
            known.insert((&endpoint.authority, endpoint.address), endpoint);
        }
        let same_connections =
            before.is_some_and(|before| before.settings.connect == settings.connect);
        let mut endpoints = Vec::new();
        for configured in &settings.endpoints {
            let authority = configured.address.authority();
            for address in resolved(configured, addresses) {
                let before = known.get(&(&*authority, address)).copied();
                endpoints.push(endpoint(configured, &authority, address, before, same_connections));
            }
        }
        let elsewhere = match before {
            Some(before) if same_connections => before.elsewhere,
            _ => EndpointId::next(),
        };
        let sampler = Sampler::new(endpoints.iter().map(|endpoint| endpoint.weight));
        let available = Availability::new(endpoints.len());
        let seeds = endpoints.iter().map(|endpoint| pick::seed(endpoint.address)).collect();
        Snapshot { settings, elsewhere, endpoints: endpoints.into(), available, sampler, seeds }
    }

    /// The settings that it was made from.
    pub fn settings(&self) -> &Arc<ClusterSettings> {
        &self.settings
    }

    /// All endpoints, available or not.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// The addresses of all endpoints as they stand in the settings, those of a name in the order in
    /// which they were heard. The ones that are ejected or unwell come last.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let of = |available: bool| {
            let endpoints = self.endpoints.iter().enumerate();
            let chosen =
                endpoints.filter(move |(index, _)| self.available.get(*index) == available);
            chosen.map(|(_, endpoint)| endpoint.address)
        };
        of(true).chain(of(false)).collect()
    }

    pub(super) fn position(&self, id: EndpointId) -> Option<usize> {
        self.endpoints.iter().position(|endpoint| endpoint.id == id)
    }

    /// Whether requests in flight are counted.
    pub(super) fn counts_requests(&self) -> bool {
        self.settings.policy == Policy::LeastRequest
    }
}

/// The addresses of a configured endpoint, each once.
fn resolved(configured: &EndpointSettings, addresses: &Addresses) -> Vec<SocketAddr> {
    match &configured.address {
        EndpointAddress::Socket(address) => vec![*address],
        EndpointAddress::Name { host, port } => {
            let mut seen = HashSet::new();
            let addresses = addresses.get(host).map_or(&[][..], |addresses| &addresses[..]);
            let each_once = addresses.iter().filter(|address| seen.insert(**address));
            each_once.map(|address| SocketAddr::new(*address, *port)).collect()
        }
    }
}

fn endpoint(
    configured: &EndpointSettings,
    authority: &Arc<str>,
    address: SocketAddr,
    before: Option<&Arc<Endpoint>>,
    same_connections: bool,
) -> Arc<Endpoint> {
    let weight = configured.weight;
    match before {
        Some(before) if same_connections && before.weight == weight => Arc::clone(before),
        before => Arc::new(Endpoint {
            id: match before {
                Some(before) if same_connections => before.id,
                _ => EndpointId::next(),
            },
            address,
            authority: Arc::clone(authority),
            weight,
            tally: before.map_or_else(|| Arc::new(Tally::default()), |it| Arc::clone(&it.tally)),
        }),
    }
}

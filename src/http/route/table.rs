//! The table: routes by host and path.
//!
//! *In:* [`RouteSpec`]s, then requests. *Out:* routes, borrowed. *Owns:* all of them. *Never:*
//! changes once it is built; a reload builds another one.
//!
//! # How it is laid out
//! A map from exact names, one from suffixes, and what is for all hosts; behind each the ports that
//! its patterns name, and behind each port a map from exact paths and one from prefixes. At the end
//! stand the positions of routes which differ in method and header fields only, in the order in
//! which they are to be tried: they were put in in that order.
//!
//! The hashes are not keyed against collisions: a client chooses what is looked up, but not what is
//! in the maps.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use ::http::{HeaderName, HeaderValue, Method};

use super::{
    Action, Route, RouteSpec,
    error::RouteError,
    host::{HostPattern, NAME_MAX, NamePattern, request_host, suffixes},
    path::RequestPath,
    validate::{PathKey, check},
};

type Map<V> = HashMap<Box<[u8]>, V, foldhash::fast::FixedState>;

/// Routes, to be looked up. The default has none.
#[derive(Debug, Default)]
pub struct RouteTable {
    entries: Box<[Entry]>,
    clusters: Box<[Arc<str>]>,
    exact: Map<Host>,
    suffixes: Map<Host>,
    any: Host,
    /// The longest key of `suffixes`, in bytes.
    longest_suffix: usize,
}

/// A route, with what is left to be compared once host and path match.
#[derive(Debug)]
struct Entry {
    method: Option<Method>,
    headers: Box<[(HeaderName, HeaderValue)]>,
    route: Route,
}

/// What is there for a name.
#[derive(Debug, Default)]
struct Host {
    ports: Vec<(u16, Paths)>,
    any_port: Paths,
}

/// What is there for a name and port.
#[derive(Debug, Default)]
struct Paths {
    exact: Map<Candidates>,
    /// Without the slash at the end; so that of everything is empty, and is not here.
    prefixes: Map<Candidates>,
    everything: Candidates,
    /// The longest keys, in bytes.
    longest_exact: usize,
    longest_prefix: usize,
}

/// Positions in `entries`, in the order in which they are to be tried.
type Candidates = Vec<usize>;

/// What a request is matched by, beside the name of its host.
struct Request<'r, H> {
    method: &'r Method,
    port: Option<u16>,
    path: &'r [u8],
    header: H,
}

impl RouteTable {
    /// Builds a table. The order of `routes` decides between those that match alike.
    ///
    /// # Errors
    /// The first route that cannot be built.
    pub fn build(routes: Vec<RouteSpec>) -> Result<RouteTable, RouteError> {
        let mut checked = Vec::with_capacity(routes.len());
        for (position, spec) in routes.into_iter().enumerate() {
            let name = spec.route.name.clone();
            let route = check(spec);
            checked.push(route.map_err(|problem| RouteError { position, name, problem })?);
        }
        // A stable sort, so that the order of the list is what decides in the end.
        checked.sort_by_key(|route| (route.method.is_none(), Reverse(route.headers.len())));

        let mut table = RouteTable::default();
        let mut entries = Vec::with_capacity(checked.len());
        for route in checked {
            for host in route.hosts {
                table.paths_mut(host).insert(&route.path, entries.len());
            }
            entries.push(Entry {
                method: route.method,
                headers: route.headers.into(),
                route: route.route,
            });
        }
        table.clusters = number_clusters(&mut entries);
        table.entries = entries.into();
        Ok(table)
    }

    /// The route for a request; `None` if none matches.
    ///
    /// `authority` is the request's host, with or without a port; it may be empty. `header` gives
    /// the value of a field by its name in lower case; of a field with several lines, one of them.
    pub fn lookup<'v>(
        &self,
        method: &Method,
        authority: &str,
        path: &RequestPath<'_>,
        header: impl Fn(&str) -> Option<&'v [u8]>,
    ) -> Option<&Route> {
        let mut buffer = [0; NAME_MAX];
        let (name, port) = request_host(authority, &mut buffer);
        let request = Request { method, port, path: path.matched(), header };
        let exact = self.exact.get(name);
        exact
            .and_then(|host| self.find_for_host(host, &request))
            .or_else(|| self.find_for_suffix(name, &request))
            .or_else(|| self.find_for_host(&self.any, &request))
    }

    /// The names of all clusters that routes name, each once; [`Cluster::index`] is the position
    /// here.
    ///
    /// [`Cluster::index`]: super::Cluster::index
    pub fn clusters(&self) -> &[Arc<str>] {
        &self.clusters
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn find_for_suffix<'v, H>(&self, name: &[u8], request: &Request<'_, H>) -> Option<&Route>
    where
        H: Fn(&str) -> Option<&'v [u8]>,
    {
        if self.longest_suffix == 0 {
            return None;
        }
        suffixes(name)
            .filter(|suffix| suffix.len() <= self.longest_suffix)
            .filter_map(|suffix| self.suffixes.get(suffix))
            .find_map(|host| self.find_for_host(host, request))
    }

    fn find_for_host<'v, H>(&self, host: &Host, request: &Request<'_, H>) -> Option<&Route>
    where
        H: Fn(&str) -> Option<&'v [u8]>,
    {
        let for_port = match request.port {
            Some(port) => host.ports.iter().find(|(of, _)| *of == port),
            None => None,
        };
        for_port
            .and_then(|(_, paths)| self.find_for_path(paths, request))
            .or_else(|| self.find_for_path(&host.any_port, request))
    }

    fn find_for_path<'v, H>(&self, paths: &Paths, request: &Request<'_, H>) -> Option<&Route>
    where
        H: Fn(&str) -> Option<&'v [u8]>,
    {
        let path = request.path;
        if path.len() <= paths.longest_exact
            && let Some(candidates) = paths.exact.get(path)
            && let Some(route) = self.first_fit(candidates, request)
        {
            return Some(route);
        }
        prefixes(path, paths.longest_prefix)
            .filter_map(|prefix| paths.prefixes.get(prefix))
            .find_map(|candidates| self.first_fit(candidates, request))
            .or_else(|| self.first_fit(&paths.everything, request))
    }

    fn first_fit<'v, H>(&self, candidates: &[usize], request: &Request<'_, H>) -> Option<&Route>
    where
        H: Fn(&str) -> Option<&'v [u8]>,
    {
        let entries = candidates.iter().filter_map(|&candidate| self.entries.get(candidate));
        let mut fits = entries.filter(|entry| {
            entry.method.as_ref().is_none_or(|method| method == request.method)
                && entry
                    .headers
                    .iter()
                    .all(|(name, value)| (request.header)(name.as_str()) == Some(value.as_bytes()))
        });
        fits.next().map(|entry| &entry.route)
    }

    fn paths_mut(&mut self, pattern: HostPattern) -> &mut Paths {
        let host = match pattern.name {
            NamePattern::Exact(name) => self.exact.entry(name.into_bytes().into()).or_default(),
            NamePattern::Suffix(suffix) => {
                self.longest_suffix = self.longest_suffix.max(suffix.len());
                self.suffixes.entry(suffix.into_bytes().into()).or_default()
            }
            NamePattern::Any => &mut self.any,
        };
        match pattern.port {
            Some(port) => host.port_mut(port),
            None => &mut host.any_port,
        }
    }
}

impl Host {
    fn port_mut(&mut self, port: u16) -> &mut Paths {
        let known = self.ports.iter().position(|(of, _)| *of == port);
        let at = known.unwrap_or_else(|| {
            self.ports.push((port, Paths::default()));
            self.ports.len() - 1
        });
        &mut self.ports[at].1
    }
}

impl Paths {
    fn insert(&mut self, path: &PathKey, candidate: usize) {
        let candidates = match path {
            PathKey::Exact(path) => {
                self.longest_exact = self.longest_exact.max(path.len());
                self.exact.entry(path.clone()).or_default()
            }
            PathKey::Prefix(prefix) if prefix.is_empty() => &mut self.everything,
            PathKey::Prefix(prefix) => {
                self.longest_prefix = self.longest_prefix.max(prefix.len());
                self.prefixes.entry(prefix.clone()).or_default()
            }
        };
        candidates.push(candidate);
    }
}

/// The prefixes of a path by whole segments, without a slash at the end, from one of `longest` bytes
/// down; the empty one is left out.
fn prefixes(path: &[u8], longest: usize) -> impl Iterator<Item = &[u8]> {
    let whole = (path.len() <= longest && !path.ends_with(b"/")).then_some(path);
    let reach = path.len().min(longest.saturating_add(1));
    let slashes = (1..reach).rev().filter(|&at| path[at] == b'/');
    whole.into_iter().chain(slashes.map(|at| &path[..at]))
}

/// Gives each cluster that a route names its position among all of them, which are returned.
fn number_clusters(entries: &mut [Entry]) -> Box<[Arc<str>]> {
    let mut names: Vec<Arc<str>> = Vec::new();
    let mut numbers: HashMap<Arc<str>, usize> = HashMap::new();
    for entry in entries {
        let Action::Forward(clusters) = &mut entry.route.action else { continue };
        for cluster in clusters.iter_mut() {
            let number = *numbers.entry(Arc::clone(&cluster.name)).or_insert_with(|| {
                names.push(Arc::clone(&cluster.name));
                names.len() - 1
            });
            cluster.index = number;
            // One copy of each name.
            cluster.name = Arc::clone(&names[number]);
        }
    }
    names.into()
}

#[cfg(test)]
mod tests;

//! Routes: whose they are, where they lead, and whether the library takes them.

use std::collections::{BTreeMap, HashMap, HashSet};

use evenkeel::{
    Connection, ServiceFactory as _,
    http::route::{RouteProblem, RouteTable},
    shard::Shard,
    tls::ByServerName,
};

use super::Checks;
use crate::config::{
    build,
    draft::{ListenerDraft, RouteDraft},
    nearest::did_you_mean,
    problem::Span,
    schema::{PathRule, Protocol, Target},
};

impl Checks<'_, '_> {
    pub(super) fn routes(&mut self) {
        let draft = self.draft;
        let names: HashSet<_> = draft.clusters.iter().filter_map(|c| c.name.as_deref()).collect();
        for (index, route) in draft.routes.iter().enumerate() {
            self.route_listener(route);
            if self.is_by_server_name(route) {
                self.by_server_name(route, &names);
                continue;
            }
            for (name, at) in &route.action.clusters {
                self.route_cluster(name, at, &names);
            }
            if let Some(built) = build::route(route, index)
                && let Ok(spec) = built.spec()
                && let Err(error) = RouteTable::build(vec![spec])
            {
                let at = place(route, &error.problem);
                self.findings.error(at, error.problem.to_string());
            }
        }
        self.routes_that_match_alike();
    }

    fn route_listener(&mut self, route: &RouteDraft<'_>) {
        let section = &route.section;
        if !section.has("listener") {
            self.findings.error(section.span(), "a route needs a `listener`");
        }
        let Some(name) = &route.listener else { return };
        let listeners = &self.draft.listeners;
        let message = match listeners.iter().find(|it| it.name.as_deref() == Some(name)) {
            // A wrong protocol may have been meant to be HTTP.
            Some(listener) if listener.passes_tls_through() => return,
            Some(listener)
                if !listener.section.has("protocol")
                    || listener.protocol == Some(Protocol::Tcp) =>
            {
                let line = self.line(&listener.section.span());
                format!(
                    "listener \"{name}\", on line {line}, relays bytes, which have no routes: set \
                     `protocol = \"http\"` there, or pass TLS through by server name"
                )
            }
            Some(_) => return,
            None => {
                let names = listeners.iter().filter_map(|listener| listener.name.as_deref());
                format!("there is no listener \"{name}\"{}", did_you_mean(name, names))
            }
        };
        self.findings.error(section.at("listener"), format!("`listener`: {message}"));
    }

    fn is_by_server_name(&self, route: &RouteDraft<'_>) -> bool {
        let named = |it: &&ListenerDraft<'_>| it.name.is_some() && it.name == route.listener;
        self.draft.listeners.iter().find(named).is_some_and(ListenerDraft::passes_tls_through)
    }

    /// A route of TLS that is passed through has server names, a cluster, and nothing else.
    fn by_server_name(&mut self, route: &RouteDraft<'_>, names: &HashSet<&str>) {
        let section = &route.section;
        let says_something = |key: &str| match key {
            // What is written as it would be anyway says nothing.
            "path_prefix" => route.path.as_ref().is_some_and(|path| *path != PathRule::default()),
            key => section.has(key),
        };
        for key in OF_HTTP.into_iter().filter(|key| says_something(key)) {
            let message = format!(
                "`{key}` is for HTTP, which cannot be seen inside of TLS that is passed through: \
                 leave it out"
            );
            self.findings.error(section.key_at(key), message);
        }
        if route.hosts.is_empty() {
            self.findings.error(
                section.span(),
                "a route of TLS that is passed through needs `hosts`; what asks for no name of any \
                 route goes to the listener's own `cluster`",
            );
        }
        for host in &route.hosts {
            let at = section.element("hosts", host).unwrap_or_else(|| section.at("hosts"));
            let nobody = |_: &Shard| |_: Connection| async {};
            if let Err(why) = ByServerName::new([(host, nobody)]).or(nobody).check() {
                self.findings.error(at, format!("`hosts`: {why}"));
            }
        }
        for (name, at) in &route.action.clusters {
            match Target::named(name) {
                Target::Cluster(_) => self.route_cluster(name, at, names),
                Target::Passthrough | Target::Blackhole => self
                    .findings
                    .error(at.clone(), format!("\"{name}\" cannot be routed to: name a cluster")),
            }
        }
    }

    fn route_cluster(&mut self, name: &str, at: &Span, names: &HashSet<&str>) {
        let message = match Target::named(name) {
            Target::Passthrough => {
                "\"passthrough\" is where requests go that no route takes: leave \
                                    the route out"
                    .to_owned()
            }
            Target::Blackhole => {
                "\"blackhole\" answers nobody: write `respond = { status = 502 }`".to_owned()
            }
            Target::Cluster(_) if names.contains(name) => return,
            Target::Cluster(_) => {
                let hint = did_you_mean(name, names.iter().copied());
                let hint = if hint.is_empty() { ": add a [[cluster]] of that name" } else { &hint };
                format!("there is no cluster \"{name}\"{hint}")
            }
        };
        self.findings.error(at.clone(), message);
    }

    /// Of two routes that match the same, only the first is ever taken.
    fn routes_that_match_alike(&mut self) {
        let draft = self.draft;
        let mut seen: HashMap<Key<'_>, Span> = HashMap::new();
        for route in &draft.routes {
            let Some(listener) = &route.listener else { continue };
            let (listener, path, method) = (&**listener, &route.path, route.method.as_deref());
            let any = [String::from("*")];
            let hosts = if route.hosts.is_empty() { &any[..] } else { &route.hosts };
            let keys: Vec<_> = hosts
                .iter()
                .map(|host| {
                    let host = host.trim_end_matches('.').to_ascii_lowercase();
                    Key { listener, host, path: path_key(path), method, headers: &route.headers }
                })
                .collect();
            let first = keys.iter().find_map(|key| seen.get(key));
            if let Some(first) = first
                && keys.iter().all(|key| seen.contains_key(key))
            {
                let line = self.line(first);
                self.findings.warning(
                    route.section.span(),
                    format!("never taken: the route on line {line} matches the same"),
                );
            }
            for key in keys {
                seen.entry(key).or_insert_with(|| route.section.span());
            }
        }
    }

    /// Whether a listener has routes of its own.
    pub(super) fn has_routes(&self, listener: &ListenerDraft<'_>) -> bool {
        let Some(name) = &listener.name else { return false };
        self.draft.routes.iter().any(|route| route.listener.as_ref() == Some(name))
    }
}

/// The keys of a route that only HTTP has.
const OF_HTTP: [&str; 13] = [
    "path",
    "path_prefix",
    "method",
    "headers",
    "clusters",
    "redirect",
    "respond",
    "timeout",
    "try_timeout",
    "rewrite",
    "request_headers",
    "response_headers",
    "retry",
];

/// What a route matches, one of its hosts at a time.
#[derive(PartialEq, Eq, Hash)]
struct Key<'r> {
    listener: &'r str,
    host: String,
    path: (bool, &'r str),
    method: Option<&'r str>,
    headers: &'r BTreeMap<String, String>,
}

fn path_key(path: &Option<PathRule>) -> (bool, &str) {
    match path {
        None => (false, ""),
        Some(PathRule::Exact(path)) => (true, path),
        Some(PathRule::Prefix(prefix)) => (false, prefix.trim_end_matches('/')),
    }
}

/// Where in the file it is that the library objects to.
fn place(route: &RouteDraft<'_>, problem: &RouteProblem) -> Span {
    let section = &route.section;
    let first = |keys: &[&str]| {
        let written = keys.iter().find(|key| section.has(key));
        written.map_or_else(|| section.span(), |key| section.at(key))
    };
    match problem {
        RouteProblem::Host { host, .. } => match section.element("hosts", host) {
            Some(at) => at,
            None => first(&["rewrite", "redirect", "hosts"]),
        },
        RouteProblem::Path { path, .. } => {
            let of_match = match &route.path {
                Some(PathRule::Exact(written)) if written == path => Some("path"),
                Some(PathRule::Prefix(written)) if written == path => Some("path_prefix"),
                _ => None,
            };
            match of_match {
                Some(key) => section.at(key),
                None => first(&["rewrite", "redirect"]),
            }
        }
        RouteProblem::RepeatedHeader(_) => first(&["headers"]),
        RouteProblem::NoPrefix => first(&["rewrite", "redirect"]),
        RouteProblem::NotForwarded => {
            first(&["rewrite", "request_headers", "retry", "try_timeout"])
        }
        RouteProblem::ForbiddenHeader(name) => {
            let changes = &route.request_headers;
            let names = changes.remove.iter().chain(changes.set.keys()).chain(changes.add.keys());
            match names.into_iter().any(|known| known == name.as_str()) {
                true => first(&["request_headers"]),
                false => first(&["response_headers"]),
            }
        }
        RouteProblem::RespondStatus(_) | RouteProblem::RespondBody(_) => first(&["respond"]),
        RouteProblem::RetryStatus(_) => first(&["retry"]),
        RouteProblem::ZeroTime | RouteProblem::TryTime => first(&["try_timeout", "timeout"]),
        _ => section.span(),
    }
}

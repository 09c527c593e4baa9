//! Names, the two kinds of listener, and which destination hangs on which accepting listener.

use std::collections::HashMap;

use super::Checks;
use crate::config::{
    draft::ListenerDraft,
    nearest::did_you_mean,
    problem::Span,
    schema::{Protocol, Target},
    section::Section,
};

impl Checks<'_, '_> {
    /// Every listener and cluster has a name of its own.
    pub(super) fn names(&mut self) {
        let draft = self.draft;
        let listeners = draft.listeners.iter().map(|l| (&l.section, l.name.as_deref()));
        self.unique_names("listener", listeners);
        let clusters = draft.clusters.iter().map(|c| (&c.section, c.name.as_deref()));
        self.unique_names("cluster", clusters);
    }

    fn unique_names<'n>(
        &mut self,
        kind: &str,
        sections: impl Iterator<Item = (&'n Section<'n>, Option<&'n str>)>,
    ) {
        let mut seen = HashMap::<&str, Span>::new();
        for (section, name) in sections {
            if !section.has("name") {
                self.findings.error(section.span(), format!("a {kind} needs a `name`"));
            }
            let Some(name) = name else { continue };
            let at = section.at("name");
            if let Some(first) = seen.get(name) {
                let line = self.line(first);
                self.findings.error(
                    at,
                    format!("the {kind} name \"{name}\" is taken on line {line}: choose another"),
                );
            } else {
                seen.insert(name, at);
            }
        }
    }

    /// A listener either accepts or is a destination, and has the keys of that kind alone.
    pub(super) fn kinds(&mut self) {
        for listener in &self.draft.listeners {
            let section = &listener.section;
            match (section.has("bind"), section.has("match")) {
                (true, true) => self.findings.error(
                    section.key_at("match"),
                    "a listener has either `bind` (it accepts) or `match` (it takes redirected \
                     connections from one that does), not both: make two listeners",
                ),
                (false, false) => self.findings.error(
                    section.span(),
                    "a listener needs `bind` (where it accepts) or `match` (the original \
                     destinations that it takes)",
                ),
                (true, false) => self.accepting(listener),
                (false, true) => self.destination(listener),
            }
        }
    }

    fn accepting(&mut self, listener: &ListenerDraft<'_>) {
        let section = &listener.section;
        if section.has("via") {
            self.findings.error(
                section.key_at("via"),
                "`via` is for listeners with `match`: this one accepts by itself",
            );
        }
        // A wrong value of `original_dst` may have been meant to be any of them.
        if section.has("original_dst") && listener.original_dst.is_none() {
            return;
        }
        if listener.lookup().is_some() {
            if listener.bind.as_ref().is_some_and(|bind| bind.is_unix()) {
                self.findings.error(
                    section.key_at("original_dst"),
                    "connections to a Unix-domain socket have no original destination: leave it out",
                );
            }
            if section.has("cluster") && section.has("fallback") {
                self.findings.warning(
                    section.key_at("fallback"),
                    "`fallback` has no effect: `cluster` takes what no `match` fits",
                );
            }
            return;
        }
        for key in ["fallback", "source", "mark"] {
            if section.has(key) {
                let message = format!(
                    "`{key}` is for passthrough, which needs `original_dst`: set that, or leave \
                     `{key}` out"
                );
                self.findings.error(section.key_at(key), message);
            }
        }
        if !section.has("cluster") && !self.is_routed(listener) {
            self.findings.error(
                section.span(),
                "without `original_dst` a listener needs a `cluster` to forward to",
            );
        } else if listener.cluster == Some(Target::Passthrough) {
            self.findings.error(
                section.at("cluster"),
                "\"passthrough\" needs an original destination: set `original_dst`, or name a \
                 cluster",
            );
        }
    }

    /// Whether routes say where its connections go. Relayed ones need a cluster all the same.
    fn is_routed(&self, listener: &ListenerDraft<'_>) -> bool {
        listener.protocol == Some(Protocol::Http) && self.has_routes(listener)
    }

    fn destination(&mut self, listener: &ListenerDraft<'_>) {
        let section = &listener.section;
        for key in ["direction", "original_dst", "fallback", "proxy_protocol"] {
            if section.has(key) {
                let message = format!(
                    "`{key}` belongs to the accepting listener: this one has `match`, and so no \
                     socket"
                );
                self.findings.error(section.key_at(key), message);
            }
        }
        if !section.has("cluster") && !self.is_routed(listener) {
            self.findings.error(
                section.span(),
                "a listener with `match` needs a `cluster`, \"passthrough\" or \"blackhole\"",
            );
        }
        if listener.cluster.as_ref().is_some_and(|target| *target != Target::Passthrough) {
            for key in ["source", "mark"].into_iter().filter(|key| section.has(key)) {
                let message = format!(
                    "`{key}` has no effect here: it is for passthrough connections; set it on the \
                     cluster"
                );
                self.findings.warning(section.key_at(key), message);
            }
        }
    }

    /// Finds the accepting listener of each destination.
    pub(super) fn destinations(&mut self) -> Vec<Option<usize>> {
        let listeners = &self.draft.listeners;
        // What is written wrongly may have been meant to be one.
        let may_intercept = |listener: &ListenerDraft<'_>| {
            listener.lookup().is_some()
                || (listener.section.has("original_dst") && listener.original_dst.is_none())
        };
        let accepting: Vec<usize> = (0..listeners.len())
            .filter(|&n| listeners[n].section.has("bind") && may_intercept(&listeners[n]))
            .collect();
        let mut via = vec![None; listeners.len()];
        for (n, listener) in listeners.iter().enumerate() {
            let section = &listener.section;
            if section.has("bind") || !section.has("match") {
                continue;
            }
            via[n] = match (&listener.via, accepting.as_slice()) {
                (Some(name), _) => self.named_via(listener, name, &accepting),
                (None, _) if section.has("via") => None,
                (None, [only]) => Some(*only),
                (None, []) => {
                    self.findings.error(
                        section.key_at("match"),
                        "nothing feeds `match`: a listener with `bind` and `original_dst` is needed",
                    );
                    None
                }
                (None, several) => {
                    let names = names_of(listeners, several);
                    self.findings.error(
                        section.key_at("match"),
                        format!(
                            "`via` is needed, as several listeners have `original_dst`: {names}"
                        ),
                    );
                    None
                }
            };
        }
        via
    }

    fn named_via(
        &mut self,
        listener: &ListenerDraft<'_>,
        name: &str,
        accepting: &[usize],
    ) -> Option<usize> {
        let listeners = &self.draft.listeners;
        let is_named = |n: &usize| listeners[*n].name.as_deref() == Some(name);
        if let Some(found) = accepting.iter().copied().find(is_named) {
            return Some(found);
        }
        let message = match (0..listeners.len()).find(is_named) {
            Some(n) if listeners[n].section.has("bind") => {
                format!("listener \"{name}\" has no `original_dst`: set it there")
            }
            Some(_) => format!("listener \"{name}\" has no `bind`: name one that accepts"),
            None => {
                let names = accepting.iter().filter_map(|n| listeners[*n].name.as_deref());
                format!("there is no listener \"{name}\"{}", did_you_mean(name, names))
            }
        };
        self.findings.error(listener.section.at("via"), format!("`via`: {message}"));
        None
    }

    /// No two destinations of one accepting listener take the same, and all can be reached.
    pub(super) fn patterns(&mut self, via: &[Option<usize>]) {
        let listeners = &self.draft.listeners;
        let mut seen = HashMap::new();
        for (listener, via) in listeners.iter().zip(via) {
            let (Some(pattern), Some(via)) = (listener.pattern, *via) else { continue };
            let at = listener.section.at("match");
            if let Some(first) = seen.get(&(via, pattern)) {
                let message =
                    format!("\"{pattern}\" is taken on line {}: remove one", self.line(first));
                self.findings.error(at, message);
                continue;
            }
            let v4_socket = listeners[via].bind.as_ref().is_some_and(|bind| bind.is_v4());
            if v4_socket && pattern.is_v6_only() {
                let message = format!(
                    "never fits: \"{}\" accepts IPv4 alone; bind it to \"[::]:PORT\", which takes \
                     both",
                    listeners[via].name.as_deref().unwrap_or_default()
                );
                self.findings.warning(at.clone(), format!("`match`: {message}"));
            }
            seen.insert((via, pattern), at);
        }
    }
}

fn names_of(listeners: &[ListenerDraft<'_>], which: &[usize]) -> String {
    let names = which.iter().filter_map(|n| listeners[*n].name.as_deref());
    names.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

//! A `[[route]]` as it was written.

use std::{collections::BTreeMap, time::Duration};

use toml::{Spanned, de::DeValue};

use super::{
    super::{
        keys,
        problem::{Findings, Span},
        schema::{
            HeaderChanges, HeaderMap, PathRule, Redirect, Respond, RetryOn, Rewrite, RouteAction,
            RouteRetry, WeightedCluster,
        },
        section::Section,
        value::{choice_of, count, name, number, text, timeout},
    },
    cluster::{MOST_ATTEMPTS, header_name},
};

/// A `[[route]]`.
pub(in super::super) struct RouteDraft<'d> {
    pub(in super::super) section: Section<'d>,
    pub(in super::super) name: Option<String>,
    pub(in super::super) listener: Option<String>,
    pub(in super::super) hosts: Vec<String>,
    pub(in super::super) path: Option<PathRule>,
    pub(in super::super) method: Option<String>,
    pub(in super::super) headers: HeaderMap,
    pub(in super::super) action: ActionDraft,
    pub(in super::super) timeout: Option<Option<Duration>>,
    pub(in super::super) try_timeout: Option<Option<Duration>>,
    pub(in super::super) rewrite: Option<Rewrite>,
    pub(in super::super) request_headers: HeaderChanges,
    pub(in super::super) response_headers: HeaderChanges,
    pub(in super::super) retry: Option<RouteRetry>,
}

/// What a route says is done, and each cluster that it names.
pub(in super::super) struct ActionDraft {
    /// `None` if it says nothing, or something wrong.
    pub(in super::super) action: Option<RouteAction>,
    pub(in super::super) clusters: Vec<(String, Span)>,
}

impl<'d> RouteDraft<'d> {
    pub(super) fn read(section: Section<'d>, findings: &mut Findings) -> Self {
        let hosts = section.array("hosts", findings);
        let hosts = hosts.filter_map(|host| string(host, "hosts", "a.example", findings)).collect();
        Self {
            name: section.read("name", findings, name),
            listener: section
                .read("listener", findings, |value| Ok(text(value, "outbound")?.to_owned())),
            hosts,
            path: path_rule(&section, findings),
            method: section.read("method", findings, method),
            headers: header_map(&section, "headers", findings),
            action: ActionDraft::read(&section, findings),
            timeout: section.read("timeout", findings, timeout),
            try_timeout: section.read("try_timeout", findings, timeout),
            rewrite: section.table("rewrite", &keys::REWRITE, findings).map(|section| Rewrite {
                host: section.read("host", findings, |value| owned(value, "b.example")),
                path: path_rule(&section, findings),
            }),
            request_headers: header_changes(&section, "request_headers", findings),
            response_headers: header_changes(&section, "response_headers", findings),
            retry: read_retry(&section, findings),
            section,
        }
    }
}

impl ActionDraft {
    const KEYS: [&str; 4] = ["cluster", "clusters", "redirect", "respond"];

    fn read(route: &Section<'_>, findings: &mut Findings) -> Self {
        let written: Vec<_> = Self::KEYS.into_iter().filter(|key| route.has(key)).collect();
        let mut clusters = Vec::new();
        let action = match written[..] {
            [] => {
                findings.error(
                    route.span(),
                    "a route needs a `cluster`, `clusters`, a `redirect`, or something to `respond`",
                );
                None
            }
            ["cluster"] => route.read("cluster", findings, name).map(|name| {
                clusters.push((name.clone(), route.at("cluster")));
                RouteAction::Cluster(name)
            }),
            ["clusters"] => weighted(route, &mut clusters, findings),
            ["redirect"] => route
                .table("redirect", &keys::REDIRECT, findings)
                .map(|section| redirect(&section, findings)),
            [_] => route
                .table("respond", &keys::RESPOND, findings)
                .and_then(|section| respond(&section, findings)),
            [first, second, ..] => {
                findings.error(
                    route.key_at(second),
                    format!("a route has either `{first}` or `{second}`: leave one out"),
                );
                None
            }
        };
        Self { action, clusters }
    }
}

fn weighted(
    route: &Section<'_>,
    clusters: &mut Vec<(String, Span)>,
    findings: &mut Findings,
) -> Option<RouteAction> {
    let mut list = Vec::new();
    let elements: Vec<_> = route.array("clusters", findings).collect();
    for element in &elements {
        let DeValue::Table(table) = element.get_ref() else {
            findings.error(
                element.span(),
                "`clusters`: expected tables such as { name = \"a\", weight = 9 }",
            );
            continue;
        };
        let section = Section::open(&keys::ROUTE_CLUSTER, table, element.span(), findings);
        if !section.has("name") {
            findings.error(section.span(), "an element of `clusters` has no `name`: write one");
        }
        let weight = section.read("weight", findings, |value| count(value, 0..=u32::MAX));
        if let Some(name) = section.read("name", findings, name) {
            clusters.push((name.clone(), section.at("name")));
            list.push(WeightedCluster { name, weight: weight.unwrap_or(1) });
        }
    }
    if list.len() == elements.len() && list.iter().all(|cluster| cluster.weight == 0) {
        findings.error(
            route.at("clusters"),
            "`clusters`: none has a weight above 0, so that no request could go anywhere",
        );
    }
    Some(RouteAction::Clusters(list))
}

fn redirect(section: &Section<'_>, findings: &mut Findings) -> RouteAction {
    const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];
    let port = section.read("port", findings, |value| number(value, 1..=u64::from(u16::MAX)));
    RouteAction::Redirect(Redirect {
        scheme: section.read("scheme", findings, choice_of),
        host: section.read("host", findings, |value| owned(value, "b.example")),
        port: port.and_then(|port| u16::try_from(port).ok()),
        path: path_rule(section, findings),
        status: section
            .read("status", findings, |value| match status(value)? {
                status if STATUSES.contains(&status) => Ok(status),
                status => Err(format!("{status} is none of 301, 302, 303, 307 and 308")),
            })
            .unwrap_or(302),
    })
}

fn respond(section: &Section<'_>, findings: &mut Findings) -> Option<RouteAction> {
    if !section.has("status") {
        findings.error(section.span(), "`respond` needs a `status`");
    }
    let body = section.read("body", findings, |value| owned(value, "gone\n"));
    Some(RouteAction::Respond(Respond {
        status: section.read("status", findings, status)?,
        body: body.unwrap_or_default(),
        content_type: section.read("content_type", findings, header_value),
    }))
}

/// The path under `path` or `path_prefix`.
fn path_rule(section: &Section<'_>, findings: &mut Findings) -> Option<PathRule> {
    let exact = section.read("path", findings, |value| owned(value, "/v1"));
    let prefix = section.read("path_prefix", findings, |value| owned(value, "/v1"));
    if section.has("path") && section.has("path_prefix") {
        findings.error(
            section.key_at("path_prefix"),
            "it is either `path` or `path_prefix`: leave one out",
        );
    }
    exact.map(PathRule::Exact).or(prefix.map(PathRule::Prefix))
}

fn header_changes(route: &Section<'_>, key: &str, findings: &mut Findings) -> HeaderChanges {
    let Some(section) = route.table(key, &keys::HEADER_CHANGES, findings) else {
        return HeaderChanges::default();
    };
    let remove = section.array("remove", findings).filter_map(|name| {
        header_name(name.get_ref())
            .map_err(|why| findings.error(name.span(), format!("`remove`: {why}")))
            .ok()
    });
    HeaderChanges {
        remove: remove.collect(),
        set: header_map(&section, "set", findings),
        add: header_map(&section, "add", findings),
    }
}

fn header_map(section: &Section<'_>, key: &str, findings: &mut Findings) -> HeaderMap {
    let mut map = BTreeMap::new();
    for (name, value) in section.entries(key, findings) {
        let value_text = match header_value(value.get_ref()) {
            Ok(value) => value,
            Err(why) => {
                findings.error(value.span(), format!("`{name}`: {why}"));
                continue;
            }
        };
        match name.parse::<http::HeaderName>() {
            Ok(parsed) if map.contains_key(parsed.as_str()) => findings
                .error(value.span(), format!("`{name}` is written twice in `{key}`: remove one")),
            Ok(parsed) => {
                map.insert(parsed.as_str().to_owned(), value_text);
            }
            Err(_) => findings.error(
                value.span(),
                format!("`{key}`: \"{name}\" is not the name of a header field"),
            ),
        }
    }
    map
}

fn read_retry(route: &Section<'_>, findings: &mut Findings) -> Option<RouteRetry> {
    let section = route.table("retry", &keys::ROUTE_RETRY, findings)?;
    let statuses = section.array("statuses", findings).filter_map(|element| {
        let read = match status(element.get_ref()) {
            Ok(status) if status >= 400 => Ok(status),
            Ok(status) => Err(format!("an answer with {status} is no failure: use 400 to 599")),
            Err(why) => Err(why),
        };
        read.map_err(|why| findings.error(element.span(), format!("`statuses`: {why}"))).ok()
    });
    let statuses = statuses.collect();
    let on = section.array("on", findings).filter_map(|element| {
        choice_of(element.get_ref())
            .map_err(|why| findings.error(element.span(), format!("`on`: {why}")))
            .ok()
    });
    let on: Vec<_> = on.collect();
    Some(RouteRetry {
        attempts: section
            .read("attempts", findings, |value| count(value, 0..=MOST_ATTEMPTS))
            .unwrap_or(1),
        statuses,
        on: if section.has("on") { on } else { vec![RetryOn::ConnectFailure, RetryOn::Reset] },
    })
}

fn status(value: &DeValue<'_>) -> Result<u16, String> {
    number(value, 200..=599).map(|status| u16::try_from(status).unwrap_or_default())
}

fn method(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value, "GET")?;
    match text.parse::<http::Method>() {
        Ok(method) if text.bytes().any(|byte| byte.is_ascii_lowercase()) => {
            let upper = method.as_str().to_ascii_uppercase();
            Err(format!("methods are told apart by case: write \"{upper}\", not \"{text}\""))
        }
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("\"{text}\" is not a method: write one such as \"GET\"")),
    }
}

fn header_value(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value, "1")?;
    match http::HeaderValue::from_str(text) {
        Ok(value) if value.to_str().is_ok() => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is not a value of a header field: write visible ASCII")),
    }
}

fn owned(value: &DeValue<'_>, example: &str) -> Result<String, String> {
    text(value, example).map(str::to_owned)
}

/// A string among the elements of an array.
fn string(
    element: &Spanned<DeValue<'_>>,
    key: &str,
    example: &str,
    findings: &mut Findings,
) -> Option<String> {
    owned(element.get_ref(), example)
        .map_err(|why| findings.error(element.span(), format!("`{key}`: {why}")))
        .ok()
}

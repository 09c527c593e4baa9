//! Checks a route before it enters the table.
//!
//! *In:* a [`RouteSpec`], as it was configured. *Out:* the same, in the form in which it is matched,
//! or what is wrong with it. *Never:* compares it with another route.

use ::http::{HeaderName, HeaderValue, Method, StatusCode};

use super::{
    Action, Match, PathRule, Route, RouteSpec,
    action::{Redirect, Respond},
    change::PathChange,
    error::RouteProblem,
    host::{self, HostPattern},
    path::{canonical, has_dot_segment},
    retry::TimeLimit,
};

/// A route that can be put into a table.
pub(super) struct Checked {
    /// Not empty.
    pub(super) hosts: Vec<HostPattern>,
    pub(super) path: PathKey,
    pub(super) method: Option<Method>,
    /// Names are in there once.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) route: Route,
}

/// A path in the spelling in which it is matched.
pub(super) enum PathKey {
    Exact(Box<[u8]>),
    /// Without the slash at the end: empty for everything.
    Prefix(Box<[u8]>),
}

impl PathKey {
    fn prefix_length(&self) -> Option<usize> {
        match self {
            PathKey::Exact(_) => None,
            PathKey::Prefix(prefix) => Some(prefix.len()),
        }
    }
}

pub(super) fn check(spec: RouteSpec) -> Result<Checked, RouteProblem> {
    let RouteSpec { matches, mut route } = spec;
    let Match { hosts, path, method, headers } = matches;
    let hosts = check_hosts(hosts)?;
    let path = check_path(path)?;
    for (at, (name, _)) in headers.iter().enumerate() {
        if headers[..at].iter().any(|(before, _)| before == name) {
            return Err(RouteProblem::RepeatedHeader(name.clone()));
        }
    }
    let prefix = path.prefix_length();
    match &mut route.action {
        Action::Forward(_) => {}
        Action::Redirect(redirect) => check_redirect(redirect, prefix)?,
        Action::Respond(respond) => check_respond(respond)?,
    }
    if let Some(host) = &route.rewrite.host {
        host::check_authority(host).map_err(|why| host_problem(host, why))?;
    }
    if let Some(change) = &mut route.rewrite.path {
        check_change(change, prefix)?;
    }
    check_forwarding(&route)?;
    Ok(Checked { hosts, path, method, headers, route })
}

fn check_hosts(hosts: Vec<String>) -> Result<Vec<HostPattern>, RouteProblem> {
    if hosts.is_empty() {
        return Ok(vec![HostPattern::ANY]);
    }
    let parse = |host: &String| HostPattern::parse(host).map_err(|why| host_problem(host, why));
    hosts.iter().map(parse).collect()
}

fn host_problem(host: &str, why: &'static str) -> RouteProblem {
    RouteProblem::Host { host: host.to_owned(), why }
}

fn check_path(rule: PathRule) -> Result<PathKey, RouteProblem> {
    match rule {
        PathRule::Exact(path) => Ok(PathKey::Exact(spelled(&path)?.into())),
        PathRule::Prefix(prefix) => {
            let mut key = spelled(&prefix)?;
            if key.ends_with(b"/") {
                key.pop();
            }
            Ok(PathKey::Prefix(key.into()))
        }
    }
}

/// The spelling in which a path is matched.
fn spelled(path: &str) -> Result<Vec<u8>, RouteProblem> {
    let problem = |why| RouteProblem::Path { path: path.to_owned(), why };
    if !path.starts_with('/') {
        return Err(problem("a path begins with /"));
    }
    if path.contains(['?', '#']) {
        return Err(problem("a path has neither query nor fragment: leave them out, or write %3F"));
    }
    let mut ascii = Vec::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'!'..=b'~' => ascii.push(byte),
            _ => ascii.extend(format!("%{byte:02X}").bytes()),
        }
    }
    let key = match canonical(&ascii) {
        Ok(key) => key.unwrap_or(ascii),
        Err(_) => {
            return Err(problem("a % has two hexadecimal digits behind it, not 00: write %25"));
        }
    };
    if has_dot_segment(&key) {
        return Err(problem("a path has no dot segments: write where they lead"));
    }
    Ok(key)
}

fn check_change(change: &mut PathChange, prefix: Option<usize>) -> Result<(), RouteProblem> {
    let to = change.replacement();
    let problem = |why| Err(RouteProblem::Path { path: to.to_owned(), why });
    if !(to.is_empty() && change.may_be_empty()) {
        spelled(to)?;
        if !to.bytes().all(|byte| byte.is_ascii_graphic()) {
            return problem("a path to send has ASCII letters only: write others as %XX");
        }
        if to[1..].starts_with(['/', '\\']) {
            return problem("with two slashes in front it would name a host: leave one out");
        }
    }
    if change.bind(prefix) { Ok(()) } else { Err(RouteProblem::NoPrefix) }
}

fn check_redirect(redirect: &mut Redirect, prefix: Option<usize>) -> Result<(), RouteProblem> {
    if let Some(host) = &redirect.host {
        host::check_authority(host).map_err(|why| host_problem(host, why))?;
        if host::split(host).1.is_some() {
            return Err(host_problem(host, "the port of a redirect is given apart"));
        }
    }
    match &mut redirect.path {
        Some(change) => check_change(change, prefix),
        None => Ok(()),
    }
}

fn check_respond(respond: &Respond) -> Result<(), RouteProblem> {
    let status = respond.status;
    if !(200..=599).contains(&status.as_u16()) {
        return Err(RouteProblem::RespondStatus(status));
    }
    // RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5.
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];
    let has_body = !respond.body.is_empty() || respond.content_type.is_some();
    if has_body && bodiless.contains(&status) {
        return Err(RouteProblem::RespondBody(status));
    }
    Ok(())
}

fn check_forwarding(route: &Route) -> Result<(), RouteProblem> {
    let changes = [&route.request_headers, &route.response_headers];
    if let Some(name) = changes.iter().find_map(|changes| changes.forbidden()) {
        return Err(RouteProblem::ForbiddenHeader(name.clone()));
    }
    let retried = route.retry.iter().flat_map(|retry| &retry.statuses);
    if let Some(status) = retried.copied().find(|status| !(400..=599).contains(&status.as_u16())) {
        return Err(RouteProblem::RetryStatus(status));
    }
    for limit in [route.timeout, route.try_timeout] {
        if matches!(limit, TimeLimit::After(limit) if limit.is_zero()) {
            return Err(RouteProblem::ZeroTime);
        }
    }
    if let (TimeLimit::After(all), TimeLimit::After(one)) = (route.timeout, route.try_timeout)
        && one > all
    {
        return Err(RouteProblem::TryTime);
    }
    let for_upstream = route.rewrite.host.is_some()
        || route.rewrite.path.is_some()
        || !route.request_headers.is_empty()
        || route.retry.is_some()
        || route.try_timeout != TimeLimit::Inherit;
    if for_upstream && !matches!(route.action, Action::Forward(_)) {
        return Err(RouteProblem::NotForwarded);
    }
    Ok(())
}

#[cfg(test)]
mod tests;

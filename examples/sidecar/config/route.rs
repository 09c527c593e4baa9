//! From a route as it is written to a route as the library takes it.
//!
//! In: one route, each value of which has been read. Out: its description, which the library checks as
//! a whole when it builds a table of it. Never knows other routes.

use std::time::Duration;

use evenkeel::http::route::{
    Action, Clusters, HeaderChanges, Match, PathChange, PathRule, Redirect, RedirectStatus,
    Respond, RetryOn, RetryPolicy, Rewrite, Route, RouteSpec, Scheme, TimeLimit,
};
use http::{HeaderName, HeaderValue, StatusCode};

use super::schema;

/// What a value turns out to be that no reading of the file lets through.
#[derive(Debug)]
pub(crate) struct Unusable;

impl schema::Route {
    /// The same for the library.
    ///
    /// # Errors
    /// Never for a route of a configuration that was checked.
    pub(crate) fn spec(&self) -> Result<RouteSpec, Unusable> {
        let method = match &self.method {
            Some(method) => Some(method.parse().map_err(|_| Unusable)?),
            None => None,
        };
        let matches = Match {
            hosts: self.hosts.clone(),
            path: match self.path.clone() {
                schema::PathRule::Exact(path) => PathRule::Exact(path),
                schema::PathRule::Prefix(prefix) => PathRule::Prefix(prefix),
            },
            method,
            headers: fields(&self.headers)?,
        };
        let mut route = Route::new(self.name.clone(), action(&self.action)?);
        if let Some(rewrite) = &self.rewrite {
            let path = rewrite.path.as_ref().map(path_change);
            route.rewrite = Rewrite { host: rewrite.host.clone(), path };
        }
        route.request_headers = header_changes(&self.request_headers)?;
        route.response_headers = header_changes(&self.response_headers)?;
        route.timeout = time_limit(self.timeout);
        route.try_timeout = time_limit(self.try_timeout);
        route.retry = match &self.retry {
            Some(retry) => Some(retry_policy(retry)?),
            None => None,
        };
        Ok(RouteSpec { matches, route })
    }
}

fn action(action: &schema::RouteAction) -> Result<Action, Unusable> {
    Ok(match action {
        schema::RouteAction::Cluster(name) => Action::Forward(Clusters::one(name.as_str())),
        schema::RouteAction::Clusters(clusters) => {
            let named = clusters.iter().map(|cluster| (cluster.name.as_str(), cluster.weight));
            Action::Forward(Clusters::weighted(named).map_err(|_| Unusable)?)
        }
        schema::RouteAction::Redirect(redirect) => Action::Redirect(Redirect {
            scheme: redirect.scheme.map(|scheme| match scheme {
                schema::Scheme::Http => Scheme::Http,
                schema::Scheme::Https => Scheme::Https,
            }),
            host: redirect.host.clone(),
            port: redirect.port,
            path: redirect.path.as_ref().map(path_change),
            status: RedirectStatus::try_from(redirect.status).map_err(|_| Unusable)?,
        }),
        schema::RouteAction::Respond(respond) => Action::Respond(Respond {
            status: status(respond.status)?,
            content_type: match &respond.content_type {
                Some(name) => Some(HeaderValue::from_str(name).map_err(|_| Unusable)?),
                None if respond.body.is_empty() => None,
                None => Some(HeaderValue::from_static("text/plain; charset=utf-8")),
            },
            body: respond.body.clone().into_bytes(),
        }),
    })
}

fn path_change(rule: &schema::PathRule) -> PathChange {
    match rule {
        schema::PathRule::Exact(path) => PathChange::full(path.as_str()),
        schema::PathRule::Prefix(prefix) => PathChange::prefix(prefix.as_str()),
    }
}

fn header_changes(changes: &schema::HeaderChanges) -> Result<HeaderChanges, Unusable> {
    let remove = changes.remove.iter().map(|name| name.parse().map_err(|_| Unusable));
    Ok(HeaderChanges {
        remove: remove.collect::<Result<_, _>>()?,
        set: fields(&changes.set)?,
        add: fields(&changes.add)?,
    })
}

fn fields(map: &schema::HeaderMap) -> Result<Vec<(HeaderName, HeaderValue)>, Unusable> {
    let field = |(name, value): (&String, &String)| {
        Ok((name.parse().map_err(|_| Unusable)?, value.parse().map_err(|_| Unusable)?))
    };
    map.iter().map(field).collect()
}

fn retry_policy(retry: &schema::RouteRetry) -> Result<RetryPolicy, Unusable> {
    Ok(RetryPolicy {
        attempts: retry.attempts,
        statuses: retry.statuses.iter().map(|code| status(*code)).collect::<Result<_, _>>()?,
        on: RetryOn {
            connect_failure: retry.on.contains(&schema::RetryOn::ConnectFailure),
            reset: retry.on.contains(&schema::RetryOn::Reset),
            timeout: retry.on.contains(&schema::RetryOn::Timeout),
        },
    })
}

fn status(code: u16) -> Result<StatusCode, Unusable> {
    StatusCode::from_u16(code).map_err(|_| Unusable)
}

fn time_limit(limit: Option<Option<Duration>>) -> TimeLimit {
    match limit {
        None => TimeLimit::Inherit,
        Some(None) => TimeLimit::Off,
        Some(Some(limit)) => TimeLimit::After(limit),
    }
}

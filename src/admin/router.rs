//! Which handler answers what.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::request::Request;
use super::response::Response;

/// The one method that a route has; GET answers HEAD as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
}

impl Method {
    fn answers(self, method: &str) -> bool {
        match self {
            Self::Get => method == "GET" || method == "HEAD",
            Self::Post => method == "POST",
        }
    }

    fn allow(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD",
            Self::Post => "POST",
        }
    }
}

pub(super) type Handler = Box<dyn Fn(&Request) -> Response + Send + Sync>;

struct Route {
    method: Method,
    path: String,
    handler: Handler,
}

/// The paths that a listener shows.
#[derive(Debug, Clone)]
pub(super) enum Visible {
    All,
    Only(Vec<String>),
}

impl Visible {
    fn shows(&self, path: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(paths) => paths.iter().any(|shown| shown == path),
        }
    }
}

#[derive(Default)]
pub(super) struct Router {
    routes: Vec<Route>,
}

impl Router {
    /// Adds a route, in place of one with the same method and path.
    pub(super) fn add(&mut self, method: Method, path: String, handler: Handler) {
        self.routes.retain(|route| route.method != method || route.path != path);
        self.routes.push(Route { method, path, handler });
    }

    pub(super) fn answer(&self, visible: &Visible, request: &Request) -> Response {
        let path = request.path();
        let shown = || self.routes.iter().filter(|route| visible.shows(&route.path));
        let of_path: Vec<&Route> = shown().filter(|route| route.path == path).collect();
        if let Some(route) = of_path.iter().find(|route| route.method.answers(request.method())) {
            return run(route, request);
        }
        if of_path.is_empty() {
            let mut text = "not found; the paths are:\n".to_owned();
            shown().for_each(|Route { method, path, .. }| {
                let method = format!("{method:?}").to_uppercase();
                text += &format!("  {method:4} {path}\n");
            });
            return Response::text(404, text);
        }
        let allow: Vec<&str> = of_path.iter().map(|route| route.method.allow()).collect();
        Response::method_not_allowed(&allow.join(", "))
    }
}

/// A handler that panics has answered 500. What it shares with others is its own business, as it
/// would be for any thread that panics.
fn run(route: &Route, request: &Request) -> Response {
    catch_unwind(AssertUnwindSafe(|| (route.handler)(request))).unwrap_or_else(|_| {
        tracing::error!(path = route.path, "an admin handler panicked");
        Response::text(500, "the handler panicked; the log has more\n")
    })
}

//! The servers for operators: admin, with every route, and telemetry, with those that change nothing.
//!
//! They are two, each with connections of its own, so that scrapers cannot keep operators out, and so
//! that a reload can put telemetry on other addresses. Flows in: addresses, and the routes that an
//! embedder adds. Flows out: answers about a running proxy. They are owned by its handle, and never by
//! what they show.

use std::{net::SocketAddr, sync::Arc};

use super::running::Running;
#[cfg(feature = "prometheus")]
use crate::telemetry::PrometheusRenderer;
use crate::{
    admin::{self, Request, Response, Server, routes},
    error::Error,
};

/// What telemetry shows.
const READ_ONLY: [&str; 3] = ["/ready", "/metrics", "/stats/prometheus"];

type Handler = Arc<dyn Fn(&Request) -> Response + Send + Sync>;

/// What the servers answer beyond the library's own routes.
pub(super) enum Route {
    Get(String, Handler),
    Post(String, Handler),
}

/// From which the servers are made.
pub(super) struct Operators {
    pub(super) running: Arc<Running>,
    extra: Vec<Route>,
    #[cfg(feature = "prometheus")]
    renderer: Arc<PrometheusRenderer>,
}

/// The telemetry server, if there are addresses for one.
#[derive(Default)]
pub(super) struct Telemetry {
    /// As they were asked for, port 0 included.
    addresses: Vec<SocketAddr>,
    server: Option<Server>,
}

impl Operators {
    pub(super) fn new(running: Arc<Running>, extra: Vec<Route>) -> Operators {
        Operators {
            running,
            extra,
            #[cfg(feature = "prometheus")]
            renderer: Arc::default(),
        }
    }

    /// Starts the admin server, where there are addresses for it.
    pub(super) fn admin(&self, addresses: &[SocketAddr]) -> Result<Option<Server>, Error> {
        if addresses.is_empty() {
            return Ok(None);
        }
        let listen = |builder: admin::Builder, address: &SocketAddr| builder.listen(*address);
        let builder = addresses.iter().fold(Server::builder(), listen);
        Ok(Some(self.routes(builder).start()?))
    }

    /// Starts a telemetry server in the place of `running`; `None`: it is on these addresses.
    pub(super) fn telemetry(
        &self,
        addresses: Vec<SocketAddr>,
        running: &Telemetry,
    ) -> Result<Option<Telemetry>, Error> {
        if addresses == running.addresses {
            return Ok(None);
        }
        if addresses.is_empty() {
            return Ok(Some(Telemetry::default()));
        }
        let listen = |builder: admin::Builder, address: &SocketAddr| {
            builder.listen_only(*address, READ_ONLY)
        };
        let builder = addresses.iter().fold(Server::builder(), listen);
        let server = Some(self.routes(builder).start()?);
        Ok(Some(Telemetry { addresses, server }))
    }

    fn routes(&self, builder: admin::Builder) -> admin::Builder {
        let registry = Arc::clone(&self.running.shared.registry);
        let [ready, listeners, shards] = [(); 3].map(|()| Arc::clone(&self.running));
        let mut builder = builder
            .get("/ready", routes::ready(move || ready.ready()))
            .get("/listeners", routes::listeners(registry, move || listeners.listener_rows()))
            .get("/shards", routes::shards(move || shards.shard_rows()));
        #[cfg(feature = "prometheus")]
        for path in ["/metrics", "/stats/prometheus"] {
            let registry = Arc::clone(&self.running.shared.registry);
            let renderer = Arc::clone(&self.renderer);
            builder = builder.get(path, routes::metrics(move || renderer.render(&registry)));
        }
        for route in &self.extra {
            builder = match route {
                Route::Get(path, handler) => builder.get(path, of(handler)),
                Route::Post(path, handler) => builder.post(path, of(handler)),
            };
        }
        builder
    }
}

fn of(handler: &Handler) -> impl Fn(&Request) -> Response + Send + Sync + 'static {
    let handler = Arc::clone(handler);
    move |request| handler(request)
}

impl Telemetry {
    /// The addresses on which it really listens.
    pub(super) fn local_addrs(&self) -> &[SocketAddr] {
        self.server.as_ref().map_or(&[], Server::local_addrs)
    }
}

/// Reads addresses as an embedder gives them.
pub(super) fn parse(what: &str, texts: &[String]) -> Result<Vec<SocketAddr>, Error> {
    let parse = |text: &String| {
        let wrong = |_| Error::Invalid(format!("the {what} address {text:?} is no ip:port"));
        text.parse().map_err(wrong)
    };
    texts.iter().map(parse).collect()
}

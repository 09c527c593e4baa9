//! What the sidecar adds to the admin server of the library. In: requests, on the admin server's
//! threads. Out: events for the supervisor, and answers. It decides nothing and never touches the
//! proxy: a handler that ended it would wait for itself.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    time::Duration,
};

use evenkeel::{
    Builder,
    admin::{Request, Response, routes::certificates},
};

use super::{
    clusters::Clusters,
    credentials::AllCredentials,
    event::Event,
    kept::{Kept, Prepared},
    log::Log,
    status,
};
use crate::config::Config;

/// How long a client waits for a reload before it is told that it goes on.
const RELOAD_WITHIN: Duration = Duration::from_secs(30);

/// What is in force, the configuration and what was made of it: the supervisor replaces it, the admin
/// server shows it.
#[derive(Clone)]
pub(super) struct InForce(Arc<Mutex<State>>);

#[derive(Clone)]
struct State {
    config: Arc<Config>,
    clusters: Clusters,
    credentials: AllCredentials,
}

impl InForce {
    pub(super) fn new(config: Config, prepared: &Prepared) -> InForce {
        InForce(Arc::new(Mutex::new(State {
            config: Arc::new(config),
            clusters: prepared.clusters.clone(),
            credentials: prepared.credentials.clone(),
        })))
    }

    pub(super) fn get(&self) -> Arc<Config> {
        Arc::clone(&self.lock().config)
    }

    pub(super) fn set(&self, config: Config, kept: &Kept) {
        let (clusters, credentials) = (kept.clusters().clone(), kept.credentials().clone());
        *self.lock() = State { config: Arc::new(config), clusters, credentials };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds the routes.
pub(super) fn routes(
    builder: Builder,
    events: &Sender<Event>,
    in_force: &InForce,
    log: &Log,
) -> Builder {
    let (drains, quits, reloads) = (events.clone(), events.clone(), events.clone());
    let (of_clusters, of_certificates) = (in_force.clone(), in_force.clone());
    let (in_force, log) = (in_force.clone(), log.clone());
    builder
        .get("/clusters", move |_| {
            let State { config, clusters, .. } = of_clusters.lock().clone();
            status::clusters(&config, &clusters)
        })
        .get(
            "/certs",
            certificates(move || {
                let State { config, credentials, .. } = of_certificates.lock().clone();
                credentials.rows(&config)
            }),
        )
        .get("/config_dump", move |_| config_dump(&in_force.get()))
        .post("/drain", move |request| drain(request, &drains))
        .post("/quitquitquit", move |_| tell(&quits, Event::Quit, 200, "ending\n"))
        .post("/reload", move |_| reload(&reloads))
        .post("/logging", move |request| logging(request, &log))
}

fn config_dump(config: &Config) -> Response {
    match config.dump() {
        Ok(json) => Response::json(200, json + "\n"),
        Err(error) => Response::text(500, format!("cannot show the configuration: {error}\n")),
    }
}

fn drain(request: &Request, events: &Sender<Event>) -> Response {
    let exit = match request.query("exit") {
        None | Some("true") => true,
        Some("false") => false,
        Some(other) => {
            return Response::text(400, format!("exit is true or false, not {other:?}\n"));
        }
    };
    tell(events, Event::Drain { exit }, 202, "draining\n")
}

fn reload(events: &Sender<Event>) -> Response {
    let (reply, answer) = mpsc::channel();
    if events.send(Event::Reload(Some(reply))).is_err() {
        return ending();
    }
    match answer.recv_timeout(RELOAD_WITHIN) {
        Ok(Ok(warnings)) => Response::text(200, warnings + "reloaded\n"),
        Ok(Err(refusal)) => Response::text(400, refusal),
        Err(RecvTimeoutError::Timeout) => Response::text(503, "the reload still goes on\n"),
        Err(RecvTimeoutError::Disconnected) => ending(),
    }
}

fn logging(request: &Request, log: &Log) -> Response {
    let Some(level) = request.query("level") else {
        return Response::text(400, "say which level: /logging?level=debug\n");
    };
    match log.set(level) {
        Ok(()) => Response::text(200, format!("logging at {level}\n")),
        Err(error) => Response::text(400, format!("{error}\n")),
    }
}

fn tell(events: &Sender<Event>, event: Event, status: u16, text: &str) -> Response {
    match events.send(event) {
        Ok(()) => Response::text(status, text),
        Err(_) => ending(),
    }
}

fn ending() -> Response {
    Response::text(503, "the sidecar is ending\n")
}

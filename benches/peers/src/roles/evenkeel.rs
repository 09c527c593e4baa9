//! The library: a relay or an HTTP proxy of some shards.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel::accept::Balance;
use evenkeel::http::{self, Filter, Flow, RequestHead, Routes};
use evenkeel::shard::Shard;
use evenkeel::telemetry::access_log::AccessLog;
use evenkeel::tls::credentials::{ClientSettings, OwnCertificate, ServerSettings, Trust, Version};
use evenkeel::tls::{self, ClientCredentials, ServerCredentials};
use evenkeel::upstream::{cluster::Cluster, settings::ClusterSettings};
use evenkeel::{AcceptorPlacement, Connection, Driver, Listener, Proxy, Relay, ServiceFactory};
use rustls::pki_types::ServerName;

use super::Role;
use crate::credentials::{AUTHORITY, CLIENT, SERVER, SERVER_NAME};
use crate::peers::{Job, Protocol, Side, Tls};
use crate::work::Work;

/// How long the last lines of the access log may take.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// Serves until standard input ends.
///
/// # Errors
/// Whatever keeps the proxy from starting.
pub(super) fn run(role: Role, job: &Job) -> io::Result<Work> {
    let mut builder = Proxy::builder().shards(job.workers).acceptor_placement(match role {
        Role::EvenkeelOnShard => AcceptorPlacement::OnShard,
        Role::EvenkeelOwnThread => AcceptorPlacement::OwnThread,
        _ => AcceptorPlacement::Auto,
    });
    if role == Role::EvenkeelKernel {
        builder = builder.balance(Balance::Kernel);
    }
    if role == Role::EvenkeelEpoll {
        builder = builder.driver(Driver::Epoll);
    }
    let log = job.access_log.as_ref().map(AccessLog::file).transpose()?;
    let listeners = match job.protocol {
        Protocol::Relay => listeners(job, || Relay::to([job.upstream.to_string()])),
        Protocol::Http => web(job, log.as_ref()),
    };
    for listener in listeners? {
        builder = builder.listener(listener);
    }
    let proxy = builder.start().map_err(io::Error::other)?;
    io::stdin().read_to_end(&mut Vec::new())?;
    let cells: Vec<_> = (0..job.workers).map(|shard| proxy.registry().shard(shard)).collect();
    drop(proxy);
    if log.is_some_and(|log| !log.flush(FLUSH_LIMIT)) {
        eprintln!("peers: lines of the access log are lost");
    }
    Ok(Work {
        turns: cells.iter().map(|cells| cells.turn_duration.snapshot().count()).sum(),
        completions: cells.iter().map(|cells| cells.completions.value()).sum(),
    })
}

/// One for each address, or one with a destination for each where connections are redirected.
fn listeners<S: ServiceFactory>(job: &Job, serve: impl Fn() -> S) -> io::Result<Vec<Listener>> {
    let bind =
        |address: &SocketAddr| Listener::bind(&address.to_string()).map_err(io::Error::other);
    let Some(redirected_to) = job.redirected_to else {
        return job.listen.iter().map(|address| Ok(bind(address)?.serve(serve()))).collect();
    };
    let redirected =
        job.listen.iter().fold(bind(&redirected_to)?.redirected(), |listener, address| {
            listener.destination(&address.to_string(), serve())
        });
    Ok(vec![redirected])
}

fn web(job: &Job, log: Option<&AccessLog>) -> io::Result<Vec<Listener>> {
    let origin = origin(job)?;
    let proxy = || {
        let proxy = http::proxy(Routes::to(origin.clone()));
        log.cloned().into_iter().fold(proxy, http::Proxy::access_log)
    };
    let time = Duration::from_micros(job.filter_micros);
    match &job.tls {
        Some(tls) if tls.side != Side::Upstream => {
            let credentials = server(tls)?;
            listeners(job, || tls::terminate(credentials.clone(), proxy()))
        }
        _ if time.is_zero() => listeners(job, proxy),
        _ => listeners(job, || proxy().filter(move |_: &Shard| Busy { time })),
    }
}

fn origin(job: &Job) -> io::Result<Arc<Cluster>> {
    let mut settings = ClusterSettings::builder("origin").endpoint(&job.upstream.to_string());
    if let Some(Tls { side: Side::Upstream, credentials }) = &job.tls {
        settings = settings.tls(client(credentials)?);
    }
    Ok(Cluster::new(settings.build().map_err(io::Error::other)?, Instant::now(), 0))
}

fn server(tls: &Tls) -> io::Result<ServerCredentials> {
    let mut settings = ServerSettings::new(own(&tls.credentials, SERVER));
    settings.clients = (tls.side == Side::MutualClients).then(|| authority(&tls.credentials));
    settings.oldest_version = Version::Tls13;
    ServerCredentials::load("server", settings).map_err(io::Error::other)
}

fn client(folder: &Path) -> io::Result<ClientCredentials> {
    let mut settings = ClientSettings::new(authority(folder));
    settings.own = Some(own(folder, CLIENT));
    settings.server_name = Some(ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?);
    settings.oldest_version = Version::Tls13;
    ClientCredentials::load("client", settings).map_err(io::Error::other)
}

fn own(folder: &Path, file: &str) -> OwnCertificate {
    let key = folder.join(format!("{file}.key"));
    OwnCertificate { certificate: folder.join(file).into(), key: key.into() }
}

fn authority(folder: &Path) -> Trust {
    Trust::any(folder.join(AUTHORITY))
}

/// Spends CPU time on each request.
struct Busy {
    time: Duration,
}

impl Filter for Busy {
    type State = ();

    async fn request(&self, _: &mut RequestHead, _: &Connection, (): &mut ()) -> Flow {
        let started = Instant::now();
        while started.elapsed() < self.time {
            std::hint::spin_loop();
        }
        Flow::Continue
    }
}

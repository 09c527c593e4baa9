//! The library: a relay or an HTTP proxy of some shards.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel::accept::Balance;
use evenkeel::http::{self, Filter, Flow, RequestHead, Routes};
use evenkeel::shard::Shard;
use evenkeel::upstream::{cluster::Cluster, settings::ClusterSettings};
use evenkeel::{AcceptorPlacement, Connection, Driver, Listener, Proxy, Relay, ServiceFactory};

use super::Role;
use crate::peers::{Job, Protocol};
use crate::work::Work;

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
    let relay = || Relay::to([job.upstream.to_string()]);
    for listener in match job.protocol {
        Protocol::Relay => listeners(job, relay)?,
        Protocol::Http if job.filter_micros > 0 => {
            let time = Duration::from_micros(job.filter_micros);
            let origin = origin(job)?;
            let web = || http::proxy(Routes::to(origin.clone()));
            listeners(job, || web().filter(move |_: &Shard| Busy { time }))?
        }
        Protocol::Http => {
            let origin = origin(job)?;
            listeners(job, || http::proxy(Routes::to(origin.clone())))?
        }
    } {
        builder = builder.listener(listener);
    }
    let proxy = builder.start().map_err(io::Error::other)?;
    io::stdin().read_to_end(&mut Vec::new())?;
    let cells: Vec<_> = (0..job.workers).map(|shard| proxy.registry().shard(shard)).collect();
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

fn origin(job: &Job) -> io::Result<Arc<Cluster>> {
    let settings = ClusterSettings::builder("origin").endpoint(&job.upstream.to_string()).build();
    Ok(Cluster::new(settings.map_err(io::Error::other)?, Instant::now(), 0))
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

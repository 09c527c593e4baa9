//! What `sidecar` shows when it is given nothing to do: the same connections through the same
//! listeners, placed once by the kernel and once by least connections.
//!
//! In: nothing but loopback. Out: a live picture, then what was measured. It owns the proxies, the
//! clients and the origin, all in this process; it needs no privilege and no other program, and
//! reads no configuration.

mod identities;
mod load;
mod origin;
mod picture;
mod stage;

use std::{
    fmt, io,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use evenkeel::accept::Balance;

use self::{
    load::Load,
    picture::{Frame, Outcome, Screen},
    stage::Stage,
};

/// Fewer shards have little to be uneven about.
const LEAST_SHARDS: usize = 4;
/// More do not fit a terminal, nor their rings what an unprivileged user may lock (8 MiB by
/// default) twice over.
const MOST_SHARDS: usize = 16;
const CONNECTIONS_PER_SHARD: usize = 3;
/// How long each balance is shown.
const SHOWN: Duration = Duration::from_secs(3);
/// How long the drain waits for connections of others, such as a curl that is still going.
const DRAIN: Duration = Duration::from_secs(5);

/// Shows it; then stays up until SIGINT or SIGTERM, unless it is to be shown `once`.
///
/// # Errors
/// When io_uring or a socket is refused, or a client's connection fails.
pub(crate) fn run(once: bool) -> Result<(), Failed> {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let shards = cpus.clamp(LEAST_SHARDS, MOST_SHARDS);
    let connections = shards * CONNECTIONS_PER_SHARD;
    let mut screen = Screen::stdout();
    screen.say(introduction(cpus, shards, connections));
    let origin = origin::start().map_err(Failed::io("starting the origin"))?;

    let stage = Stage::start(Balance::Kernel, shards, origin)?;
    let (by_kernel, _) = show(&stage, connections, &mut screen)?;
    drop(stage);
    let stage = Stage::start(Balance::LeastConnections, shards, origin)?;
    let (by_connections, clients) = show(&stage, connections, &mut screen)?;

    screen.say(format_args!("\nConnections of each shard (spread: most minus fewest)\n"));
    screen.say(by_kernel);
    screen.say(by_connections);
    screen.say(format_args!("\nIdentities\n  inbound is {}\n", identities::INBOUND));
    for peer in stage.peers() {
        screen.say(format_args!("  inbound has verified {peer}\n"));
    }
    if once { Ok(()) } else { stay(&stage, clients, &mut screen) }
}

/// Drives connections through the stage and shows its shards meanwhile. The connections come back
/// open.
fn show(
    stage: &Stage,
    connections: usize,
    screen: &mut Screen<impl io::Write>,
) -> Result<(Outcome, Vec<TcpStream>), Failed> {
    let failed = Failed::io("driving connections through the proxies");
    let mut load = match Load::start(stage.address(), connections) {
        Ok(load) => load,
        Err(error) => return Err(failed(error)),
    };
    let started = Instant::now();
    screen.begin();
    while started.elapsed() < SHOWN {
        thread::sleep(screen.interval());
        let frame = Frame {
            balance: stage.balance(),
            elapsed: started.elapsed(),
            rate: load.answered() as f64 / started.elapsed().as_secs_f64(),
            carried: stage.carried(),
        };
        screen.draw(&frame);
    }
    let carried = stage.carried();
    let (rates, clients) = load.stop().map_err(failed)?;
    Ok((Outcome { balance: stage.balance().clone(), carried, rates }, clients))
}

fn stay(
    stage: &Stage,
    clients: Vec<TcpStream>,
    screen: &mut Screen<impl io::Write>,
) -> Result<(), Failed> {
    // From here on Ctrl-C drains.
    let mut termination = evenkeel::signal::terminate().map_err(Failed::Proxy)?;
    screen.say(format_args!(
        "\nStill up, with its {} connections open and quiet. Try:\n",
        clients.len()
    ));
    for admin in stage.admin() {
        for route in ["ready", "shards", "listeners", "metrics"] {
            screen.say(format_args!("  curl http://{admin}/{route}\n"));
        }
    }
    screen.say(format_args!("  curl http://{}/  (through both to the origin)\n", stage.address()));
    screen.say("Ctrl-C drains and ends.\n");
    termination.wait();
    drop(clients);
    let drained = stage.drain(DRAIN);
    screen.say(format_args!("\ndrained; {} connections were cut\n", drained.cut));
    Ok(())
}

fn introduction(cpus: usize, shards: usize, connections: usize) -> String {
    let mut text = format!(
        "clients -> outbound -> mutual TLS -> inbound -> origin, all on loopback and in this\n\
         process, with certificates of an authority that lives as long as it:\n\
         {connections} long-lived connections that ask again when they are answered,\n\
         two HTTP proxies of {shards} shards each, {cpus} {} for everything.\n\
         Between the two there are as many connections as requests need at a time.\n",
        if cpus == 1 { "CPU" } else { "CPUs" }
    );
    if cpus < shards {
        text.push_str(
            "There are more shards than CPUs, so that there is a spread to see; as they share\n\
             the CPUs, the rates say less than they would with a CPU for each shard.\n",
        );
    }
    text
}

/// Why the demonstration could not be shown.
#[derive(Debug)]
pub(crate) enum Failed {
    /// A proxy did not start.
    Proxy(evenkeel::Error),
    /// Something around the proxies failed.
    Io {
        /// What was being done.
        doing: &'static str,
        source: io::Error,
    },
}

impl Failed {
    fn io(doing: &'static str) -> impl Fn(io::Error) -> Failed {
        move |source| Failed::Io { doing, source }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Proxy(error) => error.fmt(f),
            Failed::Io { doing, source } => write!(f, "{doing}: {source}"),
        }
    }
}

impl std::error::Error for Failed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Failed::Proxy(error) => Some(error),
            Failed::Io { source, .. } => Some(source),
        }
    }
}

impl From<evenkeel::Error> for Failed {
    fn from(error: evenkeel::Error) -> Failed {
        Failed::Proxy(error)
    }
}

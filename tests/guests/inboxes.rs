//! Shards that are a function with an inbox: a loop around poll(2), and some that misbehave.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::fd::AsFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, mpsc},
    task::Poll,
    thread,
    time::Duration,
};

use evenkeel::{
    Drain, Error, Proxy,
    guests::{Inbox, Shards},
    shard::Balanced,
};
use futures_lite::future::block_on;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{RecvFlags, recv},
};

use crate::stage::{Config, Running, eventually, every_guest, has_ended, whence};

every_guest!(start);

/// No executor at all: poll(2) over the inbox and its connections.
fn start(config: Config) -> Result<Proxy, Error> {
    config.builder(Shards::builder()).start(|mut inbox: Inbox| {
        let mut open: Vec<Balanced<TcpStream>> = Vec::new();
        loop {
            loop {
                match inbox.try_receive() {
                    Poll::Ready(Some(connection)) => open.push(connection.map(TcpStream::from)),
                    Poll::Ready(None) => return,
                    Poll::Pending => break,
                }
            }
            let ready = wait(&inbox, &open);
            let mut ready = ready.into_iter();
            let panics = inbox.shard().registry().shard(inbox.shard().index());
            open.retain_mut(|connection| {
                if !ready.next().unwrap() {
                    return true;
                }
                let served = catch_unwind(AssertUnwindSafe(|| serve(connection)));
                if served.is_err() {
                    panics.tasks_panicked.increment();
                }
                served.is_ok_and(|served| served.unwrap_or(false))
            });
        }
    })
}

/// Waits until the inbox or a connection is readable; says which connections are.
fn wait(inbox: &Inbox, open: &[Balanced<TcpStream>]) -> Vec<bool> {
    let descriptors = open.iter().map(AsFd::as_fd).chain([inbox.as_fd()]);
    let mut descriptors: Vec<_> =
        descriptors.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    rustix::io::retry_on_intr(|| poll(&mut descriptors, None)).unwrap();
    descriptors[..open.len()].iter().map(|polled| !polled.revents().is_empty()).collect()
}

/// Serves what has arrived. Whether the connection goes on.
fn serve(connection: &mut Balanced<TcpStream>) -> std::io::Result<bool> {
    let mut buffer = [0; 1024];
    let length = connection.read(&mut buffer)?;
    let answer = match &buffer[..length] {
        b"" => return Ok(false),
        b"panic" => panic!("asked for"),
        b"whence" => whence(connection).into_bytes(),
        b"work" => {
            while recv(&*connection, &mut [0], RecvFlags::DONTWAIT).is_err() {
                std::hint::spin_loop();
            }
            return Ok(false);
        }
        other => other.to_vec(),
    };
    connection.write_all(&answer)?;
    Ok(true)
}

/// A proxy whose first shard does not take what it is given: it hands its inbox to the test. The
/// others greet every connection and keep it.
fn with_a_lazy_shard(shards: usize) -> (Running, LazyShard) {
    let (give, take) = mpsc::channel::<mpsc::Sender<Lazily>>();
    let take = Mutex::new(take);
    let start = move |mut inbox: Inbox| {
        if inbox.shard().index() != 0 {
            return greet(&mut inbox);
        }
        let (tell, told) = mpsc::channel();
        give.send(tell).unwrap();
        match told.recv() {
            Ok(Lazily::Serve) => greet(&mut inbox),
            Ok(Lazily::Panic) => panic!("asked for"),
            Ok(Lazily::Leave) | Err(_) => {}
        }
    };
    let proxy = Config::shards(shards).builder(Shards::builder()).start(start).unwrap();
    let address = proxy.local_addr("front").unwrap();
    let tell = take.lock().unwrap().recv().unwrap();
    (Running { proxy, address }, LazyShard(tell))
}

struct LazyShard(mpsc::Sender<Lazily>);

/// What the lazy shard does in the end.
enum Lazily {
    Serve,
    Leave,
    Panic,
}

fn greet(inbox: &mut Inbox) {
    let mut open = Vec::new();
    while let Some(connection) = block_on(inbox.receive()) {
        let mut connection = connection.map(TcpStream::from);
        connection.write_all(b"hello").unwrap();
        open.push(connection);
    }
}

/// More than an inbox holds, over two shards.
const MANY: usize = 2 * 1024 + 300;

/// Opens many connections, of which a lazy shard gets as many as its inbox holds.
fn fill(running: &Running) -> Vec<TcpStream> {
    let _ = evenkeel::limits::raise_open_files();
    let clients: Vec<_> = (0..MANY).map(|_| running.connect()).collect();
    eventually("they are handed over", || running.loads() == [1024, MANY as u32 - 1024]);
    clients
}

fn is_greeted(client: &mut TcpStream) -> bool {
    client.read_exact(&mut [0; 5]).is_ok()
}

#[test]
fn a_shard_that_takes_nothing_loses_nothing_and_takes_it_later() {
    let (running, lazy) = with_a_lazy_shard(2);
    let mut clients = fill(&running);
    assert!(running.proxy.ready().unwrap_err().contains("shard 0 does not answer"));
    lazy.0.send(Lazily::Serve).unwrap();
    assert!(clients.iter_mut().all(is_greeted));
    running.proxy.ready().unwrap();
}

#[test]
fn an_inbox_that_is_dropped_leaves_its_connections_to_the_others() {
    for lazily in [Lazily::Leave, Lazily::Panic] {
        let (running, lazy) = with_a_lazy_shard(2);
        let mut clients: Vec<_> = (0..100).map(|_| running.connect()).collect();
        eventually("they are handed over", || running.loads() == [50, 50]);
        lazy.0.send(lazily).unwrap();
        assert!(clients.iter_mut().all(is_greeted));
        assert_eq!(running.loads(), [0, 100]);
        assert!(running.proxy.ready().is_err());
        assert!(is_greeted(&mut running.connect()), "the balance goes on without it");
        assert_eq!(running.loads(), [0, 101]);
    }
}

#[test]
fn what_the_only_shard_has_not_taken_stays_in_the_kernels_queue() {
    let (running, lazy) = with_a_lazy_shard(1);
    let mut clients = vec![running.connect()];
    running.until_loads_are(&[1]);
    clients.extend((1..500).map(|_| running.connect()));
    thread::sleep(Duration::from_millis(50));
    assert_eq!(running.loads(), [1]);
    lazy.0.send(Lazily::Serve).unwrap();
    assert!(clients.iter_mut().all(is_greeted));
    assert_eq!(running.loads(), [500]);
}

#[test]
fn a_drain_takes_what_the_only_shard_has_not() {
    let (running, lazy) = with_a_lazy_shard(1);
    let mut clients: Vec<_> = (0..100).map(|_| running.connect()).collect();
    let serve = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        lazy.0.send(Lazily::Serve).unwrap();
        assert!(clients.iter_mut().all(is_greeted));
    });
    let drained = running.proxy.drain(Drain::within(Duration::from_millis(500)));
    assert_eq!((drained.open, drained.cut), (100, 100), "they are served, and stay");
    serve.join().unwrap();
}

#[test]
fn no_client_waits_for_the_only_shard_once_that_is_gone() {
    for lazily in [Lazily::Leave, Lazily::Panic] {
        let (running, lazy) = with_a_lazy_shard(1);
        let mut clients: Vec<_> = (0..100).map(|_| running.connect()).collect();
        eventually("some are handed over", || running.loads()[0] > 0);
        lazy.0.send(lazily).unwrap();
        assert!(clients.iter_mut().all(has_ended));
        running.until_loads_are(&[0]);
        assert!(has_ended(&mut running.connect()));
    }
}

#[test]
fn one_ring_of_the_doorbell_stands_for_many_connections() {
    let (inboxes, inbox) = mpsc::channel();
    let done = Arc::new(Mutex::new(()));
    let until = Arc::clone(&done);
    let hold = done.lock().unwrap();
    let start = move |mut inbox: Inbox| {
        // While another shard takes what it is given, this one is given more than it has taken.
        if inbox.shard().index() != 0 {
            return greet(&mut inbox);
        }
        let mut received = Vec::new();
        assert!(inbox.try_receive().is_pending());
        while received.len() < 10 {
            let mut rung = [PollFd::new(&inbox, PollFlags::IN)];
            rustix::io::retry_on_intr(|| poll(&mut rung, None)).unwrap();
            while let Poll::Ready(Some(connection)) = inbox.try_receive() {
                received.push(connection);
            }
            // Silent until there is something again.
            let mut rung = [PollFd::new(&inbox, PollFlags::IN)];
            let none = poll(&mut rung, Some(&Timespec::default())).unwrap() == 0;
            inboxes.send((received.len(), none)).unwrap();
            drop(until.lock());
        }
    };
    let proxy = Config::shards(2).builder(Shards::builder()).start(start).unwrap();
    let address = proxy.local_addr("front").unwrap();
    let running = Running { proxy, address };
    let first: Vec<_> = (0..2).map(|_| running.connect()).collect();
    assert_eq!(inbox.recv().unwrap().0, 1);
    // These come while it looks elsewhere.
    let others: Vec<_> = (0..18).map(|_| running.connect()).collect();
    running.until_loads_are(&[10, 10]);
    drop(hold);
    let (received, _) = inbox.recv().unwrap();
    assert_eq!(received, 10, "at once");
    drop((first, others));
}

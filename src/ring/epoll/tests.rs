//! The driver under a reactor, with real sockets on loopback.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use socket2::SockRef;

use super::{ACCEPTS, EpollDriver, SHARE};
use crate::{
    ring::{Chunk, Key, Pool, Reactor, Wait},
    sys::dial::UpstreamOptions,
};

const CREDIT: u32 = 256 << 10;

struct Stage {
    reactor: Reactor,
    pool: Rc<Pool>,
}

/// What a stream has given: bytes, and how it ended.
#[derive(Default)]
struct Got {
    bytes: Vec<u8>,
    end: Option<std::io::Result<()>>,
}

impl Stage {
    fn new(buffers: u16) -> Stage {
        let pool = Pool::new(buffers, 4096).unwrap();
        let pools = vec![Rc::clone(&pool), Pool::new(1, 1 << 20).unwrap()];
        let driver = EpollDriver::new(&pools).unwrap();
        Stage { reactor: Reactor::new(Box::new(driver), pools), pool }
    }

    fn poll(&self, key: Key) -> Poll<std::io::Result<Option<Chunk>>> {
        self.reactor.poll_receive(key, &mut Context::from_waker(Waker::noop()))
    }

    fn turn(&self) {
        self.reactor.turn(Wait::No).unwrap();
    }

    /// Takes what is there of a stream.
    fn take(&self, key: Key, got: &mut Got) {
        while got.end.is_none() {
            match self.poll(key) {
                Poll::Pending => return,
                Poll::Ready(Ok(Some(chunk))) => got.bytes.extend_from_slice(&chunk),
                Poll::Ready(Ok(None)) => got.end = Some(Ok(())),
                Poll::Ready(Err(error)) => got.end = Some(Err(error)),
            }
        }
    }

    /// Turns and takes until `done`, for a few seconds at most.
    fn take_until(&self, key: Key, done: impl Fn(&Got) -> bool) -> Got {
        let mut got = Got::default();
        let began = Instant::now();
        while !done(&got) {
            assert!(began.elapsed() < Duration::from_secs(5), "only {} bytes", got.bytes.len());
            let soon = self.reactor.clock() + 10_000_000;
            self.reactor.turn(Wait::Until(soon)).unwrap();
            self.take(key, &mut got);
        }
        got
    }

    fn adopt(&self) -> (TcpStream, Key) {
        let (peer, socket) = pair();
        (peer, self.reactor.adopt_stream(socket, CREDIT))
    }
}

fn pair() -> (TcpStream, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_nodelay(true).unwrap();
    (client, listener.accept().unwrap().0.into())
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

fn kind(got: Got) -> Option<std::io::ErrorKind> {
    got.end.unwrap().err().map(|error| error.kind())
}

#[test]
fn what_waits_for_bytes_holds_no_buffer() {
    let stage = Stage::new(4);
    let streams: Vec<_> = (0..20).map(|_| stage.adopt()).collect();
    for (_, key) in &streams {
        assert!(stage.poll(*key).is_pending());
    }
    stage.turn();
    assert_eq!((stage.pool.available(), stage.pool.lent()), (4, 0));
    (&streams[7].0).write_all(b"here").unwrap();
    let got = stage.take_until(streams[7].1, |got| !got.bytes.is_empty());
    assert_eq!(got.bytes, b"here");
}

#[test]
fn a_busy_stream_has_its_share_of_a_turn_and_no_more() {
    let stage = Stage::new(128);
    let (mut busy, busy_key) = stage.adopt();
    let (mut quiet, quiet_key) = stage.adopt();
    assert!(stage.poll(busy_key).is_pending() && stage.poll(quiet_key).is_pending());
    busy.write_all(&[1; 3 * SHARE as usize]).unwrap();
    quiet.write_all(b"q").unwrap();
    thread::sleep(Duration::from_millis(20));
    let before = stage.pool.available();
    let mut got = Got::default();
    while got.bytes.is_empty() {
        stage.turn();
        stage.take(quiet_key, &mut got);
    }
    let taken = before - stage.pool.available();
    assert!(taken <= SHARE as usize / 4096, "{taken} buffers while another waited");
    let all = stage.take_until(busy_key, |got| got.bytes.len() == 3 * SHARE as usize);
    assert!(all.end.is_none());
}

#[test]
fn no_more_is_received_than_there_is_credit_for() {
    let stage = Stage::new(256);
    let (peer, socket) = pair();
    let key = stage.reactor.adopt_stream(socket, 10_000);
    assert!(stage.poll(key).is_pending());
    (&peer).write_all(&[7; 100_000]).unwrap();
    thread::sleep(Duration::from_millis(20));
    for _ in 0..50 {
        stage.turn();
    }
    assert_eq!(256 - stage.pool.available(), 3, "buffers for 10,000 bytes");
    let got = stage.take_until(key, |got| got.bytes.len() == 100_000);
    assert!(got.bytes.iter().all(|byte| *byte == 7));
}

#[test]
fn an_end_and_a_reset_come_behind_the_bytes_before_them() {
    let stage = Stage::new(16);
    for (ended, expected) in [(false, Some(std::io::ErrorKind::ConnectionReset)), (true, None)] {
        let (peer, key) = stage.adopt();
        (&peer).write_all(b"last words").unwrap();
        if ended {
            drop(peer)
        } else {
            reset(peer)
        }
        let got = stage.take_until(key, |got| got.end.is_some());
        assert_eq!(got.bytes, b"last words");
        assert_eq!(kind(got), expected);
    }
}

#[test]
fn bytes_behind_urgent_data_need_no_other_arrival() {
    let stage = Stage::new(16);
    let (peer, key) = stage.adopt();
    (&peer).write_all(b"before").unwrap();
    SockRef::from(&peer).send_out_of_band(b"!").unwrap();
    (&peer).write_all(b"behind").unwrap();
    thread::sleep(Duration::from_millis(20));
    let got = stage.take_until(key, |got| got.bytes.len() >= 12);
    assert_eq!(got.bytes, b"beforebehind");
}

#[test]
fn what_the_socket_does_not_take_at_once_leaves_in_order() {
    let stage = Stage::new(16);
    let (mut peer, key) = stage.adopt();
    let pieces: Vec<Vec<u8>> = (0..60_u8).map(|piece| vec![piece; 200_000]).collect();
    for piece in &pieces {
        stage.reactor.send(key, piece.clone().into()).unwrap();
    }
    let all = pieces.concat();
    let expected = all.len();
    let reader = thread::spawn(move || {
        let mut bytes = vec![0; expected];
        peer.read_exact(&mut bytes).unwrap();
        bytes
    });
    let mut cx = Context::from_waker(Waker::noop());
    while stage.reactor.poll_flushed(key, &mut cx).is_pending() {
        let soon = stage.reactor.clock() + 10_000_000;
        stage.reactor.turn(Wait::Until(soon)).unwrap();
    }
    assert!(reader.join().unwrap() == all);
}

#[test]
fn everything_in_flight_ends_when_it_is_let_go() {
    let stage = Stage::new(16);
    let (peer, key) = stage.adopt();
    assert!(stage.poll(key).is_pending());
    for _ in 0..3 {
        stage.reactor.send(key, vec![0; 8 << 20].into()).unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let listening = stage.reactor.adopt_listener(listener.into());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(stage.reactor.poll_accept(listening, &mut cx).is_pending());
    stage.turn();
    assert_eq!(stage.reactor.wind_down(Duration::from_secs(1)), 0);
    assert_eq!(stage.pool.available(), 16);
    // What was not sent makes it a reset.
    let mut bytes = Vec::new();
    let error = (&peer).read_to_end(&mut bytes).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// A duplicate keeps a closed socket in the epoll instance.
#[test]
fn news_of_a_socket_that_is_gone_reach_nobody() {
    let stage = Stage::new(16);
    let (old_peer, socket) = pair();
    let duplicate = socket.try_clone().unwrap();
    let old = stage.reactor.adopt_stream(socket, CREDIT);
    assert!(stage.poll(old).is_pending());
    stage.turn();
    stage.reactor.release(old);
    stage.turn();
    let (peer, new) = stage.adopt();
    assert_eq!(new.index, old.index, "the slot is used again");
    assert!(stage.poll(new).is_pending());
    (&old_peer).write_all(b"old").unwrap();
    (&peer).write_all(b"new").unwrap();
    let got = stage.take_until(new, |got| !got.bytes.is_empty());
    assert_eq!(got.bytes, b"new");
    drop(duplicate);
}

#[test]
fn a_doorbell_ends_a_sleep_each_time() {
    let stage = Stage::new(1);
    for _ in 0..3 {
        let doorbell = stage.reactor.doorbell();
        let began = Instant::now();
        let ringer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            doorbell.ring().unwrap();
        });
        stage.reactor.turn(Wait::Forever).unwrap();
        assert!(began.elapsed() >= Duration::from_millis(15), "it slept until then");
        ringer.join().unwrap();
    }
}

#[test]
fn a_sleep_ends_at_its_time() {
    let stage = Stage::new(1);
    let deadline = stage.reactor.clock() + 20_500_000;
    stage.reactor.turn(Wait::Until(deadline)).unwrap();
    assert!(stage.reactor.clock() >= deadline);
}

#[test]
fn connections_are_accepted_in_batches_until_that_is_stopped() {
    let stage = Stage::new(1);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Others hold the socket too, as a proxy does.
    let key = stage.reactor.adopt_listener(listener.as_fd().try_clone_to_owned().unwrap());
    let mut cx = Context::from_waker(Waker::noop());
    let clients: Vec<_> = (0..ACCEPTS + 10).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert!(stage.reactor.poll_accept(key, &mut cx).is_pending());
    let mut batches = Vec::new();
    while batches.iter().sum::<usize>() < clients.len() {
        stage.turn();
        let mut batch = 0;
        while let Some(accepted) = stage.reactor.take_accepted(key) {
            accepted.unwrap();
            batch += 1;
        }
        batches.push(batch);
        assert!(batches.len() < 100, "{batches:?}");
    }
    assert!(batches.iter().all(|batch| *batch <= ACCEPTS), "{batches:?}");
    assert!(stage.reactor.poll_stop_accepting(key, &mut cx).is_pending());
    stage.turn();
    assert!(stage.reactor.poll_stop_accepting(key, &mut cx).is_ready());
    let _late = TcpStream::connect(address).unwrap();
    for _ in 0..3 {
        stage.turn();
    }
    assert!(stage.reactor.take_accepted(key).is_none(), "it waits in the kernel");
    assert!(stage.reactor.poll_accept(key, &mut cx).is_pending());
    stage.turn();
    assert!(stage.reactor.take_accepted(key).is_some());
}

#[test]
fn connecting_ends_as_it_went() {
    let stage = Stage::new(4);
    let mut cx = Context::from_waker(Waker::noop());
    let mut connect = |address| {
        let key = stage.reactor.connect(address, &UpstreamOptions::default(), CREDIT).unwrap();
        loop {
            let soon = stage.reactor.clock() + 10_000_000;
            if let Poll::Ready(result) = stage.reactor.poll_connected(key, &mut cx) {
                return (key, result);
            }
            stage.reactor.turn(Wait::Until(soon)).unwrap();
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let peer = thread::spawn(move || {
        let (peer, _) = listener.accept().unwrap();
        (&peer).write_all(b"hello").unwrap();
        reset(peer);
    });
    let (key, connected) = connect(address);
    connected.unwrap();
    let got = stage.take_until(key, |got| got.end.is_some());
    assert_eq!(got.bytes, b"hello");
    assert_eq!(kind(got), Some(std::io::ErrorKind::ConnectionReset));
    peer.join().unwrap();
    let (_, refused) = connect(address);
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

/// The reset comes before the driver has seen that it is connected.
#[test]
fn bytes_before_a_reset_are_not_lost_to_connecting() {
    let stage = Stage::new(4);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let key = stage.reactor.connect(address, &UpstreamOptions::default(), CREDIT).unwrap();
    let (peer, _) = listener.accept().unwrap();
    (&peer).write_all(b"hello").unwrap();
    reset(peer);
    thread::sleep(Duration::from_millis(20));
    stage.turn();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(stage.reactor.poll_connected(key, &mut cx), Poll::Ready(Ok(()))));
    let got = stage.take_until(key, |got| got.end.is_some());
    assert_eq!(got.bytes, b"hello");
    assert_eq!(kind(got), Some(std::io::ErrorKind::ConnectionReset));
}

#[test]
fn streams_that_find_no_buffer_get_theirs_in_turn() {
    let stage = Stage::new(1);
    let streams: Vec<_> = (0..4).map(|_| stage.adopt()).collect();
    for (peer, key) in &streams {
        assert!(stage.poll(*key).is_pending());
        (&mut &*peer).write_all(&[7; 10_000]).unwrap();
    }
    let mut got: Vec<Got> = streams.iter().map(|_| Got::default()).collect();
    let began = Instant::now();
    while got.iter().any(|got| got.bytes.len() < 10_000) {
        assert!(began.elapsed() < Duration::from_secs(5), "somebody starves");
        stage.reactor.turn(Wait::Until(stage.reactor.clock() + 10_000_000)).unwrap();
        for ((_, key), got) in streams.iter().zip(&mut got) {
            stage.take(*key, got);
        }
    }
    assert_eq!(stage.pool.available(), 1);
}

#[test]
fn an_operation_of_an_embedder_is_refused_with_the_reason() {
    let stage = Stage::new(1);
    let nop = io_uring::opcode::Nop::new().build();
    let error = stage.reactor.start_custom(nop, Box::new(())).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    assert!(error.to_string().contains("need io_uring"), "{error}");
    assert_eq!(stage.reactor.occupied(), 0);
}

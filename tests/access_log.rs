//! A relay's access log, over real sockets: one line a connection, however it ends, that says the
//! same as the metrics.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use evenkeel::{
    Drain, Listener, Proxy, Relay,
    relay::Timeouts,
    telemetry::{
        CloseReason,
        access_log::{AccessLog, Filter, Format},
    },
};
use serde_json::Value;
use socket2::SockRef;

const LONG: Duration = Duration::from_secs(20);

/// A proxy, and the lines of its log as they are written.
struct Stage {
    proxy: Proxy,
    address: SocketAddr,
    lines: mpsc::Receiver<Vec<u8>>,
    pending: Vec<Value>,
}

impl Stage {
    fn new(relay: Relay, filter: Filter) -> Stage {
        let (sender, lines) = mpsc::channel();
        let log = AccessLog::to(move |lines: &[u8]| {
            sender.send(lines.to_vec()).map_err(std::io::Error::other)
        });
        let log = log.unwrap().format(Format::json()).filter(filter);
        let relay = relay.cluster("origin").access_log(log);
        let listener = Listener::bind("127.0.0.1:0").unwrap().named("plain").serve(relay);
        let proxy = Proxy::builder().shards(1).listener(listener).start().unwrap();
        let address = proxy.local_addr("plain").unwrap();
        Stage { proxy, address, lines, pending: Vec::new() }
    }

    fn client(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    fn line(&mut self) -> Value {
        while self.pending.is_empty() {
            let lines = self.lines.recv_timeout(LONG).expect("a line is written");
            let lines = String::from_utf8(lines).unwrap();
            self.pending.extend(lines.lines().map(|line| serde_json::from_str(line).unwrap()));
        }
        self.pending.remove(0)
    }

    /// Waits until one connection has been closed, for this reason: its line may come before it is
    /// counted.
    fn assert_closed(&self, reason: CloseReason) {
        let cells = self.proxy.registry().listener("plain", 0);
        let deadline = Instant::now() + LONG;
        while cells.active.value() > 0 || cells.connections.value() == 0 {
            assert!(Instant::now() < deadline, "the connection is not closed");
            thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(cells.closed.value(reason), 1, "{reason}");
    }
}

/// Echoes what each connection sends until it ends.
fn echo_origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            thread::spawn(move || {
                let mut writer = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut stream, &mut writer);
            });
        }
    });
    address
}

fn exchange(client: &mut TcpStream, message: &[u8]) {
    client.write_all(message).unwrap();
    let mut answer = vec![0; message.len()];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer, message);
}

#[test]
fn a_connection_that_is_done_has_a_line_with_everything_in_it() {
    let origin = echo_origin();
    let mut stage = Stage::new(Relay::to([origin.to_string()]), Filter::all());
    let mut client = stage.client();
    let from = client.local_addr().unwrap();
    exchange(&mut client, b"hello");
    thread::sleep(Duration::from_millis(30));
    drop(client);
    let line = stage.line();
    for (key, expected) in [
        ("method", Value::Null),
        ("path", Value::Null),
        ("protocol", Value::Null),
        ("response_code", 0.into()),
        ("response_flags", "-".into()),
        ("response_code_details", Value::Null),
        ("connection_termination_details", Value::Null),
        ("upstream_transport_failure_reason", Value::Null),
        ("bytes_received", 5.into()),
        ("bytes_sent", 5.into()),
        ("upstream_host", origin.to_string().into()),
        ("upstream_cluster", "origin".into()),
        ("downstream_local_address", stage.address.to_string().into()),
        ("downstream_remote_address", from.to_string().into()),
    ] {
        assert_eq!(line[key], expected, "{key}");
    }
    let upstream_local = line["upstream_local_address"].as_str().unwrap();
    assert!(upstream_local.starts_with("127.0.0.1:"), "{upstream_local}");
    let duration = line["duration"].as_u64().unwrap();
    assert!((30..20_000).contains(&duration), "{duration} ms");
    stage.assert_closed(CloseReason::Done);
}

#[test]
fn an_upstream_that_refuses_is_named_with_the_reason() {
    // Bound, and not listening.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let nobody = socket.local_addr().unwrap().as_socket().unwrap();
    let mut stage = Stage::new(Relay::to([nobody.to_string()]), Filter::all());
    let _client = stage.client();
    let line = stage.line();
    assert_eq!(line["response_flags"], "UF");
    assert_eq!(line["connection_termination_details"], "upstream_failed");
    assert_eq!(line["upstream_host"], nobody.to_string());
    let reason = line["upstream_transport_failure_reason"].as_str().unwrap();
    assert!(reason.contains("refused"), "{reason}");
    stage.assert_closed(CloseReason::UpstreamFailed);
}

#[test]
fn a_client_that_resets_is_told_from_one_that_is_done() {
    let origin = echo_origin();
    let mut stage = Stage::new(Relay::to([origin.to_string()]), Filter::all());
    let mut client = stage.client();
    let from = client.local_addr().unwrap();
    exchange(&mut client, b"hello");
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    let line = stage.line();
    assert_eq!(line["response_flags"], "DC");
    assert_eq!(line["connection_termination_details"], "downstream_reset");
    assert_eq!(line["downstream_remote_address"], from.to_string(), "it was asked for in time");
    assert_eq!(line["bytes_received"], 5);
    stage.assert_closed(CloseReason::DownstreamReset);
}

#[test]
fn a_connection_that_was_idle_for_too_long_has_its_flag() {
    let origin = echo_origin();
    let mut timeouts = Timeouts::default();
    timeouts.idle = Some(Duration::from_millis(50));
    let relay = Relay::to([origin.to_string()]).timeouts(timeouts);
    let mut stage = Stage::new(relay, Filter::all());
    let _client = stage.client();
    let line = stage.line();
    assert_eq!(line["response_flags"], "SI");
    assert_eq!(line["connection_termination_details"], "idle_timeout");
}

#[test]
fn a_connection_that_a_drain_cuts_has_its_line_too() {
    let origin = echo_origin();
    let mut stage = Stage::new(Relay::to([origin.to_string()]), Filter::all());
    let mut client = stage.client();
    exchange(&mut client, b"hello");
    let drained = stage.proxy.drain(Drain::within(Duration::from_millis(50)));
    assert_eq!(drained.cut, 1);
    let line = stage.line();
    assert_eq!(line["response_flags"], "LR");
    assert_eq!(line["connection_termination_details"], "drain");
    assert_eq!(line["bytes_sent"], 5, "what had passed by then");
    stage.assert_closed(CloseReason::Drain);
}

#[test]
fn a_log_of_errors_has_no_line_for_what_went_well() {
    let origin = echo_origin();
    let mut stage = Stage::new(Relay::to([origin.to_string()]), Filter::all().errors());
    let mut good = stage.client();
    exchange(&mut good, b"hello");
    drop(good);
    stage.assert_closed(CloseReason::Done);
    let mut bad = stage.client();
    exchange(&mut bad, b"hello, again");
    SockRef::from(&bad).set_linger(Some(Duration::ZERO)).unwrap();
    drop(bad);
    assert_eq!(stage.line()["bytes_received"], 12, "the first line is the second connection's");
}

//! How connections to upstreams end: with a close_notify, as another implementation sees it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use evenkeel::{
    Listener, Proxy,
    http::{self, Routes},
    upstream::{
        cluster::Cluster,
        settings::{ClusterBuilder, ClusterSettings},
    },
};

use crate::{
    kernel,
    others::{Files, Running, have},
};

/// Answers requests, and tells how each connection ended.
const ORIGIN: &str = "
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('server.pem', 'server.key')
listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    with context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False) as tls:
        try:
            while tls.recv(4096):
                tls.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n' + sys.argv[1].encode() + b'\\r\\n')
            print('in order', flush=True)
        except ssl.SSLEOFError:
            print('cut', flush=True)
";

struct Stage {
    origin: Running,
    proxy: Proxy,
    address: SocketAddr,
    _files: Files,
}

impl Stage {
    /// A proxy in front of an origin whose answers have this field.
    fn new(field: &str, change: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Stage {
        let files = Files::new();
        let mut python = Command::new("python3");
        python.args(["-c", ORIGIN, field]).current_dir(files.directory());
        let mut origin = Running::start(&mut python);
        let port: u16 = origin.line().trim().parse().unwrap();
        let cluster = ClusterSettings::builder("secured").endpoint(&format!("127.0.0.1:{port}"));
        let cluster = change(cluster.tls(files.upstream())).build().unwrap();
        let web = http::proxy(Routes::to(Cluster::new(cluster, Instant::now(), 1)));
        let listener = Listener::bind("127.0.0.1:0").unwrap().named("web").serve(web);
        let builder = Proxy::builder().capabilities(kernel::capabilities()).shards(1);
        let proxy = builder.listener(listener).start().unwrap();
        let address = proxy.local_addr("web").unwrap();
        Stage { origin, proxy, address, _files: files }
    }

    fn ask(&self) -> TcpStream {
        let mut client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut status = [0; 13];
        client.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200 ");
        client
    }
}

#[test]
fn an_upstream_connection_that_nobody_needs_any_more_ends_in_order() {
    if !have("an_upstream_connection_that_nobody_needs_any_more_ends_in_order", &["python3"]) {
        return;
    }
    let briefly = Some(Duration::from_millis(50));
    let mut idle = Stage::new("", |cluster| cluster.pool_idle(briefly));
    let client = idle.ask();
    assert_eq!(idle.origin.line(), "in order\n", "idle for too long");
    drop(client);

    let mut asked_for = Stage::new("Connection: close\r\n", |cluster| cluster);
    let client = asked_for.ask();
    assert_eq!(asked_for.origin.line(), "in order\n", "the origin wants no other request");
    drop(client);

    let Stage { mut origin, proxy, _files, .. } = {
        let stage = Stage::new("", |cluster| cluster.pool_idle(None));
        drop(stage.ask());
        stage
    };
    drop(proxy);
    assert_eq!(origin.line(), "in order\n", "the proxy ends");
}

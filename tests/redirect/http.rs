//! The sidecar with `protocol = "http"`: requests go on to where their connection was going, whatever
//! they say themselves, and inbound never further than its own host.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
};

use crate::{
    netns::{IP, IPTABLES, Namespace, isolated},
    origin,
    sidecar_binary::SIDECAR,
    stage::{MARK, client_and_pod, dial, server_behind, visit_in_vain},
};

/// A sidecar, killed when the test is done.
struct Sidecar(Child);

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sidecar(pod: &Namespace, protocol: &str) -> Sidecar {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sidecar.toml");
    // With `auto`, CONNECT is not HTTP.
    let connect = if protocol == "http" { "http.connect = true\n" } else { "" };
    let config = format!(
        "shards = 2\n[[listener]]\nname = 'inbound'\nbind = '[::]:15006'\n\
         direction = 'inbound'\noriginal_dst = 'redirect'\nprotocol = '{protocol}'\n\
         {connect}[[listener]]\nname = 'outbound'\nbind = '[::]:15001'\noriginal_dst = 'redirect'\n\
         protocol = '{protocol}'\nmark = {MARK}\n{connect}"
    );
    fs::write(&file, config).unwrap();
    let mut command = Command::new(&*SIDECAR);
    command.args(["run", "--config"]).arg(&file).stdout(Stdio::piped());
    let mut sidecar = Sidecar(pod.run(|| command.spawn().unwrap()));
    let lines = BufReader::new(sidecar.0.stdout.take().unwrap()).lines();
    assert_eq!(lines.map_while(Result::ok).take(2).count(), 2, "it did not start");
    sidecar
}

/// Serves one request on each connection: says at which address, to whom, and what was asked.
fn serve_http(namespace: &Namespace, port: u16) {
    let any = SocketAddr::from(([0; 8], port));
    let listener = namespace.run(|| TcpListener::bind(any).unwrap());
    origin::serve(listener, |mut stream| {
        let (at, from) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
        let head: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        let (at, from) = (at.ip().to_canonical(), from.ip().to_canonical());
        let body = format!("{at} reached from {from}\n{}\n", head.join("\n"));
        let length = body.len();
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        let _ = stream.shutdown(Shutdown::Write);
    });
}

fn ask(namespace: &Namespace, destination: &str, request_line: &str, host: &str) -> String {
    let mut stream = dial(namespace, destination);
    write!(stream, "{request_line}\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn requests_go_on_to_where_their_connection_was_going() {
    isolated("http::requests_go_on_to_where_their_connection_was_going", &[IP, IPTABLES], || {
        for protocol in ["http", "auto"] {
            let (peer, pod) = client_and_pod();
            let server = server_behind(&pod);
            for namespace in [&peer, &pod, &server] {
                serve_http(namespace, 8080);
            }
            pod.commands(&[
                &format!(
                    "iptables -w -t nat -A OUTPUT -p tcp -m mark ! --mark {MARK} \
                         ! -d 127.0.0.0/8 ! -s 127.0.0.6 -j REDIRECT --to-ports 15001"
                ),
                "iptables -w -t nat -A PREROUTING -p tcp -j REDIRECT --to-ports 15006",
            ]);
            let _sidecar = sidecar(&pod, protocol);

            let there = "10.77.0.2 reached from 10.77.0.1\nGET /x HTTP/1.1\n";
            let answer = ask(&pod, "10.77.0.2:8080", "GET /x HTTP/1.1", "10.78.0.2:8080");
            assert!(answer.contains(there), "{protocol}: {answer}");
            assert!(answer.to_lowercase().contains("x-forwarded-for"), "it was proxied");

            // Neither the authority nor an absolute target leads an inbound request elsewhere.
            let here = "10.77.0.1 reached from 127.0.0.6\nGET /x HTTP/1.1\n";
            for line in ["GET /x HTTP/1.1", "GET http://10.78.0.2:8080/x HTTP/1.1"] {
                let answer = ask(&peer, "10.77.0.1:8080", line, "10.78.0.2:8080");
                assert!(answer.contains(here), "{protocol}: {answer}");
            }
            if protocol == "http" {
                let line = "CONNECT 10.78.0.2:8080 HTTP/1.1\r\nHost: 10.78.0.2:8080\r\n\r\nGET /x HTTP/1.1";
                let answer = ask(&peer, "10.77.0.1:8080", line, "10.78.0.2:8080");
                assert!(answer.starts_with("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200"), "{answer}");
                assert!(answer.contains(here), "{answer}");
            }
            // What is on its way to another host is refused.
            visit_in_vain(&peer, "10.78.0.2:8080");
        }
    });
}

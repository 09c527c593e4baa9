//! TLS that is sorted by server name and not terminated.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use rustls::{ClientConnection, pki_types::ServerName};

use super::{
    authority::{Authority, Stream, connect},
    origin::{echo, exchange},
    process::{HEAD, Sidecar},
};

fn config(authority: &Authority, handshake: &str) -> String {
    format!(
        "{HEAD}[[listener]]\nname = 'by-name'\nbind = '127.0.0.1:0'\ncluster = 'rest'\n\
         timeouts.handshake = '{handshake}'\ntls.mode = 'passthrough'\n\
         [[route]]\nlistener = 'by-name'\nhosts = ['shop.example']\ncluster = 'shop'\n\
         [[route]]\nlistener = 'by-name'\nhosts = ['*.Shop.example']\ncluster = 'below'\n\
         [[cluster]]\nname = 'shop'\nendpoints = ['{}']\n\
         [[cluster]]\nname = 'below'\nendpoints = ['{}']\n\
         [[cluster]]\nname = 'rest'\nendpoints = ['{}']\n",
        authority.origin("shop.example"),
        authority.origin("a.shop.example"),
        echo()
    )
}

/// Asks whoever is at the other end of the TLS for its name.
fn name(stream: &mut Stream) -> String {
    stream.write_all(b"who?").unwrap();
    let mut name = [0; 64];
    let read = stream.read(&mut name).unwrap();
    String::from_utf8(name[..read].to_vec()).unwrap()
}

/// The bytes of the first message of a client.
fn hello(connection: &mut ClientConnection) -> Vec<u8> {
    let mut hello = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut hello).unwrap();
    }
    hello
}

fn raw(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

#[test]
fn a_connection_goes_where_its_name_says_and_its_tls_is_left_alone() {
    let authority = Authority::new();
    let Some(sidecar) = Sidecar::start(&config(&authority, "10s")) else { return };
    let address = sidecar.address("by-name");
    let client = authority.client(None, &[]);
    for asked in ["shop.example", "a.shop.example"] {
        let mut stream = connect(address, asked, &client);
        assert_eq!(name(&mut stream), asked);
        assert_eq!(name(&mut stream), asked);
    }
    // What no route names, and what is no TLS, goes to the listener's own cluster.
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16", b"\x00"] {
        let mut plain = raw(address);
        if bytes == b"\x16" {
            let name = ServerName::try_from("elsewhere.example").unwrap();
            let mut connection = ClientConnection::new(client.clone(), name).unwrap();
            let hello = hello(&mut connection);
            exchange(&mut plain, &hello);
        } else {
            exchange(&mut plain, bytes);
        }
    }
    for (cluster, connections) in [("shop", 1.0), ("below", 1.0), ("rest", 3.0)] {
        let label = format!("cluster=\"{cluster}\"");
        sidecar.metric_becomes("evenkeel_upstream_connections_total", &[&label], connections);
    }
}

#[test]
fn a_first_message_may_come_in_any_pieces() {
    let authority = Authority::new();
    let Some(sidecar) = Sidecar::start(&config(&authority, "10s")) else { return };
    let client = authority.client(None, &[]);
    let address = sidecar.address("by-name");
    for pieces in ["bytes", "records"] {
        let mut stream = connect(address, "shop.example", &client);
        let hello = hello(&mut stream.conn);
        match pieces {
            "bytes" => {
                stream.sock.set_nodelay(true).unwrap();
                for byte in hello {
                    stream.sock.write_all(&[byte]).unwrap();
                }
            }
            // The header of each record is that of the first, but for the length.
            _ => {
                for piece in hello[5..].chunks(7) {
                    let header = [hello[0], hello[1], hello[2], 0, piece.len() as u8];
                    stream.sock.write_all(&[&header, piece].concat()).unwrap();
                }
            }
        }
        assert_eq!(name(&mut stream), "shop.example", "{pieces}");
    }
}

#[test]
fn a_first_message_has_bounds_in_time_and_length() {
    let authority = Authority::new();
    let Some(sidecar) = Sidecar::start(&config(&authority, "300ms")) else { return };
    let address = sidecar.address("by-name");
    let mut first = connect(address, "shop.example", &authority.client(None, &[]));
    let hello = hello(&mut first.conn);
    let closes = |mut stream: TcpStream, what: &str| {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{what}: {}", answer.escape_ascii());
    };
    let mut half = raw(address);
    half.write_all(&hello[..hello.len() / 2]).unwrap();
    closes(half, "half of it");
    let mut rubbish = raw(address);
    let _ = rubbish.write_all(&[&b"\x16\x03\x01\x40\x00"[..], &[0x55; 0x4000]].concat());
    closes(rubbish, "rubbish");
    // A message of 16 MiB, as it says, in records of full length.
    let mut endless = raw(address);
    let record = [&b"\x16\x03\x01\x3f\xff\x01\xff\xff\xff"[..], &[0; 0x3ffb]].concat();
    let more = [&b"\x16\x03\x01\x3f\xff"[..], &[0; 0x3fff]].concat();
    let _ = endless.write_all(&record);
    for _ in 0..64 {
        if endless.write_all(&more).is_err() {
            break;
        }
    }
    closes(endless, "without an end");
    let protocol = ["listener=\"by-name\"", "reason=\"protocol\""];
    sidecar.metric_becomes("evenkeel_downstream_connections_closed_total", &protocol, 3.0);
    // Whoever says nothing may be waiting for the server to speak.
    let mut silent = raw(address);
    thread::sleep(Duration::from_millis(600));
    exchange(&mut silent, b"after all");
}

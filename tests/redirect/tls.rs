//! TLS that a sidecar takes off for its own pod: clients connect to the application's address, with TLS
//! or, where that is allowed, without, and the application is none the wiser.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, pki_types::ServerName};

use crate::{
    netns::{IP, IPTABLES, Namespace, isolated},
    sidecar_binary::SIDECAR,
    stage::{client_and_pod, dial, reached, serve, visit},
};

/// A sidecar, killed when the test is done.
struct Sidecar(Child);

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sidecar(pod: &Namespace, folder: &Path, mode: &str) -> Sidecar {
    let file = folder.join("sidecar.toml");
    let config = format!(
        "shards = 2\n[[listener]]\nname = 'inbound'\nbind = '[::]:15006'\n\
         direction = 'inbound'\noriginal_dst = 'redirect'\n[listener.tls]\nmode = '{mode}'\n\
         certificate = 'own.pem'\nkey = 'own.key'\nroots = 'own.pem'\n"
    );
    fs::write(&file, config).unwrap();
    let mut command = Command::new(&*SIDECAR);
    command.args(["run", "--config"]).arg(&file).stdout(Stdio::piped());
    let mut sidecar = Sidecar(pod.run(|| command.spawn().unwrap()));
    let mut lines = BufReader::new(sidecar.0.stdout.take().unwrap()).lines();
    assert!(lines.next().is_some(), "it did not start");
    sidecar
}

/// What the application says to a client that speaks TLS.
fn visit_securely(stream: TcpStream, config: &Arc<ClientConfig>) -> Option<String> {
    let name = ServerName::try_from("pod.example").unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    stream.write_all(b"hello").ok()?;
    stream.conn.send_close_notify();
    stream.flush().ok()?;
    let mut said = String::new();
    stream.read_to_string(&mut said).ok()?;
    said.strip_suffix("\nhello").map(str::to_owned)
}

#[test]
fn tls_ends_in_front_of_the_application() {
    isolated("tls::tls_ends_in_front_of_the_application", &[IP, IPTABLES], || {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["pod.example".to_owned()]).unwrap();
        fs::write(folder.path().join("own.pem"), made.cert.pem()).unwrap();
        fs::write(folder.path().join("own.key"), made.signing_key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = |shows: bool| {
            let builder = ClientConfig::builder_with_provider(evenkeel::tls::provider())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots.clone());
            let key = made.signing_key.serialize_der().try_into().unwrap();
            Arc::new(match shows {
                false => builder.with_no_client_auth(),
                true => builder.with_client_auth_cert(vec![made.cert.der().clone()], key).unwrap(),
            })
        };
        let here = reached("10.77.0.1:8080", "127.0.0.6");
        for mode in ["strict", "permissive"] {
            let (peer, pod) = client_and_pod();
            serve(&pod, 8080);
            pod.command("iptables -w -t nat -A PREROUTING -p tcp -j REDIRECT --to-ports 15006");
            let _sidecar = sidecar(&pod, folder.path(), mode);
            let securely =
                |shows: bool| visit_securely(dial(&peer, "10.77.0.1:8080"), &client(shows));
            assert_eq!(securely(true).as_ref(), Some(&here), "{mode}");
            assert_eq!(securely(false), None, "{mode}: without a certificate");
            if mode == "permissive" {
                assert_eq!(visit(&peer, "10.77.0.1:8080"), here);
            }
        }
    });
}

//! Other people's TLS, as client and as server: OpenSSL's tools, curl, Python, nginx and HAProxy.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use evenkeel::{
    Listener, Proxy,
    http::{self, CertificateDetails, ForwardedClientCertificate, Routes},
    telemetry::{HandshakeFailure, HandshakeResult},
    tls::{
        self, ClientCredentials, Peers, ServerCredentials,
        credentials::{ClientSettings, ServerSettings},
    },
    upstream::{cluster::Cluster, settings::ClusterSettings},
};

use crate::{
    authority::{Authority, Issued},
    kernel,
    stage::{echo, eventually, relay},
};

const PROXY: &str = "spiffe://td/proxy";
const CLIENT: &str = "spiffe://td/client";
const SERVER: &str = "spiffe://td/server";

/// Whether all of these programs are here. In CI they must be.
pub(crate) fn have(test: &str, programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let is_here = |program: &&&str| places.iter().any(|place| place.join(program).is_file());
    let Some(missing) = programs.iter().find(|program| !is_here(program)) else { return true };
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{missing} is not here");
    // Not eprintln!, which the test runner would keep to itself.
    let skipped = format!("SKIPPED {test}: {missing} is not here\n");
    std::io::stderr().write_all(skipped.as_bytes()).unwrap();
    false
}

/// A program that ends with the test.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Running {
        Running(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// A server, once it listens. Where another took its port, it does not.
    pub(crate) fn listening(command: &mut Command, address: SocketAddr) -> Running {
        let mut running = Running::start(command);
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            assert!(running.0.try_wait().unwrap().is_none(), "{command:?} has ended");
            assert!(Instant::now() < deadline, "{command:?} does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        running
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An authority, what it has issued, and where programs find that.
pub(crate) struct Files {
    pub(crate) authority: Authority,
    proxy: Issued,
    directory: tempfile::TempDir,
}

impl Files {
    pub(crate) fn new() -> Files {
        let authority = Authority::new("the authority");
        let directory = tempfile::tempdir().unwrap();
        let files = Files { proxy: authority.identity(PROXY), authority, directory };
        fs::write(files.path("ca.pem"), &files.authority.pem).unwrap();
        for (name, id) in [("client", CLIENT), ("server", SERVER)] {
            let issued = files.authority.identity(id);
            fs::write(files.path(&format!("{name}.pem")), &issued.pem).unwrap();
            fs::write(files.path(&format!("{name}.key")), &issued.key_pem).unwrap();
            let both = [issued.pem, issued.key_pem].concat();
            fs::write(files.path(&format!("{name}.both")), both).unwrap();
        }
        files
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn downstream(&self) -> ServerCredentials {
        let mut settings = ServerSettings::new(self.proxy.own());
        settings.clients = Some(self.authority.trust().peers(Peers::parse([CLIENT]).unwrap()));
        settings.application_protocols = vec![b"http/1.1".to_vec()];
        ServerCredentials::load("echo", settings).unwrap()
    }

    pub(crate) fn upstream(&self) -> ClientCredentials {
        let mut settings =
            ClientSettings::new(self.authority.trust().peers(Peers::parse([SERVER]).unwrap()));
        settings.own = Some(self.proxy.own());
        settings.server_name = Some("localhost".try_into().unwrap());
        ClientCredentials::load("secured", settings).unwrap()
    }

    /// A proxy between two peers, with TLS towards both.
    fn between(&self, origin: SocketAddr) -> (Proxy, SocketAddr) {
        let cluster = ClusterSettings::builder("secured").endpoint(&origin.to_string());
        let cluster = cluster.tls(self.upstream()).build().unwrap();
        let routes = Routes::to(Cluster::new(cluster, Instant::now(), 1));
        let details = CertificateDetails { uri: true, ..CertificateDetails::default() };
        let policy = ForwardedClientCertificate::SanitizeSet(details);
        let web = http::proxy(routes).forwarded_client_certificate(policy);
        let web = tls::terminate(self.downstream(), web);
        let listener = Listener::bind("127.0.0.1:0").unwrap().named("echo").serve(web);
        let builder = Proxy::builder().capabilities(kernel::capabilities()).shards(1);
        let proxy = builder.listener(listener).start().unwrap();
        let address = proxy.local_addr("echo").unwrap();
        (proxy, address)
    }
}

/// An address that was free a moment ago.
pub(crate) fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub(crate) fn openssl(subcommand: &str, directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.arg(subcommand).args(arguments).current_dir(directory).stderr(Stdio::null());
    command
}

const AS_CLIENT: &[&str] =
    &["-CAfile", "ca.pem", "-cert", "client.pem", "-key", "client.key", "-verify_return_error"];
const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];

#[test]
fn openssl_as_client() {
    if !have("openssl_as_client", &["openssl"]) {
        return;
    }
    let files = Files::new();
    let (proxy, address) = echo(files.downstream());
    let address = address.to_string();
    for version in VERSIONS {
        let target = ["-connect", &address, "-servername", "localhost", "-quiet", version];
        let arguments = [AS_CLIENT, &target].concat();
        let mut client =
            Running::start(&mut openssl("s_client", files.directory.path(), &arguments));
        for message in ["hello\n", "and again\n"] {
            client.0.stdin.as_mut().unwrap().write_all(message.as_bytes()).unwrap();
            assert_eq!(client.line(), message, "{version}");
        }
    }
    let cells = proxy.registry().tls_listener("echo", 0);
    eventually("both are counted", || cells.results.value(HandshakeResult::Full) == 2);
}

#[test]
fn openssl_as_a_client_of_long_ago() {
    if !have("openssl_as_a_client_of_long_ago", &["openssl"]) {
        return;
    }
    let files = Files::new();
    let (proxy, address) = echo(files.downstream());
    let address = address.to_string();
    let cells = proxy.registry().tls_listener("echo", 0);
    for (arguments, alert, reason) in [
        (
            &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"][..],
            "alert protocol version",
            HandshakeFailure::NoCommonVersion,
        ),
        (
            &["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"],
            "handshake failure",
            HandshakeFailure::NoCommonCipher,
        ),
        (
            &["-tls1_3", "-alpn", "h2"],
            "no application protocol",
            HandshakeFailure::NoCommonProtocol,
        ),
    ] {
        let arguments = [AS_CLIENT, &["-connect", &address], arguments].concat();
        let mut command = openssl("s_client", files.directory.path(), &arguments);
        let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(alert), "{arguments:?}: {said}");
        eventually("it is counted", || cells.failures.value(reason) == 1);
    }
}

#[test]
fn openssl_as_server() {
    if !have("openssl_as_server", &["openssl"]) {
        return;
    }
    let files = Files::new();
    for version in VERSIONS {
        let origin = free();
        let accept = origin.to_string();
        let arguments = [
            &["-accept", &accept, "-rev", version, "-Verify", "1", "-verify_return_error"][..],
            &["-CAfile", "ca.pem", "-cert", "server.pem", "-key", "server.key"],
        ]
        .concat();
        let mut command = openssl("s_server", files.directory.path(), &arguments);
        let _origin = Running::listening(&mut command, origin);
        let (proxy, address) = relay(origin, files.upstream());
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client.write_all(b"hello\n").unwrap();
        let mut answer = String::new();
        BufReader::new(&client).read_line(&mut answer).unwrap();
        assert_eq!(answer, "olleh\n", "{version}");
        let cells = proxy.registry().tls_cluster("secured", 0);
        assert_eq!(cells.results.value(HandshakeResult::Full), 1);
    }
}

#[test]
fn openssl_as_a_server_of_long_ago() {
    if !have("openssl_as_a_server_of_long_ago", &["openssl"]) {
        return;
    }
    let files = Files::new();
    for (arguments, reason) in [
        (["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], HandshakeFailure::NoCommonVersion),
        (
            ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"],
            HandshakeFailure::NoCommonCipher,
        ),
    ] {
        let origin = free();
        let accept = origin.to_string();
        let shown = ["-accept", &accept, "-quiet", "-cert", "server.pem", "-key", "server.key"];
        let arguments = [&shown[..], &arguments].concat();
        let mut command = openssl("s_server", files.directory.path(), &arguments);
        let _origin = Running::listening(&mut command, origin);
        let (proxy, address) = relay(origin, files.upstream());
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client.read_to_end(&mut Vec::new()).expect_err("a reset");
        let cells = proxy.registry().tls_cluster("secured", 0);
        eventually("it is counted", || cells.failures.value(reason) == 1);
        assert_eq!(cells.results.value(HandshakeResult::Failed), 1);
    }
}

/// Answers in the clear, once for each connection.
fn plain_origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
            });
        }
    });
    address
}

/// A proxy of HTTP behind TLS, in front of an origin without.
fn web(files: &Files) -> (Proxy, SocketAddr) {
    let origin = plain_origin().to_string();
    let cluster = ClusterSettings::builder("origin").endpoint(&origin).build().unwrap();
    let routes = Routes::to(Cluster::new(cluster, Instant::now(), 1));
    let web = tls::terminate(files.downstream(), http::proxy(routes));
    let listener = Listener::bind("127.0.0.1:0").unwrap().named("echo").serve(web);
    let builder = Proxy::builder().capabilities(kernel::capabilities()).shards(1);
    let proxy = builder.listener(listener).start().unwrap();
    let address = proxy.local_addr("echo").unwrap();
    (proxy, address)
}

#[test]
fn curl_as_client() {
    if !have("curl_as_client", &["curl"]) {
        return;
    }
    let files = Files::new();
    let (_proxy, address) = web(&files);
    let url = format!("https://localhost:{}/", address.port());
    let resolve = format!("localhost:{}:127.0.0.1", address.port());
    let arguments = ["--silent", "--show-error", "--max-time", "20", "--noproxy", "*", "--resolve"];
    let shows = ["--cacert", "ca.pem", "--cert", "client.pem", "--key", "client.key"];
    let curl = |shows: &[&str]| {
        let mut command = Command::new("curl");
        command.args(arguments).arg(&resolve).args(shows).args([&url, &url]);
        command.current_dir(files.directory.path()).output().unwrap()
    };
    let output = curl(&shows);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hellohello", "{output:?}");
    assert!(!curl(&shows[..2]).status.success(), "no certificate, no answer");
}

const PYTHON_CLIENT: &str = "
import socket, ssl, sys
context = ssl.create_default_context(cafile='ca.pem')
context.load_cert_chain('client.pem', 'client.key')
context.set_alpn_protocols(['h2', 'http/1.1'])
with socket.create_connection(('127.0.0.1', int(sys.argv[1]))) as stream:
    with context.wrap_socket(stream, server_hostname='localhost') as tls:
        tls.sendall(b'hello' * 100000)
        got = b''
        while len(got) < 500000:
            got += tls.recv(65536)
        assert got == b'hello' * 100000
        plain = tls.unwrap()
        print(tls.selected_alpn_protocol() or 'http/1.1', plain.recv(1))
";

#[test]
fn python_as_client() {
    if !have("python_as_client", &["python3"]) {
        return;
    }
    let files = Files::new();
    let (_proxy, address) = echo(files.downstream());
    let mut python = Command::new("python3");
    python.args(["-c", PYTHON_CLIENT, &address.port().to_string()]);
    let output = python.current_dir(files.directory.path()).output().unwrap();
    // `unwrap` takes nothing less than a close_notify.
    assert_eq!(String::from_utf8_lossy(&output.stdout), "http/1.1 b''\n", "{output:?}");
}

const PYTHON_SERVER: &str = "
import socket, ssl
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile='ca.pem')
context.verify_mode = ssl.CERT_REQUIRED
context.load_cert_chain('server.pem', 'server.key')
listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
stream, _ = listener.accept()
with context.wrap_socket(stream, server_side=True) as tls:
    names = dict(tls.getpeercert()['subjectAltName'])
    tls.recv(5)
    tls.sendall(names['URI'].encode())
    tls.unwrap()
";

#[test]
fn python_as_server() {
    if !have("python_as_server", &["python3"]) {
        return;
    }
    let files = Files::new();
    let mut python = Command::new("python3");
    python.args(["-c", PYTHON_SERVER]).current_dir(files.directory.path());
    let mut origin = Running::start(&mut python);
    let port: u16 = origin.line().trim().parse().unwrap();
    let (_proxy, address) = relay(SocketAddr::from(([127, 0, 0, 1], port)), files.upstream());
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client.write_all(b"hello").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, PROXY);
    drop(client);
    assert!(origin.0.wait().unwrap().success(), "it is told of the end as well");
}

/// What a client gets through two programs with the proxy between them.
fn ask(address: SocketAddr) -> String {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

fn assert_met(proxy: &Proxy, address: SocketAddr) {
    for _ in 0..5 {
        let answer = ask(address);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("server sees CN=proxy"), "{answer}");
        assert!(answer.contains(&format!("By={PROXY};Hash=")), "{answer}");
        assert!(answer.contains(&format!(";URI={CLIENT}")), "{answer}");
    }
    let failed = HandshakeResult::Failed;
    assert_eq!(proxy.registry().tls_listener("echo", 0).results.value(failed), 0);
    assert_eq!(proxy.registry().tls_cluster("secured", 0).results.value(failed), 0);
}

#[test]
fn nginx_on_both_sides() {
    if !have("nginx_on_both_sides", &["nginx"]) {
        return;
    }
    let files = Files::new();
    let (front, back) = (free(), free());
    let (proxy, address) = files.between(back);
    let directory = files.directory.path().display();
    let config = format!(
        "daemon off; master_process off; pid {directory}/pid; error_log stderr;
         events {{}}
         http {{
           access_log off;
           client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
           fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
           scgi_temp_path {directory}/scgi;
           server {{
             listen {front};
             location / {{
               proxy_pass https://{address}; proxy_http_version 1.1;
               proxy_ssl_certificate client.pem; proxy_ssl_certificate_key client.key;
               proxy_ssl_trusted_certificate ca.pem; proxy_ssl_verify on;
               proxy_ssl_name localhost; proxy_ssl_server_name on;
             }}
           }}
           server {{
             listen {back} ssl;
             ssl_certificate server.pem; ssl_certificate_key server.key;
             ssl_client_certificate ca.pem; ssl_verify_client on;
             return 200 'server sees $ssl_client_s_dn, $http_x_forwarded_client_cert';
           }}
         }}"
    );
    fs::write(files.path("nginx.conf"), config).unwrap();
    let mut nginx = Command::new("nginx");
    nginx.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stderr(Stdio::null());
    nginx.arg("-p").arg(files.directory.path()).arg("-c").arg(files.path("nginx.conf"));
    let _nginx = Running::listening(&mut nginx, front);
    assert_met(&proxy, front);
}

#[test]
fn haproxy_on_both_sides() {
    if !have("haproxy_on_both_sides", &["haproxy"]) {
        return;
    }
    let files = Files::new();
    let (front, back) = (free(), free());
    let (proxy, address) = files.between(back);
    let config = format!(
        "defaults
           mode http
           timeout connect 20s
           timeout client 20s
           timeout server 20s
         frontend front
           bind {front}
           default_backend middle
         backend middle
           server middle {address} ssl verify required ca-file ca.pem crt client.both sni str(localhost) alpn http/1.1
         frontend back
           bind {back} ssl crt server.both ca-file ca.pem verify required
           http-request return status 200 content-type text/plain lf-string \"server sees CN=%[ssl_c_s_dn(cn)], %[req.fhdr(x-forwarded-client-cert)]\"
"
    );
    fs::write(files.path("haproxy.cfg"), config).unwrap();
    let mut haproxy = Command::new("haproxy");
    haproxy.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stderr(Stdio::null());
    haproxy.args(["-db", "-f", "haproxy.cfg"]).current_dir(files.directory.path());
    let _haproxy = Running::listening(&mut haproxy, front);
    assert_met(&proxy, front);
}

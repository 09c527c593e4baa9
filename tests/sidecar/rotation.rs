//! Certificates that change while the sidecar runs.

use std::{
    fs,
    io::{BufReader, Read, Write},
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    thread,
};

use rustix::process::Signal;
use rustls::pki_types::CertificateDer;

use super::{
    authority::{Authority, Issued, ask, connect},
    process::{HEAD, Sidecar, eventually},
    web::{Message, teller},
};

const RELOADS: &str = "evenkeel_tls_reloads_total";
const ACCEPTED: [&str; 1] = ["result=\"accepted\""];
const REFUSED: [&str; 1] = ["result=\"refused\""];

fn config(tls: &str) -> String {
    format!(
        "{HEAD}[[listener]]\nname = 'web'\nbind = '127.0.0.1:0'\nprotocol = 'http'\n\
         cluster = 'web'\n[listener.tls]\nmode = 'simple'\n{tls}\n\
         [[cluster]]\nname = 'web'\nendpoints = ['{}']\n",
        teller("web")
    )
}

/// Puts a set into a folder, as Kubernetes fills a volume: `..data` is a link to the folder with the
/// files, and swapped in one step.
fn project(volume: &Path, version: &str, own: &Issued) {
    let folder = volume.join(version);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("tls.crt"), &own.certificate).unwrap();
    fs::write(folder.join("tls.key"), &own.key).unwrap();
    symlink(version, volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
}

#[test]
fn a_volume_is_swapped_under_load_and_no_request_is_lost() {
    let authority = Authority::new();
    let volume = authority.folder();
    let (old, new) = (authority.issue(&["localhost"]), authority.issue(&["localhost"]));
    project(volume, "..1", &old);
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), volume.join(name)).unwrap();
    }
    let tls = format!(
        "certificate = '{}'\nkey = '{}'\n",
        volume.join("tls.crt").display(),
        volume.join("tls.key").display()
    );
    let sidecar = Sidecar::start(&config(&tls));
    let address = sidecar.address("web");
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|index| {
            // Half of them resume sessions, half have none.
            let config = authority.client(None, &[]);
            let fresh = move |authority: &Authority| match index % 2 {
                0 => Arc::clone(&config),
                _ => authority.client(None, &[]),
            };
            let configs: Vec<_> = (0..64).map(|_| fresh(&authority)).collect();
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            thread::spawn(move || {
                let mut shown: Vec<CertificateDer<'static>> = Vec::new();
                for config in configs.iter().cycle().take_while(|_| !stop.load(Relaxed)) {
                    let answer = ask(address, config).expect("an answer");
                    assert_eq!(answer.message.status(), 200);
                    asked.fetch_add(1, Relaxed);
                    if !shown.contains(&answer.certificate) {
                        shown.push(answer.certificate);
                    }
                }
                shown
            })
        })
        .collect();
    eventually("there is load", || asked.load(Relaxed) > 40);
    project(volume, "..2", &new);
    fs::remove_dir_all(volume.join("..1")).unwrap();
    sidecar.metric_becomes(RELOADS, &ACCEPTED, 1.0);
    let at_swap = asked.load(Relaxed);
    eventually("there is load after it", || asked.load(Relaxed) > at_swap + 40);
    let last = ask(address, &authority.client(None, &[])).unwrap();
    assert_eq!(last.certificate, new.chain()[0]);
    stop.store(true, Relaxed);
    for client in clients {
        let shown = client.join().unwrap();
        assert!(shown.iter().all(|it| *it == old.chain()[0] || *it == new.chain()[0]));
        assert_eq!(shown.first(), Some(&old.chain()[0]));
    }
    assert_eq!(sidecar.metric(RELOADS, &REFUSED), 0.0);
    assert_eq!(
        sidecar.metric("evenkeel_downstream_tls_handshakes_total", &["result=\"failed\""]),
        0.0
    );
}

#[test]
fn what_will_not_do_is_counted_and_the_old_set_stays() {
    let authority = Authority::new();
    let old = authority.write("server", &["localhost"]);
    let sidecar = Sidecar::start(&config(&authority.own("server")));
    let shown = || ask(sidecar.address("web"), &authority.client(None, &[])).unwrap().certificate;
    assert_eq!(shown(), old.chain()[0]);

    // Half of a file, as one that is being written.
    let new = authority.issue(&["localhost"]);
    let half = &new.certificate[..new.certificate.len() / 2];
    fs::write(authority.path("server.pem"), half).unwrap();
    sidecar.metric_becomes(RELOADS, &REFUSED, 1.0);
    assert_eq!(shown(), old.chain()[0]);
    // The whole of it, and not its key.
    fs::write(authority.path("server.pem"), &new.certificate).unwrap();
    sidecar.metric_becomes(RELOADS, &REFUSED, 2.0);
    assert_eq!(shown(), old.chain()[0]);

    // Whoever asks for a reload is told, at the place in the configuration.
    let answer = sidecar.ask("POST", "/reload");
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains(":10:15: error: `certificate`: "), "{}", answer.body);
    assert!(answer.body.contains("server.pem"), "{}", answer.body);
    sidecar.metric_becomes("evenkeel_config_reloads_total", &REFUSED, 1.0);
    assert_eq!(shown(), old.chain()[0]);

    fs::write(authority.path("server.key"), &new.key).unwrap();
    sidecar.metric_becomes(RELOADS, &ACCEPTED, 1.0);
    assert_eq!(shown(), new.chain()[0]);
    assert_eq!(sidecar.metric(RELOADS, &REFUSED), 2.0);
    assert!(sidecar.log().contains("new certificates refused"), "{}", sidecar.log());
}

#[test]
fn a_reload_looks_at_files_at_once_and_sessions_survive_it() {
    let authority = Authority::new();
    authority.write("server", &["localhost"]);
    let text = config(&authority.own("server"));
    let sidecar = Sidecar::start(&text);
    let address = sidecar.address("web");
    let client = authority.client(None, &[]);
    assert!(!ask(address, &client).unwrap().resumed);
    // The settings of TLS stay; everything else is made anew.
    fs::write(
        sidecar.file(),
        text.replace("protocol = 'http'", "protocol = 'http'\ntimeouts.idle = '9s'"),
    )
    .unwrap();
    assert_eq!(sidecar.ask("POST", "/reload").status, 200);
    assert!(ask(address, &client).unwrap().resumed);

    let new = authority.write("server", &["localhost"]);
    assert_eq!(sidecar.ask("POST", "/reload").status, 200);
    let shown = ask(address, &authority.client(None, &[])).unwrap().certificate;
    assert_eq!(shown, new.chain()[0]);
    assert!(sidecar.metric(RELOADS, &ACCEPTED) == 1.0);

    // The same by a signal, and with another file.
    let other = authority.write("other", &["localhost"]);
    let text = fs::read_to_string(sidecar.file()).unwrap();
    fs::write(
        sidecar.file(),
        text.replace("server.pem", "other.pem").replace("server.key", "other.key"),
    )
    .unwrap();
    sidecar.signal(Signal::HUP);
    eventually("the other is shown", || {
        ask(address, &authority.client(None, &[])).unwrap().certificate == other.chain()[0]
    });
    assert_eq!(sidecar.metric(RELOADS, &ACCEPTED), 1.0, "counts of what is gone stay");
}

#[test]
fn connections_end_some_time_after_a_rotation_where_that_is_wished_for() {
    let authority = Authority::new();
    authority.write("server", &["localhost"]);
    let sidecar =
        Sidecar::start(&config(&format!("{}drain_after = '100ms'", authority.own("server"))));
    let client = authority.client(None, &[]);
    let open = || {
        let mut stream = BufReader::new(connect(sidecar.address("web"), "localhost", &client));
        stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert_eq!(Message::read(&mut stream).unwrap().status(), 200);
        stream
    };
    let mut stream = open();
    authority.write("server", &["localhost"]);
    assert_eq!(stream.read(&mut [0]).expect("a close_notify"), 0);
    sidecar.metric_becomes(RELOADS, &ACCEPTED, 1.0);

    // The same where the configuration names other files.
    let mut stream = open();
    authority.write("other", &["localhost"]);
    let text = fs::read_to_string(sidecar.file()).unwrap();
    fs::write(
        sidecar.file(),
        text.replace("server.pem", "other.pem").replace("server.key", "other.key"),
    )
    .unwrap();
    assert_eq!(sidecar.ask("POST", "/reload").status, 200);
    assert_eq!(stream.read(&mut [0]).expect("a close_notify"), 0);
}

#[test]
fn operators_see_certificates_and_never_a_key() {
    let authority = Authority::new();
    let own = authority.write("server", &["localhost", "spiffe://cluster.local/web"]);
    authority.write("client", &["spiffe://cluster.local/client"]);
    let text = config(&authority.own("server")).replace(
        "mode = 'simple'",
        &format!("{}peers = ['spiffe://cluster.local/*']", authority.roots()),
    ) + &format!(
        "[cluster.tls]\n{}{}sni = 'localhost'\n",
        authority.own("client"),
        authority.roots()
    );
    let sidecar = Sidecar::start(&text);
    let shown = sidecar.json("/certs");
    let sets = shown["certificates"].as_array().unwrap();
    let names: Vec<_> = sets.iter().map(|set| set["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["listener/web", "cluster/web"]);
    let first = &sets[0]["chain"][0];
    assert_eq!(first["uris"][0], "spiffe://cluster.local/web");
    assert_eq!(first["dns_names"][0], "localhost");
    assert_eq!(first["issuer"], "CN=authority");
    assert!(first["seconds_left"].as_i64().unwrap() > 0);
    assert!(first["not_after"].as_str().unwrap().ends_with('Z'), "{first}");
    assert_eq!(first["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(sets[0]["roots"][0]["subject"], "CN=authority");
    assert_eq!(sets[0]["peers"][0], "spiffe://cluster.local/*");
    assert_eq!(sets[1]["peers"], serde_json::Value::Null);

    let secret: Vec<_> = own.key.lines().filter(|line| !line.starts_with('-')).collect();
    for path in ["/certs", "/config_dump", "/metrics"] {
        let body = sidecar.ask("GET", path).body;
        assert!(!body.contains("PRIVATE") && !secret.iter().any(|line| body.contains(line)));
    }
    let dump = sidecar.json("/config_dump");
    assert_eq!(dump["listener"][0]["tls"]["mode"], "strict");
    assert!(dump["listener"][0]["tls"]["key"].as_str().unwrap().ends_with("server.key"));
    for name in ["listener/web", "cluster/web"] {
        let label = format!("name=\"{name}\"");
        let expires =
            sidecar.metric("evenkeel_tls_certificate_expiration_timestamp_seconds", &[&label]);
        assert!(expires > 2e9, "{name}: {expires}");
    }
}

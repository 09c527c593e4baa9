//! Sets that are replaced while they are in use.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    authority::{Authority, Issued},
    handshake::run,
};
use crate::tls::{
    ClientCredentials, ServerCredentials,
    credentials::{OwnCertificate, Reloaded, Reloads, ServerSettings, Source, Trust, Watch},
};

const PERIOD: Duration = Duration::from_millis(10);

/// A folder with the files of a listener.
struct Files(TempDir);

impl Files {
    fn new(authority: &Authority, own: &Issued) -> Files {
        let files = Files(tempfile::tempdir().unwrap());
        files.write_roots(authority);
        files.write_own(own);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write_roots(&self, authority: &Authority) {
        fs::write(self.path("ca.pem"), authority.pem()).unwrap();
    }

    fn write_own(&self, own: &Issued) {
        write_own(self.0.path(), own);
    }

    fn settings(&self, folder: &str) -> ServerSettings {
        let path = |name: &str| Source::file(self.path(folder).join(name));
        let own = OwnCertificate { certificate: path("own.pem"), key: path("own.key") };
        ServerSettings { clients: Some(Trust::any(path("ca.pem"))), ..ServerSettings::new(own) }
    }

    fn load(&self) -> ServerCredentials {
        ServerCredentials::load("server", self.settings("")).unwrap()
    }
}

fn write_own(folder: &Path, own: &Issued) {
    fs::write(folder.join("own.pem"), &own.certificate).unwrap();
    fs::write(folder.join("own.key"), &own.key).unwrap();
}

fn server_of(authority: &Authority) -> Issued {
    authority.issue(&["server.example"], |_| ())
}

fn client_of(authority: &Authority) -> ClientCredentials {
    let settings = authority
        .issue(&["spiffe://td/reviews"], |_| ())
        .client(authority.trust(), Some("server.example"));
    ClientCredentials::load("client", settings).unwrap()
}

fn digest(credentials: &ServerCredentials) -> String {
    credentials.current().own_certificates()[0].sha256()
}

/// Waits until `condition` holds.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "it never came true that {what}");
        thread::sleep(PERIOD);
    }
}

#[test]
fn a_new_certificate_is_used_and_sessions_go_on() {
    let authority = Authority::new("authority");
    let files = Files::new(&authority, &server_of(&authority));
    let server = files.load();
    let client = client_of(&authority);
    run(&client, &server).server.result.unwrap();
    let (old, before) = (server.current(), digest(&server));
    assert_eq!(server.reload().unwrap(), Reloaded::Unchanged);
    assert_eq!(digest(&server), before);

    files.write_own(&server_of(&authority));
    assert_eq!(server.reload().unwrap(), Reloaded::Replaced);
    assert_ne!(digest(&server), before);
    assert_eq!(old.own_certificates()[0].sha256(), before, "whoever holds the old set keeps it");
    assert!(run(&client, &server).server.resumed);
    assert_eq!(server.reloads(), Reloads { replaced: 1, failed: 0 });
}

#[test]
fn sessions_end_with_the_roots_that_they_were_judged_by() {
    let authority = Authority::new("authority");
    let files = Files::new(&authority, &server_of(&authority));
    let server = files.load();
    let client = client_of(&authority);
    run(&client, &server).server.result.unwrap();
    assert!(run(&client, &server).server.resumed);

    // The old root stays, and the session ends all the same.
    let both = authority.pem() + &Authority::new("another").pem();
    fs::write(files.path("ca.pem"), both).unwrap();
    assert_eq!(server.reload().unwrap(), Reloaded::Replaced);
    let after = run(&client, &server);
    after.server.result.unwrap();
    assert!(!after.server.resumed);

    // And where it is gone, the session is of no use.
    files.write_roots(&Authority::new("another"));
    server.reload().unwrap();
    assert!(run(&client, &server).server.result.is_err());
}

#[test]
fn sessions_end_with_a_new_revocation_list() {
    let authority = Authority::new("authority");
    let files = Files::new(&authority, &server_of(&authority));
    fs::write(files.path("ca.crl"), authority.revocation_list(&[1])).unwrap();
    let mut settings = files.settings("");
    let trust = settings.clients.as_mut().unwrap();
    trust.revocation_lists.push(Source::file(files.path("ca.crl")));
    let server = ServerCredentials::load("server", settings).unwrap();
    let client = client_of(&authority);
    run(&client, &server).server.result.unwrap();
    fs::write(files.path("ca.crl"), authority.revocation_list(&[1, 2])).unwrap();
    assert_eq!(server.reload().unwrap(), Reloaded::Replaced);
    assert!(!run(&client, &server).server.resumed);
}

#[test]
fn a_cluster_forgets_its_sessions_with_a_new_certificate() {
    let authority = Authority::new("authority");
    let server =
        ServerCredentials::load("server", server_of(&authority).server(Some(authority.trust())))
            .unwrap();
    let files = Files::new(&authority, &authority.issue(&["spiffe://td/reviews"], |_| ()));
    let mut settings = client_of(&authority).settings().clone();
    settings.own = Some(files.settings("").own);
    let client = ClientCredentials::load("client", settings).unwrap();
    run(&client, &server).client.result.unwrap();
    assert!(run(&client, &server).client.resumed);

    files.write_own(&authority.issue(&["spiffe://td/ratings"], |_| ()));
    assert_eq!(client.reload().unwrap(), Reloaded::Replaced);
    let after = run(&client, &server);
    assert!(!after.server.resumed);
    assert_eq!(after.server.peer().as_deref(), Some("spiffe://td/ratings"));
}

#[test]
fn a_bad_set_is_refused_and_counted_once() {
    let authority = Authority::new("authority");
    let files = Files::new(&authority, &server_of(&authority));
    let server = files.load();
    let before = digest(&server);
    let other = server_of(&authority);

    // The certificate before its key.
    fs::write(files.path("own.pem"), &other.certificate).unwrap();
    assert!(server.reload().unwrap_err().to_string().contains("not for the private key"));
    assert!(server.reload().is_err());
    assert_eq!(server.reloads(), Reloads { replaced: 0, failed: 1 });
    // Half of it.
    fs::write(files.path("own.pem"), &other.certificate[..300]).unwrap();
    assert!(server.reload().is_err());
    assert_eq!(server.reloads().failed, 2);
    fs::remove_file(files.path("own.pem")).unwrap();
    assert!(server.reload().is_err());
    assert!(server.reload().is_err());
    assert_eq!(server.reloads().failed, 3);
    assert_eq!(digest(&server), before);
    run(&client_of(&authority), &server).server.result.unwrap();

    files.write_own(&other);
    assert_eq!(server.reload().unwrap(), Reloaded::Replaced);
    assert_eq!(server.reloads(), Reloads { replaced: 1, failed: 3 });
}

/// As the volumes of Kubernetes do it: the files are links into `..data`, and that is a link to a
/// folder with the date in its name.
#[test]
fn a_folder_behind_a_link_is_swapped() {
    let authority = Authority::new("authority");
    let files = Files::new(&authority, &server_of(&authority));
    let folder = |name: &str| {
        fs::create_dir(files.path(name)).unwrap();
        fs::write(files.path(name).join("ca.pem"), authority.pem()).unwrap();
        write_own(&files.path(name), &server_of(&authority));
    };
    folder("..2024");
    symlink("..2024", files.path("..data")).unwrap();
    fs::create_dir(files.path("volume")).unwrap();
    for name in ["own.pem", "own.key", "ca.pem"] {
        symlink(Path::new("../..data").join(name), files.path("volume").join(name)).unwrap();
    }
    let server = ServerCredentials::load("server", files.settings("volume")).unwrap();
    let before = digest(&server);
    let watch = Watch::start(PERIOD).unwrap();
    watch.add(&server);

    folder("..2025");
    symlink("..2025", files.path("..data_tmp")).unwrap();
    fs::rename(files.path("..data_tmp"), files.path("..data")).unwrap();
    eventually("the new folder is used", || digest(&server) != before);
    let ends = run(&client_of(&authority), &server);
    ends.client.result.unwrap();
}

#[test]
fn a_watch_mends_what_was_half_written() {
    let authority = Authority::new("authority");
    let files = Files::new(&authority, &server_of(&authority));
    let server = files.load();
    let before = digest(&server);
    let watch = Watch::start(PERIOD).unwrap();
    watch.add(&server);
    let next = server_of(&authority);
    fs::write(files.path("own.pem"), &next.certificate[..200]).unwrap();
    eventually("the half is refused", || server.reloads().failed > 0);
    assert_eq!(digest(&server), before);
    files.write_own(&next);
    eventually("the whole is used", || digest(&server) != before);
}

#[test]
fn a_watch_ends_when_it_is_dropped_and_keeps_nothing() {
    let authority = Authority::new("authority");
    let files = Files::new(&authority, &server_of(&authority));
    let watch = Watch::start(PERIOD).unwrap();
    let server = files.load();
    watch.add(&server);
    let set = server.current();
    drop(server);
    eventually("the set is held here only", || std::sync::Arc::strong_count(&set) == 1);

    let server = files.load();
    watch.add(&server);
    let start = Instant::now();
    drop(watch);
    assert!(start.elapsed() < Duration::from_secs(10));
    let before = digest(&server);
    files.write_own(&server_of(&authority));
    thread::sleep(5 * PERIOD);
    assert_eq!(digest(&server), before);

    // One that looks once an hour ends as fast.
    let start = Instant::now();
    drop(Watch::start(Duration::from_secs(3600)).unwrap());
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn when_it_expires() {
    let root = Authority::new("root");
    let soon = root.issue(&["server.example"], |it| {
        it.not_after = rcgen::date_time_ymd(2999, 1, 1);
    });
    let server = ServerCredentials::load("server", soon.behind(&[&root]).server(None)).unwrap();
    let set = server.current();
    assert_eq!(set.own_certificates().len(), 2);
    assert_eq!(set.expires_at(), Some(set.own_certificates()[0].not_after()));
    assert!(set.own_certificates()[0].not_after() < set.own_certificates()[1].not_after());
    assert!(client_of(&root).current().expires_at().is_some());
}

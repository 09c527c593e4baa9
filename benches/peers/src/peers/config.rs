//! The configurations in `config/`, filled in for a [`Job`].

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use super::running::connection_limit;
use super::{Job, Protocol, Side};
use crate::process;

const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Replaces each `{name}` by its value; further lines of it begin where the first does.
fn fill(template: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(template.to_owned(), |mut text, (name, value)| {
        let placeholder = format!("{{{name}}}");
        let mut from = 0;
        while let Some(at) = text[from..].find(&placeholder).map(|at| from + at) {
            let column = at - text[..at].rfind('\n').map_or(0, |end| end + 1);
            let value = value.trim_end().replace('\n', &format!("\n{}", " ".repeat(column)));
            text.replace_range(at..at + placeholder.len(), &value);
            from = at + value.len();
        }
        text
    })
}

/// What a configuration has for the sides that speak TLS, and for the log: nothing otherwise.
struct Parts {
    listener: String,
    clients: String,
    upstream: String,
    log: String,
}

impl Parts {
    /// `files`: for a listener, what it has for clients' certificates in addition, for an upstream,
    /// and for the access log.
    fn of(job: &Job, [listener, clients, upstream, log]: [&str; 4]) -> Self {
        let side = job.tls.as_ref().map(|tls| tls.side);
        let part = |wanted: bool, template: &str| {
            let path = |path: &Path| path.display().to_string();
            let values = [
                (
                    "credentials",
                    job.tls.as_ref().map_or_else(String::new, |tls| path(&tls.credentials)),
                ),
                ("access_log", job.access_log.as_deref().map_or_else(String::new, path)),
                ("clients", (side == Some(Side::MutualClients)).to_string()),
            ];
            if wanted { fill(template, &values) } else { String::new() }
        };
        Self {
            listener: part(matches!(side, Some(Side::Clients | Side::MutualClients)), listener),
            clients: part(side == Some(Side::MutualClients), clients),
            upstream: part(side == Some(Side::Upstream), upstream),
            log: part(job.access_log.is_some(), log),
        }
    }
}

pub(super) fn nginx(job: &Job, reuseport: bool, directory: &Path) -> String {
    let template = match job.protocol {
        Protocol::Relay => include_str!("../../config/nginx-relay.conf"),
        Protocol::Http => include_str!("../../config/nginx-http.conf"),
    };
    let parts = Parts::of(
        job,
        [
            include_str!("../../config/nginx-tls-listener.conf"),
            include_str!("../../config/nginx-tls-clients.conf"),
            include_str!("../../config/nginx-tls-upstream.conf"),
            include_str!("../../config/nginx-access-log.conf"),
        ],
    );
    let reuseport = if reuseport { " reuseport" } else { "" };
    let tls = if parts.listener.is_empty() { "" } else { " ssl" };
    let listens =
        lines(&job.listen, |address| format!("listen {address}{tls}{reuseport} backlog=4096;"));
    let log_off = || "# Nobody reads it here.\naccess_log off;".to_owned();
    let load_stream_module = match Path::new(STREAM_MODULE).exists() {
        true => format!("load_module {STREAM_MODULE};"),
        // Built in, or nginx itself will say that it knows no `stream`.
        false => String::new(),
    };
    let values = [
        ("load_stream_module", load_stream_module),
        ("directory", directory.display().to_string()),
        ("workers", job.workers.to_string()),
        ("open_files", process::open_files().to_string()),
        ("multi_accept", if job.workers == 1 { "on" } else { "off" }.to_owned()),
        ("listens", listens),
        ("scheme", if parts.upstream.is_empty() { "http" } else { "https" }.to_owned()),
        ("tls_listener", parts.listener + &parts.clients),
        ("tls_upstream", parts.upstream),
        ("access_log", if parts.log.is_empty() { log_off() } else { parts.log }),
        ("upstream", job.upstream.to_string()),
    ];
    fill(template, &values)
}

pub(super) fn haproxy(job: &Job) -> String {
    let template = match job.protocol {
        Protocol::Relay => include_str!("../../config/haproxy-relay.cfg"),
        Protocol::Http => include_str!("../../config/haproxy-http.cfg"),
    };
    let parts = Parts::of(
        job,
        [
            " ssl crt {credentials}/server.pem",
            " ca-file {credentials}/authority.pem verify required",
            // A constant SNI lets requests share the connections of the pool.
            " ssl crt {credentials}/client.pem ca-file {credentials}/authority.pem verify required \
         sni str(server.test)",
            include_str!("../../config/haproxy-access-log.cfg"),
        ],
    );
    let tls = match job.tls {
        Some(_) => include_str!("../../config/haproxy-tls.cfg"),
        None => "",
    };
    let binds = |address| format!("bind {address}{}{}", parts.listener, parts.clients);
    let values = [
        ("tls", tls.to_owned()),
        ("binds", lines(&job.listen, binds)),
        ("tls_upstream", parts.upstream.clone()),
        ("access_log", parts.log.clone()),
        ("workers", job.workers.to_string()),
        ("connections", connection_limit().to_string()),
        ("upstream", job.upstream.to_string()),
    ];
    fill(template, &values)
}

pub(super) fn envoy(job: &Job, exact_balance: bool) -> String {
    let template = match job.protocol {
        Protocol::Relay => include_str!("../../config/envoy-relay.yaml"),
        Protocol::Http => include_str!("../../config/envoy-http.yaml"),
    };
    let parts = Parts::of(
        job,
        [
            include_str!("../../config/envoy-tls-listener.yaml"),
            "",
            include_str!("../../config/envoy-tls-upstream.yaml"),
            include_str!("../../config/envoy-access-log.yaml"),
        ],
    );
    let balance = match exact_balance {
        true => "connection_balance_config: { exact_balance: {} }",
        false => "# The kernel spreads connections over one socket for each worker, the default.",
    };
    let listener = |template: &str, address: SocketAddr| {
        let values = [
            ("ip", address.ip().to_string()),
            ("port", address.port().to_string()),
            ("bind", job.redirected_to.is_none().to_string()),
            ("balance", balance.to_owned()),
            ("tls_listener", parts.listener.clone()),
            ("access_log", parts.log.clone()),
        ];
        fill(template, &values)
    };
    let mut listeners = String::new();
    if let Some(address) = job.redirected_to {
        listeners += &listener(include_str!("../../config/envoy-redirected.yaml"), address);
    }
    for &address in &job.listen {
        listeners += &listener(template, address);
    }
    let values = [
        ("listeners", listeners),
        ("tls_upstream", parts.upstream.clone()),
        ("upstream_ip", job.upstream.ip().to_string()),
        ("upstream_port", job.upstream.port().to_string()),
    ];
    fill(include_str!("../../config/envoy.yaml"), &values)
}

fn lines(addresses: &[SocketAddr], line: impl Fn(SocketAddr) -> String) -> String {
    addresses.iter().fold(String::new(), |mut text, &address| {
        let _ = writeln!(text, "{}", line(address));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_value_begin_where_the_first_does() {
        let filled =
            fill("a:\n  - {b}\n    {c}\n", &[("b", "x\ny\n".into()), ("c", String::new())]);
        assert_eq!(filled, "a:\n  - x\n    y\n    \n");
    }

    #[test]
    fn nothing_is_left_to_fill_in_and_tls_is_where_it_was_asked_for() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        for side in [Side::Clients, Side::MutualClients, Side::Upstream] {
            let job = Job {
                protocol: Protocol::Http,
                listen: vec![address],
                redirected_to: None,
                upstream: address,
                workers: 1,
                filter_micros: 0,
                tls: Some(crate::peers::Tls { side, credentials: "/certificates".into() }),
                access_log: Some("/log".into()),
            };
            let directory = Path::new("/directory");
            for config in [nginx(&job, false, directory), haproxy(&job), envoy(&job, false)] {
                let of = |file: &str| config.contains(&format!("/certificates/{file}"));
                let wanted = [
                    side != Side::Upstream,
                    side == Side::Upstream,
                    // Of Envoy's listeners it is the requirement that makes the difference.
                    side != Side::Clients || config.contains("require_client_certificate: false"),
                ];
                assert_eq!(
                    [of("server.pem"), of("client.pem"), of("authority.pem")],
                    wanted,
                    "{config}"
                );
                for name in ["credentials", "access_log", "upstream", "tls", "clients", "scheme"] {
                    assert!(!config.contains(&format!("{{{name}}}")), "{name} in {config}");
                }
            }
        }
    }
}

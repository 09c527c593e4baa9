//! The configurations in `config/`, filled in for a [`Job`].

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use super::running::connection_limit;
use super::{Job, Protocol};
use crate::process;

const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Replaces each `{name}` by its value.
fn fill(template: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{name}}}"), value)
    })
}

pub(super) fn nginx(job: &Job, reuseport: bool, directory: &Path) -> String {
    let template = match job.protocol {
        Protocol::Relay => include_str!("../../config/nginx-relay.conf"),
        Protocol::Http => include_str!("../../config/nginx-http.conf"),
    };
    let reuseport = if reuseport { " reuseport" } else { "" };
    let listens =
        lines(&job.listen, |address| format!("listen {address}{reuseport} backlog=4096;"));
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
        ("upstream", job.upstream.to_string()),
    ];
    fill(template, &values)
}

pub(super) fn haproxy(job: &Job) -> String {
    let template = match job.protocol {
        Protocol::Relay => include_str!("../../config/haproxy-relay.cfg"),
        Protocol::Http => include_str!("../../config/haproxy-http.cfg"),
    };
    let values = [
        ("workers", job.workers.to_string()),
        ("connections", connection_limit().to_string()),
        ("binds", lines(&job.listen, |address| format!("bind {address}"))),
        ("upstream", job.upstream.to_string()),
    ];
    fill(template, &values)
}

pub(super) fn envoy(job: &Job, exact_balance: bool) -> String {
    let template = match job.protocol {
        Protocol::Relay => include_str!("../../config/envoy-relay.yaml"),
        Protocol::Http => include_str!("../../config/envoy-http.yaml"),
    };
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

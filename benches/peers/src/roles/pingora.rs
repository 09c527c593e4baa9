//! An HTTP proxy as one writes it with pingora: the `ProxyHttp` trait, plain text both ways.

use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

use crate::peers::Job;

struct ToOrigin {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for ToOrigin {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(
        &self,
        _: &mut Session,
        (): &mut Self::CTX,
    ) -> pingora_core::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }

    /// What every proxy here tells the origin.
    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        (): &mut Self::CTX,
    ) -> pingora_core::Result<()> {
        if let Some(client) = session.client_addr().and_then(|address| address.as_inet()) {
            request.insert_header("X-Forwarded-For", client.ip().to_string())?;
        }
        request.insert_header("X-Forwarded-Proto", "http")?;
        let id = fastrand::u128(..);
        request.insert_header("X-Request-Id", format!("{id:032x}"))?;
        Ok(())
    }
}

pub(super) fn run(job: &Job) -> io::Result<()> {
    let config = ServerConf {
        threads: job.workers,
        // With a thread of its own for each runtime, the cheaper of the two kinds.
        work_stealing: false,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, config);
    server.bootstrap();
    let mut service =
        http_proxy_service(&server.configuration, ToOrigin { upstream: job.upstream });
    service.add_tcp(&job.listen[0].to_string());
    server.add_service(service);
    server.run_forever()
}

//! Tunnels: the answer to a CONNECT, and what comes after it or after a 101, bytes both ways.

use std::sync::Arc;

use super::{
    attempt::Attempt,
    downstream::{Downstream, Work},
    exchange::{Exchange, apply},
    service::Then,
    upstream::Upstream,
};
use crate::{
    http::{Persistence, ResponseBody, filter::Filter},
    relay::{self, Counts, Timeouts},
};

impl<F: Filter> Exchange<'_, F> {
    /// Tells the client that the connection stands which it asked for. What comes behind the head is
    /// the tunnel's, so it has no framing (RFC 9110 section 9.3.6).
    pub(super) async fn open_tunnel(
        &self,
        downstream: &mut Downstream,
        work: &mut Work,
    ) -> Attempt {
        let Downstream { connection, outgoing, .. } = downstream;
        let Work { request, response, .. } = work;
        let (_, mut to) = connection.split();
        response.clear();
        if let Some(route) = self.route {
            apply(&route.response_headers, response.headers_mut());
        }
        // Nobody behind this connection speaks HTTP: that it stands is the upstream's answer.
        self.record.upstream_status.set(response.status().as_u16());
        if let Some(answer) = self.filter_response(response).await {
            let to = (outgoing, &mut to);
            return Attempt::Done(self.proxy.answer_with(&answer, request, self.record, to, true));
        }
        // A filter may have made a refusal of it.
        let (then, length, persistence) = match response.status().is_success() {
            true => (Then::Tunnel(None), ResponseBody::None, Persistence::Upgrade),
            false => {
                (Then::Close { reusable: false }, ResponseBody::Exactly(0), Persistence::Close)
            }
        };
        outgoing.begin(&to, length, |out| response.encode(length, persistence, out));
        self.record.status.set(response.status().as_u16());
        match outgoing.flush(&mut to) {
            Ok(()) => Attempt::Done(then),
            Err(_) => self.client_gone(),
        }
    }
}

/// Relays bytes until both sides have ended. What either side has sent already goes first.
pub(super) async fn tunnel(
    mut downstream: Box<Downstream>,
    mut upstream: Box<Upstream>,
    timeouts: &Timeouts,
) {
    let listener = Arc::clone(&downstream.cells);
    let counts = Counts::new(listener, Arc::clone(&upstream.connected.cells));
    downstream.connection.watch_for_resets(true);
    upstream.connected.stream.watch_for_resets(true);
    let ended =
        relay::pipe(&mut downstream.connection, &mut upstream.connected.stream, timeouts, &counts)
            .await;
    downstream.connection.set_close_reason(ended.why.into());
}

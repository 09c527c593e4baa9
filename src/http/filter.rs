//! What an embedder puts between a request and its upstream.
//!
//! Flows in: the head of a request, then that of its response, the pieces of both bodies where they
//! are asked for, and at the end what became of the exchange. Flows out: [`Flow`]. A filter is made
//! once a shard, so its own state need not be `Send`; what belongs to one request is in
//! [`Filter::State`].

use super::{Answer, RequestHead, ResponseHead};
use crate::{connection::Connection, telemetry::Outcome};

/// How an exchange goes on after a filter has seen it.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Flow {
    /// As it would have.
    #[default]
    Continue,
    /// With this answer, and without an upstream. From [`Filter::response`] it takes the place of
    /// the upstream's.
    Answer(Answer),
    /// To this cluster, whatever the routes say. Only from [`Filter::request`]; a cluster that does
    /// not exist is answered with 503.
    Cluster(String),
}

impl Flow {
    /// Answers with a status and a short body that names it.
    ///
    /// # Panics
    ///
    /// If `status` is not between 200 and 599.
    #[track_caller]
    pub fn answer(status: u16) -> Flow {
        Flow::Answer(Answer::status(status))
    }

    /// Sends the request to a cluster, whatever the routes say.
    pub fn cluster(name: impl Into<String>) -> Flow {
        Flow::Cluster(name.into())
    }
}

/// Looks at requests and responses of one shard, and changes them.
///
/// Every method has a default, which lets everything pass. Futures are dropped where the client goes
/// away, or a timeout ends the exchange; [`end`](Self::end) is called nevertheless.
#[allow(async_fn_in_trait, reason = "filters stay on their shard: no Send bound is wanted")]
pub trait Filter: 'static {
    /// What is kept for one request, from its head to its end.
    type State: Default;

    /// The head of a request has come from `connection`. Nothing of it was sent upstream. It has the
    /// fields that the proxy adds, such as `X-Request-Id`. Who the client is, where it has proved that,
    /// and what it has asked for says `connection.tls()`.
    async fn request(
        &self,
        head: &mut RequestHead,
        connection: &Connection,
        state: &mut Self::State,
    ) -> Flow {
        let _ = (head, connection, state);
        Flow::Continue
    }

    /// The final head of the response has come; nothing of it was sent to the client.
    async fn response(&self, head: &mut ResponseHead, state: &mut Self::State) -> Flow {
        let _ = (head, state);
        Flow::Continue
    }

    /// Whether [`request_body`](Self::request_body) is to be called for this request. Asked after
    /// [`request`](Self::request).
    fn wants_request_body(&self, state: &Self::State) -> bool {
        let _ = state;
        false
    }

    /// Whether [`response_body`](Self::response_body) is to be called for this request. Asked after
    /// [`response`](Self::response).
    fn wants_response_body(&self, state: &Self::State) -> bool {
        let _ = state;
        false
    }

    /// Bytes of the request's body, decoded, as they come, before they go upstream.
    fn request_body(&self, bytes: &[u8], state: &mut Self::State) {
        let _ = (bytes, state);
    }

    /// Bytes of the response's body, decoded, as they come, before they go downstream.
    fn response_body(&self, bytes: &[u8], state: &mut Self::State) {
        let _ = (bytes, state);
    }

    /// The exchange is over, whatever became of it.
    fn end(&self, outcome: &Outcome<'_>, state: &mut Self::State) {
        let _ = (outcome, state);
    }
}

/// Lets everything pass.
impl Filter for () {
    type State = ();
}

/// The first filter sees requests first and responses last.
impl<A: Filter, B: Filter> Filter for (A, B) {
    type State = (A::State, B::State);

    async fn request(
        &self,
        head: &mut RequestHead,
        connection: &Connection,
        state: &mut Self::State,
    ) -> Flow {
        let first = self.0.request(head, connection, &mut state.0).await;
        if matches!(first, Flow::Answer(_)) {
            return first;
        }
        match self.1.request(head, connection, &mut state.1).await {
            Flow::Continue => first,
            second => second,
        }
    }

    async fn response(&self, head: &mut ResponseHead, state: &mut Self::State) -> Flow {
        match self.1.response(head, &mut state.1).await {
            Flow::Continue => self.0.response(head, &mut state.0).await,
            flow => flow,
        }
    }

    fn wants_request_body(&self, state: &Self::State) -> bool {
        self.0.wants_request_body(&state.0) || self.1.wants_request_body(&state.1)
    }

    fn wants_response_body(&self, state: &Self::State) -> bool {
        self.0.wants_response_body(&state.0) || self.1.wants_response_body(&state.1)
    }

    fn request_body(&self, bytes: &[u8], state: &mut Self::State) {
        if self.0.wants_request_body(&state.0) {
            self.0.request_body(bytes, &mut state.0);
        }
        if self.1.wants_request_body(&state.1) {
            self.1.request_body(bytes, &mut state.1);
        }
    }

    fn response_body(&self, bytes: &[u8], state: &mut Self::State) {
        if self.1.wants_response_body(&state.1) {
            self.1.response_body(bytes, &mut state.1);
        }
        if self.0.wants_response_body(&state.0) {
            self.0.response_body(bytes, &mut state.0);
        }
    }

    fn end(&self, outcome: &Outcome<'_>, state: &mut Self::State) {
        self.1.end(outcome, &mut state.1);
        self.0.end(outcome, &mut state.0);
    }
}

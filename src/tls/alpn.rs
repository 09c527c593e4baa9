//! A service for each application protocol.

use std::pin::Pin;

use crate::{
    connection::Connection,
    service::{Service, ServiceFactory},
    shard::Shard,
};

/// Gives connections for which ALPN (RFC 7301) has chosen a protocol to one service, and all others
/// to another: those with another protocol, with none, and without TLS.
#[derive(Clone, Debug)]
#[must_use = "give it to what terminates TLS"]
pub struct ByProtocol<P, O> {
    protocol: Box<[u8]>,
    chosen: P,
    other: O,
}

impl<P> ByProtocol<P, ()> {
    /// A connection with this protocol goes to this service.
    pub fn new(protocol: impl Into<Box<[u8]>>, chosen: P) -> ByProtocol<P, ()> {
        ByProtocol { protocol: protocol.into(), chosen, other: () }
    }

    /// Any other goes to this one.
    pub fn or<O>(self, other: O) -> ByProtocol<P, O> {
        ByProtocol { protocol: self.protocol, chosen: self.chosen, other }
    }
}

impl<P: ServiceFactory, O: ServiceFactory> ServiceFactory for ByProtocol<P, O> {
    type Service = ByProtocolOnShard<P::Service, O::Service>;

    fn make(&self, shard: &Shard) -> Self::Service {
        ByProtocolOnShard {
            protocol: self.protocol.clone(),
            chosen: self.chosen.make(shard),
            other: self.other.make(shard),
        }
    }

    fn needs_original_destination(&self) -> bool {
        self.chosen.needs_original_destination() || self.other.needs_original_destination()
    }

    fn check(&self) -> Result<(), String> {
        self.chosen.check().and_then(|()| self.other.check())
    }
}

/// A [`ByProtocol`] on one shard.
#[derive(Debug)]
pub struct ByProtocolOnShard<P, O> {
    protocol: Box<[u8]>,
    chosen: P,
    other: O,
}

impl<P: Service, O: Service> Service for ByProtocolOnShard<P, O> {
    async fn serve(&self, connection: Connection) {
        let protocol = connection.tls().and_then(|tls| tls.application_protocol());
        // Each in memory of its own, so that no connection takes what only the other kind needs.
        let served: Pin<Box<dyn Future<Output = ()>>> = match protocol {
            Some(protocol) if *protocol == *self.protocol => {
                Box::pin(self.chosen.serve(connection))
            }
            _ => Box::pin(self.other.serve(connection)),
        };
        served.await;
    }
}

//! What serves a connection.
//!
//! Flows in: connections, each on the shard that carries it. A [`Service`] is made once a shard by a
//! [`ServiceFactory`], so its state need not be `Send`. Services of different types in one proxy are
//! told apart once a connection, never for a message.

use std::rc::Rc;

use crate::{
    connection::Connection,
    runtime::spawn,
    shard::{Arrived, Shard},
};

/// Serves connections of one shard.
///
/// Also implemented for async closures: `async |connection: Connection| { … }`.
pub trait Service: 'static {
    /// Serves one connection until it is done with it. Runs in a task of its own; dropping the
    /// connection closes it. The future is dropped where a drain cuts the connection.
    #[allow(async_fn_in_trait, reason = "services stay on their shard: no Send bound is wanted")]
    async fn serve(&self, connection: Connection);
}

impl<F: AsyncFn(Connection) + 'static> Service for F {
    async fn serve(&self, connection: Connection) {
        self(connection).await;
    }
}

/// Makes the service of each shard, on the shard.
///
/// Also implemented for closures from [`&Shard`](Shard) to a [`Service`].
pub trait ServiceFactory: Send + Sync + 'static {
    /// What it makes.
    type Service: Service;

    /// Called once a shard, when its first connection comes, on the shard's thread.
    fn make(&self, shard: &Shard) -> Self::Service;

    /// Whether its services can only serve connections whose original destination is known. Others
    /// are refused then.
    fn needs_original_destination(&self) -> bool {
        false
    }

    /// What is wrong with it, found out when the proxy starts rather than when connections come.
    ///
    /// # Errors
    ///
    /// A text that names the mistake and the remedy.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

impl<F, S> ServiceFactory for F
where
    F: Fn(&Shard) -> S + Send + Sync + 'static,
    S: Service,
{
    type Service = S;

    fn make(&self, shard: &Shard) -> S {
        self(shard)
    }
}

/// A [`ServiceFactory`] of any type.
pub(crate) trait AnyFactory: Send + Sync {
    fn make_any(&self, shard: &Shard) -> Rc<dyn AnyService>;
    fn needs_original_destination(&self) -> bool;

    /// Whether its services may forward to the original destination, so that this must be no loop.
    fn may_forward(&self) -> bool {
        self.needs_original_destination()
    }

    fn check(&self) -> Result<(), String>;
}

impl<F: ServiceFactory> AnyFactory for F {
    fn make_any(&self, shard: &Shard) -> Rc<dyn AnyService> {
        Rc::new(self.make(shard))
    }

    fn needs_original_destination(&self) -> bool {
        ServiceFactory::needs_original_destination(self)
    }

    fn check(&self) -> Result<(), String> {
        ServiceFactory::check(self)
    }
}

/// A [`Service`] of any type.
pub(crate) trait AnyService {
    /// Takes a connection on, without waiting for anything.
    fn start(self: Rc<Self>, arrived: Arrived);
}

impl<S: Service> AnyService for S {
    fn start(self: Rc<Self>, arrived: Arrived) {
        let mut connection = Connection::new(arrived);
        spawn(async move {
            if connection.expects_proxy_header() {
                // Boxed: most connections have none, and none has it for long.
                let header = Box::pin(connection.read_proxy_header());
                if header.await.is_err() {
                    return;
                }
            }
            self.serve(connection).await;
        })
        .detach();
    }
}

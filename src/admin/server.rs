//! The server: built, started, stopped by its drop.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use super::connections::Connections;
use super::error::Error;
use super::exchange::Timeouts;
use super::listen::{Entrance, Listening, Shared};
use super::request::Request;
use super::reserve::Reserve;
use super::response::Response;
use super::router::{Method, Router, Visible};

/// What an admin server will be. Made by [`Server::builder`].
#[must_use = "a builder does nothing until it is started"]
pub struct Builder {
    listen: Vec<(SocketAddr, Visible)>,
    router: Router,
    timeouts: Timeouts,
    max_connections: usize,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("listen", &self.listen).finish_non_exhaustive()
    }
}

impl Builder {
    /// Listens on `address` and shows every route there. Port 0 takes any free port; see
    /// [`Server::local_addrs`].
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen.push((address, Visible::All));
        self
    }

    /// Listens on `address` and shows only the routes of `paths` there: what a probe or scraper
    /// needs, where more hosts than this one can connect. Paths without a route are passed over.
    pub fn listen_only<P: Into<String>>(
        mut self,
        address: SocketAddr,
        paths: impl IntoIterator<Item = P>,
    ) -> Self {
        let paths = paths.into_iter().map(Into::into).collect();
        self.listen.push((address, Visible::Only(paths)));
        self
    }

    /// Answers GET and HEAD of `path` by `handler`, in place of an earlier one. A handler runs on a
    /// thread of its own, several at a time, and should bound the time that it takes. If it panics,
    /// the client gets a 500.
    pub fn get(
        self,
        path: impl Into<String>,
        handler: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        self.route(Method::Get, path.into(), handler)
    }

    /// Answers POST of `path` by `handler`, in place of an earlier one; otherwise like
    /// [`Builder::get`]. A request that a web page makes is refused before it comes here.
    pub fn post(
        self,
        path: impl Into<String>,
        handler: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        self.route(Method::Post, path.into(), handler)
    }

    /// How long a client may take to send its whole request; 5 seconds unless set. After that it
    /// gets a 408.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.request = timeout;
        self
    }

    /// How long a client may take to read the whole answer; 10 seconds unless set. After that the
    /// connection is closed.
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.response = timeout;
        self
    }

    /// How many connections may be open at a time; 16 unless set, and at least 1. Each costs a
    /// descriptor and a thread. When one more comes, the one that has waited longest for its client
    /// is cut; only if all are with handlers does the new one get a 503.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// Binds the addresses and starts the server's thread.
    ///
    /// # Errors
    ///
    /// If an address cannot be listened on, or there are no descriptors or threads left. Nothing is
    /// left behind then.
    pub fn start(self) -> Result<Server, Error> {
        let mut entrances = Vec::with_capacity(self.listen.len());
        let mut local_addrs = Vec::with_capacity(self.listen.len());
        for (address, visible) in self.listen {
            let bind = |address| {
                let socket = TcpListener::bind(address)?;
                socket.set_nonblocking(true)?;
                Ok((socket.local_addr()?, socket))
            };
            let (local, socket) =
                bind(address).map_err(|source| Error::Bind { address, source })?;
            local_addrs.push(local);
            entrances.push(Entrance { socket, visible: Arc::new(visible) });
        }
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let shared = Arc::new(Shared {
            router: self.router,
            timeouts: self.timeouts,
            connections: Connections::new(self.max_connections),
            reserve: Reserve::new().map_err(Error::Descriptor)?,
            stopping: AtomicBool::new(false),
            wake: wake.map_err(|errno| Error::Descriptor(errno.into()))?,
        });
        let listening = Listening::new(Arc::clone(&shared), entrances);
        let thread = thread::Builder::new()
            .name("evenkeel-admin".to_owned())
            .spawn(move || listening.run())
            .map_err(Error::Thread)?;
        Ok(Server { shared, local_addrs, thread: Some(thread) })
    }

    fn route(
        mut self,
        method: Method,
        path: String,
        handler: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        self.router.add(method, path, Box::new(handler));
        self
    }
}

/// A running admin server. Dropping it stops it: it closes its sockets, gives the answers that are
/// on their way one second, waits for handlers to return, and joins its threads. So it must not be
/// dropped by a handler, which would wait for itself; a handler that ends the process tells another
/// thread to.
pub struct Server {
    shared: Arc<Shared>,
    local_addrs: Vec<SocketAddr>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Begins to describe a server: it listens nowhere and has no routes.
    pub fn builder() -> Builder {
        let timeouts =
            Timeouts { request: Duration::from_secs(5), response: Duration::from_secs(10) };
        Builder { listen: Vec::new(), router: Router::default(), timeouts, max_connections: 16 }
    }

    /// The addresses that it listens on, in the order in which they were given.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by the panic hook.
            _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("local_addrs", &self.local_addrs).finish_non_exhaustive()
    }
}

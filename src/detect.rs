//! Telling HTTP/1 from other protocols by the first bytes of a connection.
//!
//! Flows in: connections. Flows out: the same connections, each to one of two services, which receives
//! its first bytes as if nobody had looked. It holds the bytes that it looks at for as long as it
//! cannot say, and the connection for no longer than that: then its task is the service's own. It never
//! answers, and never waits for bytes beyond its time, because where the server speaks first none come.

use std::{pin::Pin, time::Duration};

use crate::{
    connection::Connection,
    runtime::timeout,
    service::{Service, ServiceFactory},
    shard::Shard,
};

/// How long first bytes are waited for unless it is told.
const WITHIN: Duration = Duration::from_millis(100);

/// The longest method that is taken for one.
const LONGEST_METHOD: usize = 32;

/// Gives connections that begin like an HTTP/1 request to one service and all others to another.
///
/// Like a request begins what begins with a method in capitals, a space, and a path or an `http` URI;
/// `*` behind `OPTIONS` only, so that the preface of HTTP/2 is none, nor is `CONNECT`. A connection on
/// which nothing arrives within a time, 100 ms unless it is told, goes to the other service, since its
/// server may be the one to speak first; so does an HTTP client that is slower.
///
/// ```no_run
/// # use evenkeel::{Detect, Listener, Relay, http, upstream};
/// # fn listener(routes: http::Routes) -> evenkeel::Result<Listener> {
/// let either = Detect::http(http::proxy(routes)).or(Relay::to(["127.0.0.1:3306"]));
/// # Listener::bind("127.0.0.1:8080").map(|listener| listener.serve(either))
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "give it to a listener"]
pub struct Detect<H, T> {
    http: H,
    other: T,
    within: Duration,
}

impl<H> Detect<H, ()> {
    /// A connection that begins like an HTTP/1 request goes to this service.
    pub fn http(http: H) -> Detect<H, ()> {
        Detect { http, other: (), within: WITHIN }
    }

    /// Any other goes to this one.
    pub fn or<T>(self, other: T) -> Detect<H, T> {
        Detect { http: self.http, other, within: self.within }
    }
}

impl<H, T> Detect<H, T> {
    /// How long first bytes are waited for.
    pub fn within(mut self, within: Duration) -> Detect<H, T> {
        self.within = within;
        self
    }
}

impl<H: ServiceFactory, T: ServiceFactory> ServiceFactory for Detect<H, T> {
    type Service = DetectOnShard<H::Service, T::Service>;

    fn make(&self, shard: &Shard) -> Self::Service {
        DetectOnShard {
            http: self.http.make(shard),
            other: self.other.make(shard),
            within: self.within,
        }
    }

    fn needs_original_destination(&self) -> bool {
        self.http.needs_original_destination() || self.other.needs_original_destination()
    }

    fn check(&self) -> Result<(), String> {
        self.http.check().and_then(|()| self.other.check())
    }
}

/// A [`Detect`] on one shard.
#[derive(Debug)]
pub struct DetectOnShard<H, T> {
    http: H,
    other: T,
    within: Duration,
}

impl<H: Service, T: Service> Service for DetectOnShard<H, T> {
    async fn serve(&self, mut connection: Connection) {
        let is_http = Box::pin(is_http(&mut connection, self.within)).await;
        // Each in memory of its own, so that no connection takes what only the other kind needs.
        let served: Pin<Box<dyn Future<Output = ()>>> = match is_http {
            true => Box::pin(self.http.serve(connection)),
            false => Box::pin(self.other.serve(connection)),
        };
        served.await;
    }
}

/// Looks at first bytes until it can say, or the time is up. All of them are received again.
async fn is_http(connection: &mut Connection, within: Duration) -> bool {
    let stream = connection.uncounted();
    let mut seen = Vec::new();
    let look = async {
        while let Ok(Some(chunk)) = stream.receive().await {
            seen.push(chunk);
            let bytes = seen.iter().flat_map(|chunk| chunk.iter().copied());
            if let Some(verdict) = begins_like_http(bytes) {
                return verdict;
            }
        }
        false
    };
    let verdict = timeout(within, look).await.unwrap_or(false);
    for chunk in seen.into_iter().rev() {
        stream.unreceive(chunk);
    }
    verdict
}

/// Whether a connection that begins with these bytes begins like an HTTP/1 request; `None`: it takes
/// more of them to say.
fn begins_like_http(bytes: impl IntoIterator<Item = u8>) -> Option<bool> {
    let mut bytes = bytes.into_iter();
    let mut method = [0; LONGEST_METHOD];
    let mut length = 0;
    loop {
        match bytes.next()? {
            b' ' if length > 0 => break,
            byte @ (b'A'..=b'Z' | b'-') if length < LONGEST_METHOD => method[length] = byte,
            _ => return Some(false),
        }
        length += 1;
    }
    match bytes.next()? {
        b'/' => Some(true),
        b'*' => Some(&method[..length] == b"OPTIONS"),
        first => {
            let rest = std::iter::once(first).chain(bytes).map(|byte| byte.to_ascii_lowercase());
            is_http_uri(rest)
        }
    }
}

fn is_http_uri(bytes: impl Iterator<Item = u8>) -> Option<bool> {
    const SCHEMES: [&[u8]; 2] = [b"http://", b"https://"];
    let mut buffer = [0; SCHEMES[1].len()];
    let mut length = 0;
    for (at, byte) in buffer.iter_mut().zip(bytes) {
        *at = byte;
        length += 1;
    }
    let start = &buffer[..length];
    if SCHEMES.iter().any(|scheme| start.starts_with(scheme)) {
        return Some(true);
    }
    let may_become_one = SCHEMES.iter().any(|scheme| scheme.starts_with(start));
    if may_become_one { None } else { Some(false) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn verdict(text: &[u8]) -> Option<bool> {
        begins_like_http(text.iter().copied())
    }

    #[test]
    fn requests_are_told_from_other_protocols() {
        for request in [
            "GET / HTTP/1.1\r\n",
            "POST /a?b HTTP/1.0\r\n",
            "M-SEARCH /x HTTP/1.1\r\n",
            "OPTIONS * HTTP/1.1\r\n",
            "GET http://a.example/ HTTP/1.1\r\n",
            "GET HTTPS://a.example/ HTTP/1.1\r\n",
        ] {
            assert_eq!(verdict(request.as_bytes()), Some(true), "{request}");
        }
        let client_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
        for other in [
            &client_hello[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"CONNECT a.example:443 HTTP/1.1\r\n",
            b"EHLO mail.example\r\n",
            b"get /key\r\n",
            b"SET key value\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"SSH-2.0-OpenSSH_9.9\r\n",
            b"\r\nGET / HTTP/1.1\r\n",
            b" / HTTP/1.1\r\n",
            b"OPTIONS sip:a@b.example SIP/2.0\r\n",
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n",
            b"GET httpx://a.example/ HTTP/1.1\r\n",
        ] {
            assert_eq!(verdict(other), Some(false), "{}", other.escape_ascii());
        }
        for open in ["", "G", "GET", "GET ", "GET h", "GET https:/", "OPTIONS "] {
            assert_eq!(verdict(open.as_bytes()), None, "{open}");
        }
    }

    proptest! {
        /// What has been said stays said, whatever comes behind.
        #[test]
        fn more_bytes_do_not_change_a_verdict(text in "[A-Z-]{0,4} ?(/|\\*|https?:?/?/?|.)?.{0,4}") {
            let text = text.as_bytes();
            let whole = verdict(text);
            for end in 0..text.len() {
                if let Some(early) = verdict(&text[..end]) {
                    prop_assert_eq!(Some(early), whole);
                }
            }
        }
    }
}

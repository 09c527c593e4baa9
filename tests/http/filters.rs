//! Filters: what they see, what they change, and that they are told of every end.

use std::{
    sync::{
        Arc, Mutex,
        mpsc::{self, Sender},
    },
    thread,
    time::Duration,
};

use evenkeel::{
    Connection,
    http::{self, Answer, Filter, Flow, RequestHead, ResponseHead, Routes, Timeouts},
    shard::Shard,
    telemetry::{CodeClass, Outcome, ResponseFlag},
};

use crate::stage::{Origin, Stage, cluster, eventually, get, nowhere, ok, route, routes};

/// Does what the request's target says, and notes what it has seen.
#[derive(Clone, Default)]
struct Director {
    ends: Arc<Mutex<Vec<String>>>,
}

#[derive(Default)]
struct Seen {
    target: String,
    request: Vec<u8>,
    response: Vec<u8>,
}

impl Filter for Director {
    type State = Seen;

    async fn request(&self, head: &mut RequestHead, _: &Connection, seen: &mut Seen) -> Flow {
        seen.target = head.path().to_owned();
        match head.path() {
            "/answer" => return Flow::answer(401),
            "/empty" => return Flow::Answer(Answer::status(204).body("text/plain", "none of it")),
            "/other" => return Flow::cluster("other"),
            "/lost" => return Flow::cluster("lost"),
            "/slow" => evenkeel::runtime::sleep(Duration::from_secs(60)).await,
            "/change" => {
                head.headers_mut().insert("X-User", "ali").unwrap();
                head.headers_mut().remove("X-Secret");
                head.set_path_and_query("/changed?x").unwrap();
            }
            _ => {}
        }
        Flow::Continue
    }

    async fn response(&self, head: &mut ResponseHead, seen: &mut Seen) -> Flow {
        head.headers_mut().insert("X-Filtered", "yes").unwrap();
        match &*seen.target {
            "/replace" => Flow::answer(451),
            _ => Flow::Continue,
        }
    }

    fn wants_request_body(&self, seen: &Seen) -> bool {
        seen.target == "/bodies"
    }

    fn wants_response_body(&self, seen: &Seen) -> bool {
        seen.target == "/bodies"
    }

    fn request_body(&self, bytes: &[u8], seen: &mut Seen) {
        seen.request.extend_from_slice(bytes);
    }

    fn response_body(&self, bytes: &[u8], seen: &mut Seen) {
        seen.response.extend_from_slice(bytes);
    }

    fn end(&self, outcome: &Outcome<'_>, seen: &mut Seen) {
        let bodies = [&seen.request, &seen.response].map(|body| String::from_utf8_lossy(body));
        let line = format!(
            "{} {} {:?} {}>{}",
            seen.target, outcome.status, outcome.flag, bodies[0], bodies[1]
        );
        self.ends.lock().unwrap().push(line);
    }
}

impl Director {
    /// Waits for the end of one more exchange, and says how it was.
    fn end_of(&self, count: usize) -> String {
        eventually("the filter is told", || self.ends.lock().unwrap().len() >= count);
        let ends = self.ends.lock().unwrap();
        assert_eq!(ends.len(), count, "{ends:?}");
        ends[count - 1].clone()
    }
}

fn directed(origin: &Origin, timeouts: Timeouts) -> (Stage, Director) {
    let director = Director::default();
    let other = Origin::answering(ok("other"));
    let clusters = [cluster("origin", origin.address), cluster("other", other.address)];
    let made = director.clone();
    let web = http::proxy(routes(vec![route("/", "origin")], clusters))
        .filter(move |_: &Shard| made.clone())
        .timeouts(timeouts);
    (Stage::serving(web), director)
}

#[test]
fn a_filter_answers_changes_and_chooses() {
    needs_io_uring!();
    let origin = Origin::echo();
    let (stage, director) = directed(&origin, Timeouts::default());
    let mut client = stage.client();
    let answer = client.ask(get("/answer"));
    assert_eq!((answer.status(), answer.text()), (401, "Unauthorized\n"));
    assert_eq!(director.end_of(1), "/answer 401 None >");
    let empty = client.ask(get("/empty"));
    assert_eq!((empty.status(), empty.field("content-length")), (204, None));
    let changed = client.ask("GET /change HTTP/1.1\r\nHost: a\r\nX-Secret: 1\r\n\r\n");
    assert_eq!((changed.text(), changed.field("x-filtered")), ("/changed?x", Some("yes")));
    assert!(origin.all_seen().contains("X-User: ali\r\n"));
    assert!(!origin.all_seen().contains("X-Secret"));
    assert_eq!(client.ask(get("/other")).text(), "other");
    assert_eq!(client.ask(get("/lost")).status(), 503);
    stage.counted(CodeClass::ServerError, ResponseFlag::NoCluster, 1);
    let replaced = client.ask(get("/replace"));
    assert_eq!(replaced.status(), 451);
    assert_eq!(client.ask(get("/after")).text(), "/after");
    director.end_of(7);
}

#[test]
fn a_filter_sees_bodies_without_their_framing() {
    needs_io_uring!();
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nans\r\n3\r\nwer\r\n0\r\n\r\n",
    );
    let (stage, director) = directed(&origin, Timeouts::default());
    let chunked = "POST /bodies HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    assert_eq!(stage.ask(chunked).text(), "answer");
    assert_eq!(director.end_of(1), "/bodies 200 None hello>answer");
}

#[test]
fn a_filter_is_told_of_an_end_whatever_it_is() {
    needs_io_uring!();
    let origin = Origin::new(|wire, _| drop(wire.rest()));
    let mut timeouts = Timeouts::default();
    timeouts.request = Some(Duration::from_millis(300));
    let (stage, director) = directed(&origin, timeouts);
    // The client leaves while the origin is waited for.
    let mut client = stage.client();
    client.send(get("/wait"));
    thread::sleep(Duration::from_millis(100));
    drop(client);
    assert_eq!(director.end_of(1), "/wait 0 DownstreamConnectionTermination >");
    // Time runs out for the origin, and for the filter itself, which keeps its state.
    assert_eq!(stage.ask(get("/wait")).status(), 504);
    assert_eq!(director.end_of(2), "/wait 504 UpstreamRequestTimeout >");
    assert_eq!(stage.ask(get("/slow")).status(), 504);
    assert_eq!(director.end_of(3), "/slow 504 UpstreamRequestTimeout >");
    stage.is_quiet();
}

#[test]
fn a_filter_is_told_why_the_upstream_could_not_be_reached() {
    struct Why(Sender<String>);
    impl Filter for Why {
        type State = ();
        fn end(&self, outcome: &Outcome<'_>, (): &mut ()) {
            let _ = self.0.send(format!("{} {:?}", outcome.flag, outcome.transport_failure));
        }
    }
    let (sender, told) = mpsc::channel();
    let to_nowhere = Routes::to(cluster("origin", nowhere()));
    let web = http::proxy(to_nowhere).filter(move |_: &Shard| Why(sender.clone()));
    let stage = Stage::serving(web);
    assert_eq!(stage.ask(get("/")).status(), 503);
    let told = told.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(told.starts_with("UF Some(\"Connection refused"), "{told}");
}

#[test]
fn two_filters_see_requests_in_order_and_answers_in_reverse() {
    needs_io_uring!();
    #[derive(Clone)]
    struct Named(&'static str);
    impl Filter for Named {
        type State = ();
        async fn request(&self, head: &mut RequestHead, _: &Connection, (): &mut ()) -> Flow {
            head.headers_mut().append("X-Order", self.0).unwrap();
            Flow::Continue
        }
        async fn response(&self, head: &mut ResponseHead, (): &mut ()) -> Flow {
            head.headers_mut().append("X-Order", self.0).unwrap();
            Flow::Continue
        }
    }
    let origin = Origin::echo();
    let to_origin = Routes::to(cluster("origin", origin.address));
    let web = http::proxy(to_origin).filter(|_: &Shard| (Named("first"), Named("second")));
    let stage = Stage::serving(web);
    let answer = stage.ask(get("/"));
    assert!(answer.head.contains("X-Order: second\r\nX-Order: first\r\n"), "{}", answer.head);
    assert!(origin.all_seen().contains("X-Order: first\r\nX-Order: second\r\n"));
}

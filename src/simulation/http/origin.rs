//! An origin that checks every byte of what reaches it, and answers well or badly.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use super::{
    super::wire::Wire,
    client::{Target, chunk},
    reader::Request,
};
use crate::{
    net::{Accepting, Stream},
    ring::simulated::World,
    runtime::{sleep, spawn},
};

/// How often each request, by its method and target, has come to its end.
pub(super) type Seen = Rc<RefCell<HashMap<String, u32>>>;

/// What an origin does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    WithALength,
    InChunks,
    UpToTheEnd,
    WithNothing,
    /// Before it has read the body.
    Early,
    /// A part of it, and a reset or the end.
    InPart,
    WithRubbish,
    /// Neither, but the connection's end.
    NotAtAll,
    /// Never.
    Silence,
}

const FAIR: &[Answers] = &[
    Answers::WithALength,
    Answers::WithALength,
    Answers::InChunks,
    Answers::UpToTheEnd,
    Answers::WithNothing,
];
const WILD: &[Answers] = &[
    Answers::WithALength,
    Answers::WithALength,
    Answers::InChunks,
    Answers::UpToTheEnd,
    Answers::WithNothing,
    Answers::Early,
    Answers::InPart,
    Answers::WithRubbish,
    Answers::NotAtAll,
    Answers::Silence,
];

const RUBBISH: [&str; 5] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nab",
    "HTTP/1.1 20 OK\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "SSH-2.0-OpenSSH\r\n\r\n",
];

/// Serves every connection, each by a task of its own.
pub(super) fn serve(world: &World, fair: bool) -> Seen {
    let accepting = Accepting::adopt(world.listen(super::super::ORIGIN.into()));
    let seen = Seen::default();
    let (world, all) = (world.clone(), Rc::clone(&seen));
    spawn(async move {
        while let Ok(socket) = accepting.accept().await {
            let wire = Wire::new(Stream::adopt(socket), world.random());
            spawn(serve_one(wire, Rc::clone(&all), fair)).detach();
        }
    })
    .detach();
    seen
}

async fn serve_one(mut wire: Wire, seen: Seen, fair: bool) {
    loop {
        let Some(head) = wire.read(Request::head).await else { break };
        let way = wire.random.pick(if fair { FAIR } else { WILD });
        let target = Target::parse(&head.target);
        let early = match way {
            Answers::Early => answer(&mut wire, &head, &target, way).await,
            _ => None,
        };
        let Some(body) = read_body(&mut wire, &head).await else { break };
        assert_eq!(body, target.sent(), "the body of {}", head.target);
        let name = format!("{} {}", head.method, head.target);
        *seen.borrow_mut().entry(name).or_default() += 1;
        let closes = match early {
            Some(closes) => closes,
            None => match answer(&mut wire, &head, &target, way).await {
                Some(closes) => closes,
                None => return,
            },
        };
        if closes {
            break;
        }
    }
    assert!(!fair || wire.unread.is_empty(), "a request was cut off");
    wire.stream.finish();
    let _ = wire.stream.flush().await;
}

/// Reads the body behind a head that was taken already.
async fn read_body(wire: &mut Wire, head: &Request) -> Option<Vec<u8>> {
    // The reader reads whole messages only.
    let mut bytes = format!("{} {} HTTP/1.1\r\n", head.method, head.target).into_bytes();
    for (name, value) in &head.fields {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    let length = bytes.len();
    let whole = |unread: &[u8]| {
        let (request, read) = Request::whole(&[&*bytes, unread].concat())?;
        Some((request.body, read - length))
    };
    wire.read(whole).await
}

/// Answers, and says whether the connection ends behind that; nothing where it has ended.
async fn answer(wire: &mut Wire, asked: &Request, target: &Target, way: Answers) -> Option<bool> {
    let body = target.wanted();
    let mut bytes = Vec::new();
    if wire.random.chance(10) {
        let interim =
            ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"];
        bytes.extend_from_slice(wire.random.pick(&interim).as_bytes());
    }
    let closes = way == Answers::UpToTheEnd || wire.random.chance(15);
    let status = if way == Answers::WithNothing { "204 No Content" } else { "200 OK" };
    bytes.extend_from_slice(
        format!("HTTP/1.1 {status}\r\nX-Target: {}\r\n", asked.target).as_bytes(),
    );
    if closes {
        bytes.extend_from_slice(b"Connection: close\r\n");
    }
    let bare = asked.method == "HEAD" || way == Answers::WithNothing;
    match way {
        Answers::WithNothing => bytes.extend_from_slice(b"\r\n"),
        Answers::InChunks => {
            bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            if !bare {
                chunk(&mut wire.random, &body, &mut bytes);
            }
        }
        Answers::UpToTheEnd => {
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(if bare { b"" } else { &body });
        }
        Answers::WithALength | Answers::InPart | Answers::Early => {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            bytes.extend_from_slice(if bare { b"" } else { &body });
        }
        Answers::WithRubbish => bytes = wire.random.pick(&RUBBISH).as_bytes().to_vec(),
        Answers::NotAtAll => bytes.clear(),
        Answers::Silence => {
            sleep(std::time::Duration::from_secs(3600)).await;
        }
    }
    if way == Answers::InPart {
        bytes.truncate(wire.random.below(bytes.len() as u64) as usize);
        if wire.random.chance(50) {
            wire.stream.reset_on_drop();
        }
    }
    let sent = wire.send(&bytes).await;
    if way == Answers::InPart && sent.is_ok() {
        let _ = wire.stream.flush().await;
        return None;
    }
    sent.ok().map(|()| closes || matches!(way, Answers::NotAtAll | Answers::WithRubbish))
}

//! HTTP as tests speak it: a client that sees answers whole, and origins that tell what reached them.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::origin::origin;

/// An answer, or a request as it reached an origin.
#[derive(Debug)]
pub(crate) struct Message {
    /// The first line.
    pub(crate) line: String,
    /// The lines of the fields.
    pub(crate) fields: Vec<String>,
    pub(crate) body: String,
}

impl Message {
    /// Of an answer.
    pub(crate) fn status(&self) -> u16 {
        self.line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find_map(|line| {
            let (of, value) = line.split_once(':')?;
            of.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Reads one whose body has a length. `None`: the connection has ended instead.
    pub(crate) fn read(from: &mut impl BufRead) -> Option<Message> {
        let mut next = || {
            let mut line = String::new();
            from.read_line(&mut line).ok().filter(|read| *read > 0)?;
            Some(line.trim_end().to_owned())
        };
        let line = next()?;
        let fields: Vec<_> =
            std::iter::from_fn(&mut next).take_while(|it| !it.is_empty()).collect();
        let mut message = Message { line, fields, body: String::new() };
        let length = message.field("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        from.read_exact(&mut body).ok()?;
        message.body = String::from_utf8(body).unwrap();
        Some(message)
    }
}

/// A keep-alive connection of a client.
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Client(BufReader::new(stream))
    }

    /// Asks for something, with these lines in the head.
    pub(crate) fn get(&mut self, target: &str, lines: &[&str]) -> Message {
        let mut head = format!("GET {target} HTTP/1.1\r\n");
        for line in lines {
            head += &format!("{line}\r\n");
        }
        self.0.get_mut().write_all((head + "\r\n").as_bytes()).unwrap();
        self.read().expect("an answer")
    }

    pub(crate) fn read(&mut self) -> Option<Message> {
        Message::read(&mut self.0)
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        self.0.get_mut()
    }
}

/// Asks over a connection of its own.
pub(crate) fn get(address: SocketAddr, target: &str, lines: &[&str]) -> Message {
    Client::connect(address).get(target, lines)
}

/// Answers each request with its own name and the head of the request as it came.
pub(crate) fn teller(name: &'static str) -> SocketAddr {
    answering(move |request| {
        let fields = request.fields.join("\n");
        (200, format!("{name}\n{}\n{fields}\n", request.line))
    })
}

/// Answers each request with what `answer` says.
pub(crate) fn answering(
    answer: impl Fn(&Message) -> (u16, String) + Clone + Send + 'static,
) -> SocketAddr {
    origin(move |stream| {
        let mut from = BufReader::new(stream.try_clone().unwrap());
        let mut to = stream;
        while let Some(request) = Message::read(&mut from) {
            let (status, body) = answer(&request);
            let head = format!("HTTP/1.1 {status} It\r\nContent-Length: {}\r\n\r\n", body.len());
            if to.write_all((head + &body).as_bytes()).is_err() {
                return;
            }
        }
    })
}

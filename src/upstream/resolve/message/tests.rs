use proptest::prelude::*;
use simple_dns::{
    QTYPE, Question as Asked,
    rdata::{A, AAAA, CNAME, SOA},
};

use super::*;

/// An answer to a question, as a server makes it.
pub(in crate::upstream::resolve) struct Answer<'a> {
    packet: Packet<'a>,
}

impl<'a> Answer<'a> {
    /// Repeats the question.
    pub(in crate::upstream::resolve) fn to(question: &'a [u8]) -> Answer<'a> {
        let packet = Packet::parse(question).unwrap().into_reply();
        Answer { packet }
    }

    /// The name that is asked for, in lower case, and the family.
    pub(in crate::upstream::resolve) fn asked(&self) -> (String, Family) {
        let Asked { qname, qtype, .. } = &self.packet.questions[0];
        let family = match qtype {
            QTYPE::TYPE(TYPE::A) => Family::Ipv4,
            QTYPE::TYPE(TYPE::AAAA) => Family::Ipv6,
            other => panic!("{other:?} was asked for"),
        };
        (qname.to_string().to_ascii_lowercase(), family)
    }

    fn record(mut self, name: &'a str, ttl: u32, data: RData<'a>) -> Answer<'a> {
        let name = Name::new(name).unwrap();
        self.packet.answers.push(ResourceRecord::new(name, CLASS::IN, ttl, data));
        self
    }

    pub(in crate::upstream::resolve) fn address(
        self,
        name: &'a str,
        ttl: u32,
        address: &str,
    ) -> Answer<'a> {
        match address.parse().unwrap() {
            IpAddr::V4(ip) => self.record(name, ttl, RData::A(A { address: ip.into() })),
            IpAddr::V6(ip) => self.record(name, ttl, RData::AAAA(AAAA { address: ip.into() })),
        }
    }

    pub(in crate::upstream::resolve) fn alias(
        self,
        name: &'a str,
        ttl: u32,
        target: &'a str,
    ) -> Answer<'a> {
        let target = CNAME(Name::new(target).unwrap());
        self.record(name, ttl, RData::CNAME(target))
    }

    /// What says for how long there is nothing.
    pub(in crate::upstream::resolve) fn nothing_for(
        mut self,
        ttl: u32,
        minimum: u32,
    ) -> Answer<'a> {
        let name = || Name::new("example").unwrap();
        let soa = SOA {
            mname: name(),
            rname: name(),
            serial: 1,
            refresh: 1,
            retry: 1,
            expire: 1,
            minimum,
        };
        let record = ResourceRecord::new(name(), CLASS::IN, ttl, RData::SOA(soa));
        self.packet.name_servers.push(record);
        self
    }

    pub(in crate::upstream::resolve) fn code(mut self, code: RCODE) -> Answer<'a> {
        *self.packet.rcode_mut() = code;
        self
    }

    pub(in crate::upstream::resolve) fn cut(mut self) -> Answer<'a> {
        self.packet.set_flags(PacketFlag::TRUNCATION);
        self
    }

    pub(in crate::upstream::resolve) fn bytes(&self) -> Vec<u8> {
        self.packet.build_bytes_vec_compressed().unwrap()
    }
}

fn question(name: &str, family: Family) -> Question {
    let mut random = [0; 34];
    random.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at as u8).wrapping_mul(73) ^ 0x5a);
    Question::new(name, family, random).unwrap()
}

fn addresses(list: &[&str], ttl: u32) -> Reply {
    Reply::Addresses(list.iter().map(|it| it.parse().unwrap()).collect(), ttl)
}

#[test]
fn a_question_is_as_unpredictable_as_its_randomness() {
    let question = question("a-long-name.example", Family::Ipv6);
    let packet = Packet::parse(question.bytes()).unwrap();
    assert_eq!(packet.id(), 0x5a13);
    let name = packet.questions[0].qname.to_string();
    assert!(name != "a-long-name.example" && name.eq_ignore_ascii_case("a-long-name.example"));
    assert!(packet.has_flags(PacketFlag::RECURSION_DESIRED));
    let too_long = vec!["a".repeat(60); 5].join(".");
    assert!(Question::new(&too_long, Family::Ipv4, [0; 34]).is_none());
}

#[test]
fn the_addresses_of_the_family_are_taken_with_the_shortest_ttl() {
    let asked = question("web.example", Family::Ipv4);
    let answer = Answer::to(asked.bytes())
        .address("web.example", 60, "10.0.0.1")
        .address("WEB.example", 30, "10.0.0.2")
        .address("web.example", 5, "fd00::1")
        .address("other.example", 1, "10.0.0.3");
    assert_eq!(asked.read(&answer.bytes(), true), addresses(&["10.0.0.1", "10.0.0.2"], 30));
    let asked = question("web.example", Family::Ipv6);
    let answer = Answer::to(asked.bytes()).address("web.example", 5, "fd00::1");
    assert_eq!(asked.read(&answer.bytes(), true), addresses(&["fd00::1"], 5));
}

#[test]
fn aliases_are_followed_within_the_answer() {
    let asked = question("web.example", Family::Ipv4);
    let answer = || Answer::to(asked.bytes());
    let whole = answer()
        .address("c.example", 60, "10.0.0.1")
        .alias("b.example", 20, "c.example")
        .alias("web.example", 30, "b.example");
    assert_eq!(asked.read(&whole.bytes(), true), addresses(&["10.0.0.1"], 20));
    let open = answer().alias("web.example", 30, "B.example");
    assert_eq!(asked.read(&open.bytes(), true), Reply::Alias("b.example".into(), 30));
    let ended = answer().alias("web.example", 30, "b.example").nothing_for(9, 7);
    assert_eq!(asked.read(&ended.bytes(), true), Reply::NoAddress(Some(7)));
    let circle =
        answer().alias("web.example", 30, "b.example").alias("b.example", 30, "web.example");
    assert!(matches!(asked.read(&circle.bytes(), true), Reply::Failed(_)));
    let no_host = answer().alias("web.example", 30, "b b.example");
    assert!(matches!(asked.read(&no_host.bytes(), true), Reply::Failed(_)));
}

#[test]
fn codes_say_what_there_is_not() {
    let asked = question("web.example", Family::Ipv4);
    let read = |answer: Answer<'_>| asked.read(&answer.bytes(), true);
    let answer = || Answer::to(asked.bytes());
    assert_eq!(read(answer()), Reply::NoAddress(None));
    assert_eq!(read(answer().nothing_for(5, 60)), Reply::NoAddress(Some(5)));
    let no_such_name = answer().code(RCODE::NameError).nothing_for(60, 5);
    assert_eq!(read(no_such_name), Reply::NoSuchName(Some(5)));
    for code in [RCODE::ServerFailure, RCODE::Refused, RCODE::FormatError, RCODE::NotImplemented] {
        assert!(matches!(read(answer().code(code)), Reply::Failed(_)), "{code:?}");
    }
    let malformed = &answer().address("web.example", 60, "10.0.0.1").bytes()[..40];
    assert!(matches!(asked.read(malformed, true), Reply::Failed(_)));
}

#[test]
fn what_does_not_repeat_the_question_is_no_answer() {
    let asked = question("web.example", Family::Ipv4);
    let good = Answer::to(asked.bytes()).address("web.example", 60, "10.0.0.1").bytes();
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        asked.read(&bytes, true)
    };
    assert_eq!(changed(0, good[0]), addresses(&["10.0.0.1"], 60));
    assert_eq!(changed(0, !good[0]), Reply::NotMine, "another id");
    assert_eq!(changed(2, 0x01), Reply::NotMine, "a question");
    assert_eq!(changed(5, 2), Reply::NotMine, "two questions");
    assert_eq!(changed(13, b'x'), Reply::NotMine, "another name");
    assert_eq!(changed(asked.bytes().len() - 3, 28), Reply::NotMine, "another family");
    assert_eq!(asked.read(asked.bytes(), true), Reply::NotMine, "itself");
    assert_eq!(asked.read(&[], true), Reply::NotMine);
    // The same name in another case: it may be forged, and over TCP it is not.
    let case = good[13] ^ 0x20;
    assert_eq!(changed(13, case), Reply::AskOverTcp);
    let mut bytes = good.clone();
    bytes[13] = case;
    assert_eq!(asked.read(&bytes, false), addresses(&["10.0.0.1"], 60));
}

#[test]
fn an_answer_that_is_cut_short_is_asked_for_over_tcp() {
    let asked = question("web.example", Family::Ipv4);
    let cut = Answer::to(asked.bytes()).address("web.example", 60, "10.0.0.1").cut().bytes();
    assert_eq!(asked.read(&cut, true), Reply::AskOverTcp);
    assert!(matches!(asked.read(&cut, false), Reply::Failed(_)));
}

proptest! {
    /// Whatever comes, it is read without a panic and within bounds.
    #[test]
    fn any_message_is_read(noise: Vec<u8>, flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8)) {
        let asked = question("web.example", Family::Ipv4);
        let mut message = Answer::to(asked.bytes())
            .alias("web.example", 60, "b.example")
            .address("b.example", 60, "10.0.0.1")
            .nothing_for(1, 1)
            .bytes();
        message.extend_from_slice(&noise);
        let head = asked.bytes().len();
        for (at, byte) in flips {
            let at = head + at.index(message.len() - head);
            message[at] = byte;
        }
        asked.read(&message, true);
        asked.read(&noise, true);
    }
}

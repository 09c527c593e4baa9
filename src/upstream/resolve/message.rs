//! Questions and answers, as bytes (RFC 1035, section 4).
//!
//! *In:* a name and a family; the bytes of a message. *Out:* the bytes of a question; what a message
//! says to it. *Never:* takes a message for an answer that does not repeat the question.
//!
//! An answer over UDP can be forged by whoever guesses the port and the id of a question. So both
//! are unpredictable, and so is the case of each letter of the name, which servers repeat as they
//! got it (draft-vixie-dnsext-dns0x20). A message that is right but for the case is either forged
//! or from one of the few servers that change it: the question is asked again over TCP, where
//! nobody can forge from afar.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use simple_dns::{CLASS, Name, Packet, PacketFlag, RCODE, ResourceRecord, TYPE, rdata::RData};

/// How many aliases are followed from one name.
pub(super) const LONGEST_CHAIN: usize = 16;

/// Which kind of address is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Ipv4,
    Ipv6,
}

/// A question that has been put into bytes.
#[derive(Debug)]
pub(super) struct Question {
    family: Family,
    bytes: Vec<u8>,
}

/// What a message says to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// It is no answer to this question: it may be forged, or late. Wait on.
    NotMine,
    /// It must be asked over TCP: the answer did not fit, or cannot be told from a forged one.
    AskOverTcp,
    /// These addresses, in the order of the answer, for so many seconds.
    Addresses(Vec<IpAddr>, u32),
    /// Ask for this name instead, and remember that this is good for so many seconds.
    Alias(String, u32),
    /// The name is there and has no address of this family.
    NoAddress(Option<u32>),
    /// There is no such name, for so many seconds.
    NoSuchName(Option<u32>),
    /// The server cannot or will not answer: another one may.
    Failed(&'static str),
}

impl Question {
    /// The question for addresses of `name`. `random` is unpredictable: the id, and the case of the
    /// letters. `None` if the name is too long.
    pub(super) fn new(name: &str, family: Family, random: [u8; 34]) -> Option<Question> {
        let (id, cases) = random.split_first_chunk::<2>()?;
        let cased: String = name
            .char_indices()
            .map(|(at, c)| match cases[at / 8 % cases.len()] >> (at % 8) & 1 {
                0 => c.to_ascii_lowercase(),
                _ => c.to_ascii_uppercase(),
            })
            .collect();
        let mut packet = Packet::new_query(u16::from_be_bytes(*id));
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        let kind = match family {
            Family::Ipv4 => TYPE::A,
            Family::Ipv6 => TYPE::AAAA,
        };
        let name = Name::new(&cased).ok()?;
        let question = simple_dns::Question::new(name, kind.into(), CLASS::IN.into(), false);
        packet.questions.push(question);
        Some(Question { family, bytes: packet.build_bytes_vec().ok()? })
    }

    /// The message to send.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What `message` says. `may_be_forged` is for UDP.
    pub(super) fn read(&self, message: &[u8], may_be_forged: bool) -> Reply {
        const ANSWERS: usize = 6;
        // The id; that it is an answer to a query; one question; and the question itself, which is
        // never compressed, being the first name in the message.
        let (header, asked) = self.bytes.split_at(12);
        let is_mine = message.len() >= self.bytes.len()
            && message[..2] == header[..2]
            && message[2] & 0xf8 == 0x80
            && message[4..ANSWERS] == [0, 1]
            && message[12..self.bytes.len()].eq_ignore_ascii_case(asked);
        if !is_mine {
            return Reply::NotMine;
        }
        if may_be_forged && message[12..self.bytes.len()] != *asked {
            return Reply::AskOverTcp;
        }
        let is_cut = message[2] & 0x02 != 0;
        if is_cut {
            let failed = Reply::Failed("an answer that is cut short over TCP");
            return if may_be_forged { Reply::AskOverTcp } else { failed };
        }
        match Packet::parse(message) {
            Ok(packet) => self.answer(&packet),
            Err(_) => Reply::Failed("a malformed answer"),
        }
    }

    fn answer(&self, packet: &Packet<'_>) -> Reply {
        let negative_ttl = packet.name_servers.iter().find_map(|record| match &record.rdata {
            // RFC 2308, section 5.
            RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
            _ => None,
        });
        match packet.rcode() {
            RCODE::NoError => {}
            RCODE::NameError => return Reply::NoSuchName(negative_ttl),
            RCODE::ServerFailure => return Reply::Failed("SERVFAIL"),
            RCODE::Refused => return Reply::Failed("REFUSED"),
            RCODE::FormatError => return Reply::Failed("FORMERR"),
            _ => return Reply::Failed("an error"),
        }
        let Some(question) = packet.questions.first() else { return Reply::NotMine };
        let Some((name, chain_ttl)) = end_of_chain(&question.qname, &packet.answers) else {
            return Reply::Failed("a chain of aliases that is too long");
        };
        let mut ttl = chain_ttl.unwrap_or(u32::MAX);
        let mut addresses = Vec::new();
        for record in records_of(name, &packet.answers) {
            if let Some(address) = self.address(record) {
                addresses.push(address);
                ttl = ttl.min(record.ttl);
            }
        }
        match chain_ttl {
            _ if !addresses.is_empty() => Reply::Addresses(addresses, ttl),
            // The server followed the aliases, and says that there is nothing at the end of them.
            Some(_) if negative_ttl.is_none() => match host_name(name) {
                Some(name) => Reply::Alias(name, ttl),
                None => Reply::Failed("an alias that is no host's name"),
            },
            _ => Reply::NoAddress(negative_ttl),
        }
    }

    fn address(&self, record: &ResourceRecord<'_>) -> Option<IpAddr> {
        match (self.family, &record.rdata) {
            (Family::Ipv4, RData::A(a)) => Some(Ipv4Addr::from(a.address).into()),
            (Family::Ipv6, RData::AAAA(aaaa)) => Some(Ipv6Addr::from(aaaa.address).into()),
            _ => None,
        }
    }
}

/// Where the aliases lead that begin with `name`, and for how long; `None` if they do not end.
fn end_of_chain<'a>(
    name: &'a Name<'a>,
    answers: &'a [ResourceRecord<'a>],
) -> Option<(&'a Name<'a>, Option<u32>)> {
    let (mut name, mut ttl) = (name, None);
    for _ in 0..LONGEST_CHAIN {
        let alias = records_of(name, answers).find_map(|record| match &record.rdata {
            RData::CNAME(target) => Some((&target.0, record.ttl)),
            _ => None,
        });
        let Some((target, target_ttl)) = alias else { return Some((name, ttl)) };
        name = target;
        ttl = Some(ttl.unwrap_or(u32::MAX).min(target_ttl));
    }
    None
}

fn records_of<'a>(
    name: &'a Name<'a>,
    answers: &'a [ResourceRecord<'a>],
) -> impl Iterator<Item = &'a ResourceRecord<'a>> {
    answers.iter().filter(move |record| record.class == CLASS::IN && record.name == *name)
}

/// The name as text, if it has only what host names have (and underscores).
fn host_name(name: &Name<'_>) -> Option<String> {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let labels = name.get_labels();
    let is_host = !labels.is_empty() && labels.iter().all(|label| label.as_ref().iter().all(legal));
    is_host.then(|| name.to_string().to_ascii_lowercase())
}

#[cfg(all(test, not(loom)))]
pub(super) mod tests;

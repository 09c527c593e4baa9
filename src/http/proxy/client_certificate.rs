//! What a proxy says about its clients' certificates to the upstream: `X-Forwarded-Client-Cert`.
//!
//! Its form is Envoy's, so that services that know one proxy's know the other's: an element for each
//! proxy that has seen a certificate, with commas between them, of `key=value` with semicolons
//! between them.
//! (<https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers>)
//!
//! A client whose certificate was not verified is never believed, whatever it says about itself or
//! about those behind it.

use crate::{connection::Connection, http::RequestHead};

const NAME: &str = "X-Forwarded-Client-Cert";

/// What becomes of `X-Forwarded-Client-Cert` in requests. By Envoy's names for it.
///
/// A client has a certificate where TLS ends in front of this proxy
/// ([`tls::terminate`](crate::tls::terminate)) and asks for one. Of any other client the field is
/// dropped, unless it is [`AlwaysForwardOnly`](Self::AlwaysForwardOnly).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForwardedClientCertificate {
    /// It is dropped.
    #[default]
    Sanitize,
    /// What came is dropped, and written anew from the client's certificate. For a proxy at the edge
    /// of what is trusted.
    SanitizeSet(CertificateDetails),
    /// What is known of the client's certificate is put behind what came. For a sidecar in a mesh:
    /// the client is known by its certificate, and believed about those behind it.
    AppendForward(CertificateDetails),
    /// It stays as it came.
    ForwardOnly,
    /// It stays as it came, whoever the client is. Safe only where nobody but a trusted proxy can
    /// connect.
    AlwaysForwardOnly,
}

/// What is told of a client's certificate. `By`, the URIs of the certificate that the client was
/// shown, and `Hash`, the SHA-256 of its own, always are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CertificateDetails {
    /// `Cert`: the certificate as PEM, percent-encoded. It is some hundreds of bytes, in every
    /// request.
    pub certificate: bool,
    /// `Chain`: the same, with the certificates that the client sent behind it.
    pub chain: bool,
    /// `Subject`: the name of its subject (RFC 4514).
    pub subject: bool,
    /// `URI`: the URIs among its subject's alternative names.
    pub uri: bool,
    /// `DNS`: the DNS names among them.
    pub dns: bool,
}

/// Writes the field into the head of a request.
pub(super) fn write(
    head: &mut RequestHead,
    policy: ForwardedClientCertificate,
    connection: &Connection,
    scratch: &mut String,
) {
    use ForwardedClientCertificate as Policy;
    let headers = head.headers_mut();
    let client = Client::of(connection);
    let (client, details, appends) = match (policy, client) {
        (Policy::AlwaysForwardOnly, _) | (Policy::ForwardOnly, Some(_)) => return,
        (Policy::SanitizeSet(details), Some(client)) => (client, details, false),
        (Policy::AppendForward(details), Some(client)) => (client, details, true),
        _ => {
            headers.remove(NAME);
            return;
        }
    };
    scratch.clear();
    if appends {
        for value in headers.get_all(NAME) {
            if let Ok(value) = str::from_utf8(value)
                && !value.is_empty()
            {
                scratch.push_str(value);
                scratch.push(',');
            }
        }
    }
    client.describe(details, scratch);
    // What was there is not to stay where this cannot be written.
    headers.remove(NAME);
    let _ = headers.insert(NAME, &*scratch);
}

#[cfg(feature = "__tls")]
use with_tls::Client;
#[cfg(not(feature = "__tls"))]
use without_tls::Client;

#[cfg(not(feature = "__tls"))]
mod without_tls {
    use super::{CertificateDetails, Connection};

    /// A client with a certificate. There is none.
    pub(super) enum Client {}

    impl Client {
        pub(super) fn of(_: &Connection) -> Option<Client> {
            None
        }

        pub(super) fn describe(&self, _: CertificateDetails, _: &mut String) {
            match *self {}
        }
    }
}

#[cfg(feature = "__tls")]
mod with_tls {
    use std::fmt::Write;

    use super::{CertificateDetails, Connection};
    use crate::tls::{Certificate, Established};

    /// A client with a certificate that was verified.
    pub(super) struct Client<'c> {
        certificate: &'c Certificate,
        tls: &'c Established,
    }

    impl<'c> Client<'c> {
        pub(super) fn of(connection: &'c Connection) -> Option<Client<'c>> {
            let tls = connection.tls()?;
            Some(Client { certificate: tls.peer()?.certificate(), tls })
        }

        /// Appends the element of this client.
        pub(super) fn describe(&self, details: CertificateDetails, out: &mut String) {
            let Client { certificate, tls } = self;
            let own = tls.own_certificate();
            for uri in own.into_iter().flat_map(Certificate::uri_names) {
                out.push_str("By=");
                push_value(uri, out);
                out.push(';');
            }
            // Writing to a `String` does not fail.
            let _ = write!(out, "Hash={}", certificate.sha256());
            let chain = tls.peer_certificates();
            if details.certificate {
                out.push_str(";Cert=\"");
                chain.iter().take(1).for_each(|der| push_pem(der, out));
                out.push('"');
            }
            if details.chain {
                out.push_str(";Chain=\"");
                chain.iter().for_each(|der| push_pem(der, out));
                out.push('"');
            }
            if details.subject {
                // In RFC 4514's form a quote stands behind a backslash, as it must here.
                let _ = write!(out, ";Subject=\"{}\"", certificate.subject());
            }
            if details.uri {
                let names = certificate.uri_names();
                // The key is there in any case.
                if names.len() == 0 {
                    out.push_str(";URI=");
                }
                for name in names {
                    out.push_str(";URI=");
                    push_value(name, out);
                }
            }
            if details.dns {
                for name in certificate.dns_names() {
                    out.push_str(";DNS=");
                    push_value(name, out);
                }
            }
        }
    }

    /// Appends a name, in quotes where it holds what has a meaning in the field. What no URI and no
    /// name may hold is percent-encoded.
    fn push_value(value: &str, out: &mut String) {
        let is_quoted = value.contains([',', ';', '=', '"', '\\']);
        if is_quoted {
            out.push('"');
        }
        for character in value.chars() {
            match character {
                '"' | '\\' => out.extend(['\\', character]),
                '!'..='~' => out.push(character),
                _ => {
                    for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                        let _ = write!(out, "%{byte:02X}");
                    }
                }
            }
        }
        if is_quoted {
            out.push('"');
        }
    }

    /// Appends a certificate as PEM (RFC 7468), percent-encoded as Envoy does it.
    fn push_pem(der: &[u8], out: &mut String) {
        use x509_cert::der::pem::{LineEnding, encode_string};
        // It fails only for what is longer than memory.
        let pem = encode_string("CERTIFICATE", LineEnding::LF, der).unwrap_or_default();
        for character in pem.chars() {
            match character {
                '\n' => out.push_str("%0A"),
                ' ' => out.push_str("%20"),
                '+' => out.push_str("%2B"),
                '/' => out.push_str("%2F"),
                '=' => out.push_str("%3D"),
                _ => out.push(character),
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn value(value: &str) -> String {
            let mut out = String::new();
            push_value(value, &mut out);
            out
        }

        #[test]
        fn a_name_can_add_neither_a_key_nor_an_element_nor_a_line() {
            assert_eq!(value("spiffe://td/ns/a/sa/b"), "spiffe://td/ns/a/sa/b");
            assert_eq!(value("https://a/?b=c"), "\"https://a/?b=c\"");
            assert_eq!(value("a;URI=spiffe://td/x"), "\"a;URI=spiffe://td/x\"");
            assert_eq!(value("a,By=b"), "\"a,By=b\"");
            assert_eq!(value("a\",Hash=1"), "\"a\\\",Hash=1\"");
            assert_eq!(value("a\\"), "\"a\\\\\"");
            assert_eq!(value("a\r\nb c\u{e4}"), "a%0D%0Ab%20c%C3%A4");
        }

        #[test]
        fn a_certificate_is_pem_without_what_has_a_meaning_in_the_field() {
            let mut out = String::new();
            push_pem(&[0xfb, 0xff, 0xbf, 0], &mut out);
            assert_eq!(
                out,
                "-----BEGIN%20CERTIFICATE-----%0A%2B%2F%2B%2FAA%3D%3D%0A-----END%20CERTIFICATE-----%0A"
            );
        }
    }
}

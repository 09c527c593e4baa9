//! Certificates for the scenarios with TLS: an authority, and of its making a server's and a client's.
//!
//! ECDSA on P-256, in PEM files, the same for all peers. A key lies beside its certificate under the
//! same name with `.key` behind it, where HAProxy looks for it.

use std::fs;
use std::io;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

pub(crate) const AUTHORITY: &str = "authority.pem";
pub(crate) const SERVER: &str = "server.pem";
pub(crate) const CLIENT: &str = "client.pem";
/// What the server's certificate is for.
pub(crate) const SERVER_NAME: &str = "server.test";
const CLIENT_NAME: &str = "client.test";

/// Makes all of them anew in `folder`.
///
/// # Errors
/// A file cannot be written, or the system has no random numbers.
pub(crate) fn write(folder: &Path) -> io::Result<()> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let authority = CertifiedIssuer::self_signed(params, key).map_err(io::Error::other)?;
    fs::write(folder.join(AUTHORITY), authority.pem())?;
    for (file, name) in [(SERVER, SERVER_NAME), (CLIENT, CLIENT_NAME)] {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = certificate(name)
            .and_then(|params| params.signed_by(&key, &authority))
            .map_err(io::Error::other)?;
        fs::write(folder.join(file), certificate.pem())?;
        fs::write(folder.join(format!("{file}.key")), key.serialize_pem())?;
    }
    Ok(())
}

fn certificate(name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

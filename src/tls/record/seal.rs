//! Records sealed into memory of the shard.
//!
//! rustls's own encrypters allocate each record, and for bulk the allocator then costs more than the
//! cipher. So the cipher is called here, as RFC 8446 sections 5.2 and 5.3, RFC 5288 section 3 and RFC
//! 7905 section 2 have it. Opening needs no memory, and stays with rustls.

#[cfg(feature = "tls")]
use aws_lc_rs::aead;
#[cfg(not(feature = "tls"))]
use ring::aead;

use aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};
use rustls::{
    ConnectionTrafficSecrets, ContentType, Error, SupportedCipherSuite,
    crypto::cipher::OutboundChunks,
};

/// Bytes of a nonce.
const NONCE: usize = 12;
/// Those of TLS 1.2's AES-GCM that are not sent along.
const SALT: usize = 4;
/// Bytes by which a sealed record is longer than its header and its payload, with either version.
const OVERHEAD: usize = 24;

/// The key of one direction.
pub(super) struct SealingKey {
    key: LessSafeKey,
    iv: [u8; NONCE],
    form: Form,
}

/// How a record looks.
#[derive(Clone, Copy)]
enum Form {
    /// The content type is sealed along.
    Tls13,
    /// A part of the nonce goes in front.
    Tls12Gcm,
    Tls12ChaCha20,
}

impl SealingKey {
    pub(super) fn new(
        suite: SupportedCipherSuite,
        secrets: &ConnectionTrafficSecrets,
    ) -> Result<SealingKey, Error> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(Error::General("a cipher suite that is not known here".into())),
        };
        let form = match (suite, secrets) {
            (SupportedCipherSuite::Tls13(_), _) => Form::Tls13,
            (_, ConnectionTrafficSecrets::Chacha20Poly1305 { .. }) => Form::Tls12ChaCha20,
            _ => Form::Tls12Gcm,
        };
        let unusable = |_| Error::General("a key of the wrong length".into());
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(unusable)?;
        let iv = iv.as_ref().try_into().map_err(|_| Error::EncryptError)?;
        Ok(SealingKey { key: LessSafeKey::new(key), iv, form })
    }

    /// Appends a record to `output`. No two may have the same `sequence`.
    pub(super) fn seal(
        &self,
        typ: ContentType,
        payload: OutboundChunks<'_>,
        sequence: u64,
        output: &mut Vec<u8>,
    ) -> Result<(), Error> {
        output.reserve(super::HEADER + payload.len() + OVERHEAD);
        let nonce = self.nonce(sequence);
        let tag = self.key.algorithm().tag_len();
        let start = match self.form {
            Form::Tls13 => {
                let header = header(ContentType::ApplicationData, payload.len() + 1 + tag)?;
                output.extend_from_slice(&header);
                let start = output.len();
                payload.copy_to_vec(output);
                output.push(typ.into());
                let tag = self.seal_in_place(nonce, &header, &mut output[start..])?;
                output.extend_from_slice(tag.as_ref());
                return Ok(());
            }
            Form::Tls12Gcm => {
                let explicit = &nonce[SALT..];
                output.extend_from_slice(&header(typ, explicit.len() + payload.len() + tag)?);
                output.extend_from_slice(explicit);
                output.len()
            }
            Form::Tls12ChaCha20 => {
                output.extend_from_slice(&header(typ, payload.len() + tag)?);
                output.len()
            }
        };
        let mut associated = [0; 13];
        associated[..8].copy_from_slice(&sequence.to_be_bytes());
        associated[8..].copy_from_slice(&header(typ, payload.len())?);
        payload.copy_to_vec(output);
        let tag = self.seal_in_place(nonce, &associated, &mut output[start..])?;
        output.extend_from_slice(tag.as_ref());
        Ok(())
    }

    fn seal_in_place(
        &self,
        nonce: [u8; NONCE],
        associated: &[u8],
        payload: &mut [u8],
    ) -> Result<Tag, Error> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_separate_tag(nonce, Aad::from(associated), payload)
            .map_err(|_| Error::EncryptError)
    }

    /// The start of the nonces, and the sequence number xored into its end.
    fn nonce(&self, sequence: u64) -> [u8; NONCE] {
        let mut nonce = self.iv;
        for (byte, sequence) in nonce[SALT..].iter_mut().zip(sequence.to_be_bytes()) {
            *byte ^= sequence;
        }
        nonce
    }
}

/// The header of a record. Both versions call themselves 1.2 there (RFC 8446 section 5.1).
fn header(typ: ContentType, length: usize) -> Result<[u8; super::HEADER], Error> {
    let [long, longer] = u16::try_from(length).map_err(|_| Error::EncryptError)?.to_be_bytes();
    Ok([typ.into(), 3, 3, long, longer])
}

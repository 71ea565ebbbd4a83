//! How requests are signed that carry events: one description for each scheme, and the one place that verifies.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use encodify::base64::STANDARD;
use encodify::hex::decode_pair;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use sha2::Sha256;

use crate::feedback::Unverified;
use crate::secret::Secret;

/// A provider's scheme. What differs between providers is data: another one of this kind is one more instance.
#[derive(Debug, Clone, Copy)]
pub struct Scheme {
    /// The header field with the signature.
    pub signature: &'static str,
    /// The header field with the time of signing, if the scheme has one.
    pub timestamp: Option<Timestamp>,
    /// What is signed, in this order.
    pub signed: &'static [Part],
    /// How the signature is written.
    pub encoding: Encoding,
    /// What the account's secrets are.
    pub key: Key,
}

/// When a request was signed, in Unix seconds. The tolerance is what stands against a request that is sent again by
/// somebody who has read it.
#[derive(Debug, Clone, Copy)]
pub struct Timestamp {
    /// The header field.
    pub field: &'static str,
    /// How long ago that may be.
    pub past: Duration,
    /// How far ahead it may be, because clocks differ.
    pub future: Duration,
}

/// A part of what is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The octets of the timestamp's field.
    Timestamp,
    /// A text between.
    Text(&'static str),
    /// The body as it came.
    Body,
}

/// How a signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Two digits an octet, in either case.
    Hex,
    /// RFC 4648 §4, with its padding.
    Base64,
}

/// What a secret is, and so how a signature is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The octets of the text: HMAC-SHA256.
    Shared,
    /// No secret at all but the provider's public key, as base64 of its DER form (SubjectPublicKeyInfo, RFC 5280
    /// §4.1.2.7): ECDSA on P-256 with SHA-256, the signature in DER.
    PublicP256,
}

/// What the DER form of every public key on P-256 begins with (RFC 5480 §2): two lengths, `id-ecPublicKey`, `secp256r1`,
/// and the bit string that holds the point.
const P256_PREFIX: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// An uncompressed point: 04, X, Y (SEC 1 §2.3.3).
const P256_POINT: usize = 65;

impl Scheme {
    /// Whether one of the secrets has signed this request, and not too long ago. Nothing of the body is read.
    ///
    /// # Errors
    /// Why it is not to be believed.
    pub fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        secrets: &[Secret],
        now: SystemTime,
    ) -> Result<(), Unverified> {
        // With an empty key everybody could sign.
        let mut secrets = secrets.iter().filter(|secret| !secret.expose().is_empty()).peekable();
        if secrets.peek().is_none() {
            return Err(Unverified::NoSecret);
        }
        let signature = only(headers, self.signature)?.ok_or(Unverified::Missing(self.signature))?;
        let stamp = self.timestamp.map(|timestamp| timestamp.read(headers)).transpose()?;
        let stamped = stamp.map(|(octets, _)| octets).unwrap_or_default();
        let signed: Vec<&[u8]> = self.signed.iter().map(|part| part.octets(stamped, body)).collect();
        let signature = self.encoding.decode(signature).ok_or(Unverified::Forged)?;
        // All of them are tried, so that the time tells nothing about which one it was.
        if !secrets.fold(false, |good, secret| good | self.key.has_signed(secret, &signed, &signature)) {
            return Err(Unverified::Forged);
        }
        match (self.timestamp, stamp) {
            (Some(timestamp), Some((_, at))) if !is_recent(at, now, timestamp.past, timestamp.future) => {
                Err(Unverified::Stale)
            }
            _ => Ok(()),
        }
    }

    /// Whether a text can be one of the account's secrets.
    ///
    /// # Errors
    /// What it should be.
    pub fn check_secret(&self, secret: &Secret) -> Result<(), &'static str> {
        match self.key {
            _ if secret.expose().is_empty() => Err("is empty: everybody could sign with it"),
            Key::PublicP256 if public_point(secret).is_none() => Err(
                "is no public key on P-256; copy the verification key of the event webhook's settings (base64, MFkw…)",
            ),
            Key::Shared | Key::PublicP256 => Ok(()),
        }
    }
}

impl Timestamp {
    /// The field's octets, and the time that they name.
    fn read<'h>(&self, headers: &'h HeaderMap) -> Result<(&'h [u8], SystemTime), Unverified> {
        let octets = only(headers, self.field)?.ok_or(Unverified::Missing(self.field))?;
        let digits = std::str::from_utf8(octets).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let seconds = digits.and_then(|digits| digits.parse().ok()).map(Duration::from_secs);
        let at = seconds.and_then(|seconds| UNIX_EPOCH.checked_add(seconds));
        at.map(|at| (octets, at)).ok_or(Unverified::Missing(self.field))
    }
}

impl Part {
    fn octets<'a>(self, timestamp: &'a [u8], body: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Timestamp => timestamp,
            Self::Text(text) => text.as_bytes(),
            Self::Body => body,
        }
    }
}

impl Encoding {
    fn decode(self, text: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Hex => {
                let (pairs, rest) = text.as_chunks::<2>();
                pairs
                    .iter()
                    .map(|[high, low]| decode_pair(*high, *low))
                    .collect::<Option<_>>()
                    .filter(|_| rest.is_empty())
            }
            Self::Base64 => STANDARD.decode(text).ok(),
        }
    }
}

impl Key {
    fn has_signed(self, secret: &Secret, signed: &[&[u8]], signature: &[u8]) -> bool {
        match self {
            // Compared in constant time.
            Self::Shared => hmac(secret, signed).is_some_and(|code| code.verify_slice(signature).is_ok()),
            Self::PublicP256 => public_point(secret).is_some_and(|point| {
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
                key.verify(&signed.concat(), signature).is_ok()
            }),
        }
    }
}

/// HMAC-SHA256 of the parts in a row, in lower-case hex: what requests of sidepost's own are signed with.
pub fn sign(secret: &Secret, parts: &[&[u8]]) -> String {
    let code = hmac(secret, parts).map(|code| code.finalize().into_bytes()).unwrap_or_default();
    code.iter().fold(String::new(), |hex, octet| hex + &format!("{octet:02x}"))
}

/// A key of any length will do: it is always there.
fn hmac(secret: &Secret, parts: &[&[u8]]) -> Option<Hmac<Sha256>> {
    let mut code = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).ok()?;
    for part in parts {
        code.update(part);
    }
    Some(code)
}

/// The public key of a point on P-256, as SendGrid's settings show it.
pub fn public_key(point: &[u8]) -> String {
    STANDARD.encode([P256_PREFIX, point].concat())
}

fn public_point(key: &Secret) -> Option<Vec<u8>> {
    let der = STANDARD.decode(key.expose().trim()).ok()?;
    let point = der.strip_prefix(P256_PREFIX)?;
    (point.len() == P256_POINT && point.first() == Some(&4)).then(|| point.to_vec())
}

/// The value of a header field that may be there once. Two might be read differently by somebody before us.
///
/// # Errors
/// It is there twice.
pub fn only<'h>(headers: &'h HeaderMap, field: &'static str) -> Result<Option<&'h [u8]>, Unverified> {
    let mut values = headers.get_all(field).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value.map(http::HeaderValue::as_bytes)),
        _ => Err(Unverified::Missing(field)),
    }
}

/// Whether a time is at most so long ago, and at most so far ahead.
pub fn is_recent(at: SystemTime, now: SystemTime, past: Duration, future: Duration) -> bool {
    match now.duration_since(at) {
        Ok(age) => age <= past,
        Err(ahead) => ahead.duration() <= future,
    }
}

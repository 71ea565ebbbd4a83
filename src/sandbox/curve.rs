//! SendGrid's signature: a key pair of the sandbox's own, whose public half the relay verifies with.

use encodify::base64::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

use crate::provider::signature::public_key;
use crate::secret::Secret;

/// A new pair: the private key (PKCS #8, base64), and the public one as SendGrid shows it. `None`: the machine has no
/// random numbers.
pub fn pair() -> Option<(Secret, String)> {
    let private = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).ok()?;
    let private = STANDARD.encode(private.as_ref());
    let public = public_key(read(&private)?.public_key().as_ref());
    Some((Secret::new(private), public))
}

/// The signature of these octets, as it stands in the header: DER in base64.
pub(super) fn sign(private: &str, octets: &[u8]) -> Option<String> {
    let signature = read(private)?.sign(&SystemRandom::new(), octets).ok()?;
    Some(STANDARD.encode(signature.as_ref()))
}

fn read(private: &str) -> Option<EcdsaKeyPair> {
    let octets = STANDARD.decode(private).ok()?;
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &octets, &SystemRandom::new()).ok()
}

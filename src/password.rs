//! Passwords and their argon2id hashes: making, reading and checking them. What is known of a hash is never printed.

use std::collections::BTreeMap;
use std::fmt;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{ARGON2ID_IDENT, Argon2, Params};

/// The most memory that checking one password may take, in KiB.
const MOST_MEMORY: u32 = 256 * 1024;
/// The most passes over it.
const MOST_PASSES: u32 = 16;

/// A hash as it is kept: `$argon2id$v=19$m=19456,t=2,p=1$salt$hash`.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash(String);

impl Hash {
    /// Reads a PHC string.
    ///
    /// # Errors
    /// A sentence with the fix, without the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "is not an argon2id hash; make one with `sidepost hash-password`".to_owned();
        let hash = PasswordHash::new(text).map_err(|_| wrong())?;
        if hash.algorithm != ARGON2ID_IDENT || hash.hash.is_none() || hash.salt.is_none() {
            return Err(wrong());
        }
        let params = Params::try_from(&hash).map_err(|_| wrong())?;
        if params.m_cost() > MOST_MEMORY || params.t_cost() > MOST_PASSES {
            return Err(format!("takes too much to check: at most m={MOST_MEMORY} (KiB) and t={MOST_PASSES}"));
        }
        Ok(Self(text.to_owned()))
    }

    /// Hashes a password with a new salt and the parameters that OWASP names first (19 MiB, two passes).
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn of(password: &[u8]) -> Result<Self, String> {
        let hash =
            Argon2::default().hash_password(password).map_err(|e| format!("the password cannot be hashed: {e}"))?;
        Ok(Self(hash.to_string()))
    }

    /// Whether this is the password's hash. Takes tens of milliseconds and 19 MiB; compares in constant time.
    pub fn verify(&self, password: &[u8]) -> bool {
        PasswordHash::new(&self.0).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
    }

    /// The PHC string, for `hash-password`.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}

/// A user's name is what a client can say in AUTH, and what a line of the users file can hold.
///
/// # Errors
/// A sentence.
pub fn check_name(name: &str) -> Result<(), String> {
    let sound = !name.is_empty() && name.len() <= 255 && !name.contains(|c: char| c == ':' || c.is_control());
    if sound { Ok(()) } else { Err("a user's name has 1 to 255 octets, no colon and no control characters".to_owned()) }
}

/// Reads a users file: a `name:hash` a line; blank lines and lines with `#` first are left out.
///
/// # Errors
/// Every line that is wrong, by its number; never what is in it.
pub fn parse_users(text: &str) -> Result<BTreeMap<String, Hash>, Vec<String>> {
    let mut users = BTreeMap::new();
    let mut wrong = Vec::new();
    let lines = text.lines().map(str::trim).zip(1..).filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    for (line, number) in lines {
        let read = line.split_once(':').ok_or_else(|| "is not name:hash".to_owned()).and_then(|(name, hash)| {
            check_name(name)?;
            Ok((name.to_owned(), Hash::parse(hash)?))
        });
        match read {
            Ok((name, _)) if users.contains_key(&name) => {
                wrong.push(format!("line {number}: this name was there before"));
            }
            Ok((name, hash)) => drop(users.insert(name, hash)),
            Err(message) => wrong.push(format!("line {number}: {message}")),
        }
    }
    if wrong.is_empty() { Ok(users) } else { Err(wrong) }
}

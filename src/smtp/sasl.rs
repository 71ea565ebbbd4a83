//! What a client proves itself with, and who checks it.

use std::net::IpAddr;

use futures_util::future::BoxFuture;

use crate::secret::Secret;

/// A name and its password.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Who the client says it is.
    pub user: String,
    /// What proves it.
    pub password: Secret,
}

/// Who knows the users.
pub trait Authenticate: Send + Sync {
    /// Checks a password.
    fn check<'a>(&'a self, credentials: &'a Credentials, client: Option<IpAddr>) -> BoxFuture<'a, Verdict>;
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The user's name.
    Welcome(String),
    /// Wrong name or password.
    Refused,
    /// Too many failures from there.
    TooMany,
}

//! Who may call the admin API: whoever shows the token; without one, programs of this machine and no others.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Refusal;
use crate::network::is_for_this_machine;
use crate::secret::Secret;
use crate::web::Peer;

/// What a caller without a token is told to do about it.
const SET_A_TOKEN: &str =
    "set web.token (or web.token_file) in the configuration and show it as \"Authorization: Bearer …\"";
/// What a proxy adds: its caller may be anywhere, however near the proxy is.
const OF_PROXIES: &[&str] = &["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];

/// The rule.
#[derive(Debug, Clone)]
pub struct Gate {
    token: Option<Secret>,
    /// Where the API listens.
    listen: SocketAddr,
}

impl Gate {
    /// The gate of an API that listens at `listen`; an empty token is none.
    pub fn new(token: &Secret, listen: SocketAddr) -> Self {
        Self { token: Some(token.clone()).filter(|token| !token.expose().is_empty()), listen }
    }

    fn admit(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Result<(), Refusal> {
        match &self.token {
            Some(token) => verify(token, headers),
            None => self.admit_neighbour(peer, headers).map_err(|why| {
                Refusal::new(
                    StatusCode::FORBIDDEN,
                    format!("without a token /api is for this machine only, and {why}; {SET_A_TOKEN}"),
                )
            }),
        }
    }

    /// Loopback is no proof by itself: a browser on this machine calls for whatever page it shows. A page of another origin
    /// says so in Origin; one whose name was made to point here (DNS rebinding) says its name in Host.
    fn admit_neighbour(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Result<(), String> {
        if !self.listen.ip().to_canonical().is_loopback() {
            return Err(format!("web.listen ({}) is not a loopback address", self.listen));
        }
        if !peer.is_some_and(|peer| peer.to_canonical().is_loopback()) {
            return Err("you call from elsewhere".to_owned());
        }
        if let Some(name) = OF_PROXIES.iter().find(|name| headers.contains_key(**name)) {
            return Err(format!("the field {name} says that a proxy calls for somebody else"));
        }
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(Ok(host)), None) = (hosts.next().map(HeaderValue::to_str), hosts.next()) else {
            return Err("there is no one Host field".to_owned());
        };
        if !is_for_this_machine(host) {
            return Err(format!("Host is {host:?}, which is no name of it"));
        }
        let own = format!("http://{host}");
        match headers
            .get_all(header::ORIGIN)
            .iter()
            .find(|origin| !own.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
        {
            Some(_) => Err("a page of another origin calls".to_owned()),
            None => Ok(()),
        }
    }
}

/// Compared in constant time: as codes of both, which nobody can guess octet by octet.
fn verify(token: &Secret, headers: &HeaderMap) -> Result<(), Refusal> {
    let unauthorized = |why: &str| {
        Refusal::new(
            StatusCode::UNAUTHORIZED,
            format!("{why}; send \"Authorization: Bearer …\" with the value of web.token"),
        )
    };
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return Err(unauthorized("this API wants a token"));
    };
    let (scheme, shown) = field.as_bytes().split_at_checked(7).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return Err(unauthorized("Authorization is not of the kind Bearer"));
    }
    let code = |text: &[u8]| {
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(token.expose().as_bytes());
        mac.map(|mac| mac.chain_update(text))
    };
    let is_right = match (code(shown), code(token.expose().as_bytes())) {
        (Ok(shown), Ok(right)) => shown.verify(&right.finalize().into_bytes()).is_ok(),
        _ => false,
    };
    if is_right { Ok(()) } else { Err(unauthorized("the token is wrong")) }
}

/// Stands before every call, known or not.
pub(super) async fn guard(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().map(|Peer(address)| address.ip());
    match gate.admit(peer, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            let mut response = refusal.into_response();
            if response.status() == StatusCode::UNAUTHORIZED {
                // RFC 9110 §11.6.1.
                response
                    .headers_mut()
                    .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sidepost\""));
            }
            response
        }
    }
}

//! The sandbox over real sockets.

mod api;
mod page;
mod pure;
mod setup;
mod shape;
mod webhooks;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use sidepost::address::Alphabet;
use sidepost::sandbox::events::Headers;
use sidepost::sandbox::{Sandbox, Settings};
use tokio::sync::mpsc;

use crate::raw_http::{Answer, Served, serve};

pub const NEXUSPROMAIL: &str = "/v1/transactional/send";
pub const V3: &str = "/v3/mail/send";
pub const KEY: &str = "sg_live_0123";
pub const SENDGRID_KEY: &str = "SG.abc.def";

/// What a webhook got.
pub type Posted = (String, Headers, bytes::Bytes);

/// A sandbox, served, and the webhook calls it makes.
pub struct Running {
    pub server: Served,
    pub posted: mpsc::UnboundedReceiver<Posted>,
}

pub fn sandbox() -> (Arc<Sandbox>, mpsc::UnboundedReceiver<Posted>) {
    let (sender, posted) = mpsc::unbounded_channel();
    let post = move |url: String, headers: Headers, body: bytes::Bytes| {
        let _ = sender.send((url, headers, body));
        let answered: BoxFuture<'static, Result<u16, String>> = Box::pin(async { Ok(200) });
        answered
    };
    (
        Sandbox::new(Settings {
            post: Arc::new(post),
            smtp: "127.0.0.1:2525".to_owned(),
            alphabet: Alphabet::Ascii,
            is_local: true,
        }),
        posted,
    )
}

pub async fn running() -> Running {
    let (sandbox, posted) = sandbox();
    Running { server: serve(sandbox.router()).await, posted }
}

impl Running {
    pub async fn post(&self, path: &str, key: &str, body: &[u8]) -> Answer {
        let authorization = format!("Bearer {key}");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        self.server.ask("POST", path, &headers, body).await
    }

    pub async fn send(&self, path: &str, key: &str, body: &Value) -> Answer {
        self.post(path, key, body.to_string().as_bytes()).await
    }

    pub async fn call(&self, method: &str, path: &str) -> Answer {
        self.server.ask(method, path, &[("Authorization", "Bearer sg_live_0123")], b"").await
    }

    /// The mails on the page.
    pub async fn mails(&self) -> Vec<Value> {
        self.server.get("/sandbox/mails").await.json()["mails"].as_array().unwrap().clone()
    }
}

pub fn nexuspromail_to(address: &str) -> Value {
    json!({
        "to": { "email": address }, "from": { "email": "app@example.com", "name": "App" },
        "subject": "Hello", "html": "<p>Hello</p>", "text": "Hello", "reply_to": { "email": "help@example.com" },
    })
}

pub fn v3_to(addresses: &[&str]) -> Value {
    let personalizations: Vec<_> = addresses.iter().map(|address| json!({ "to": [{ "email": address }] })).collect();
    json!({
        "personalizations": personalizations, "from": { "email": "app@example.com" }, "subject": "Hello",
        "content": [{ "type": "text/plain", "value": "Hello" }, { "type": "text/html", "value": "<p>Hello</p>" }],
        "categories": ["order-7"],
    })
}

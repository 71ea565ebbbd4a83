//! `health`: one HTTP request to the running relay, for HEALTHCHECK in an image without a shell.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use clap::Args;

use super::{ConfigArgs, Failure};
use crate::config::layers::Layers;

const TIMEOUT: Duration = Duration::from_secs(3);

/// Exit code 0: alive (or ready, with --ready). 1: not.
#[derive(Debug, Args)]
pub struct Health {
    #[command(flatten)]
    config: ConfigArgs,
    /// Ask /readyz instead of /healthz: does the account take mail?
    #[arg(long)]
    ready: bool,
    /// The relay's web address [default: web.listen]
    #[arg(long, value_name = "ADDRESS:PORT")]
    web: Option<SocketAddr>,
}

impl Health {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let address = match self.web {
            Some(address) => address,
            None => self.configured()?,
        };
        let path = if self.ready { "/readyz" } else { "/healthz" };
        let answer = get(reachable(address), path)
            .map_err(|e| Failure::new(format!("no answer from http://{address}{path}: {e}; is the relay running?")))?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        sayln!("{}", body.trim());
        match head.split(' ').nth(1) {
            Some("200") => Ok(()),
            status => Err(Failure::new(format!("http://{address}{path} answered {}", status.unwrap_or("nothing")))),
        }
    }

    /// `web.listen` alone: a health check must not depend on the account's key file being readable to it.
    fn configured(&self) -> Result<SocketAddr, Failure> {
        let layers = Layers::of_process(self.config.config.clone(), self.config.set.clone());
        layers.value("web.listen").map_err(|problem| Failure::config(&[problem]))
    }
}

/// A wildcard address is asked on loopback.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(64 << 10).read_to_string(&mut answer)?;
    Ok(answer)
}

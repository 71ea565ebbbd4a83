//! `send`: a test mail through the running relay, with the dialogue shown.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::Args;

use super::table::printable;
use super::{ConfigArgs, Failure};
use crate::address::Address;
use crate::config::layers::Layers;
use crate::config::listen::{Listen, Scheme};
use crate::message::internet_date;

/// As long as RFC 5321 §4.5.3.2 lets a client wait; the relay answers much sooner.
const PATIENCE: Duration = Duration::from_mins(10);
/// Longest line of a reply, in octets: RFC 5321 §4.5.3.1.5 has 512.
const LONGEST_LINE: u64 = 8 << 10;

/// Send a test mail through the running relay and show the dialogue
///
/// Exit code 0: the final reply was 250. 1: it was another one; it is shown.
#[derive(Debug, Args)]
pub struct Send {
    #[command(flatten)]
    config: ConfigArgs,
    /// Recipient; several are allowed
    #[arg(long, required = true, value_name = "ADDRESS", value_parser = super::address)]
    to: Vec<Address>,
    /// Sender
    #[arg(long, default_value = "sidepost@example.com", value_name = "ADDRESS", value_parser = super::address)]
    from: Address,
    /// Subject
    #[arg(long, default_value = "Test mail from sidepost")]
    subject: String,
    /// Body text
    #[arg(long, default_value = "This is a test mail, sent with `sidepost send`.")]
    body: String,
    /// The relay [default: the first of smtp.listen]
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
}

impl Send {
    pub(super) fn run(&self) -> Result<(), Failure> {
        super::acts();
        let server = self.server()?;
        let stream = TcpStream::connect_timeout(&server, Duration::from_secs(5)).map_err(|e| {
            Failure::new(format!(
                "nobody answers at {server}: {e}; start it with `sidepost serve` or `sidepost sandbox`"
            ))
        })?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|e| Failure::new(e.to_string()))?;
        let last = Dialogue { stream: BufReader::new(stream), offers_utf8: false }
            .send(self)
            .map_err(|e| Failure::new(format!("the dialogue broke off: {e}")))?;
        if last.starts_with("250") { Ok(()) } else { Err(Failure::new(format!("not accepted: {last}"))) }
    }

    fn server(&self) -> Result<SocketAddr, Failure> {
        if let Some(server) = &self.server {
            let found = server.to_socket_addrs().ok().and_then(|mut all| all.next());
            return found.ok_or_else(|| {
                Failure::new(format!("{server} is no HOST:PORT that resolves")).with_code(super::USAGE)
            });
        }
        let layers = Layers::of_process(self.config.config.clone(), self.config.set.clone());
        let listen: Vec<Listen> = layers.value("smtp.listen").map_err(|problem| Failure::config(&[problem]))?;
        let mut plain = listen.iter().filter(|listen| listen.scheme == Scheme::Smtp && !listen.proxy);
        plain.find_map(Listen::address).ok_or_else(|| {
            Failure::new("smtp.listen has no smtp:// address; name the relay with --server").with_code(super::USAGE)
        })
    }

    /// The mail with its lines dot-stuffed (RFC 5321 §4.5.2).
    fn message(&self) -> String {
        let to: Vec<String> = self.to.iter().map(|a| format!("<{a}>")).collect();
        let date = internet_date(std::time::SystemTime::now());
        let subject = self.subject.replace(['\r', '\n'], " ");
        let mut mail = format!(
            "From: <{}>\r\nTo: {}\r\nSubject: {subject}\r\nDate: {date}\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
            self.from,
            to.join(",\r\n "),
        );
        for line in self.body.lines() {
            mail.push_str(if line.starts_with('.') { "." } else { "" });
            mail.push_str(line);
            mail.push_str("\r\n");
        }
        mail
    }
}

struct Dialogue {
    stream: BufReader<TcpStream>,
    /// Whether the relay has named SMTPUTF8.
    offers_utf8: bool,
}

impl Dialogue {
    /// The whole dialogue, shown as it goes; returns the reply that decided.
    fn send(&mut self, mail: &Send) -> std::io::Result<String> {
        let greeting = self.reply()?;
        if !greeting.starts_with('2') {
            return Ok(greeting);
        }
        let hello = self.command("EHLO sidepost-send")?;
        if !hello.starts_with('2') {
            return Ok(hello);
        }
        // RFC 6531 §3.4: only where it is needed, and offered.
        let is_ascii = mail.to.iter().chain([&mail.from]).all(Address::is_ascii);
        let parameter = if !is_ascii && self.offers_utf8 { " SMTPUTF8" } else { "" };
        let mut commands = vec![format!("MAIL FROM:<{}>{parameter}", mail.from)];
        commands.extend(mail.to.iter().map(|to| format!("RCPT TO:<{to}>")));
        commands.push("DATA".to_owned());
        for command in &commands {
            let reply = self.command(command)?;
            if !reply.starts_with(['2', '3']) {
                self.command("QUIT")?;
                return Ok(reply);
            }
        }
        let message = mail.message();
        sayln!("C: ({} octets of mail)\nC: .", message.len());
        write!(self.stream.get_mut(), "{message}.\r\n")?;
        let reply = self.reply()?;
        self.command("QUIT")?;
        Ok(reply)
    }

    fn command(&mut self, line: &str) -> std::io::Result<String> {
        sayln!("C: {line}");
        write!(self.stream.get_mut(), "{line}\r\n")?;
        self.reply()
    }

    /// One reply, all its lines shown; the last one returned.
    fn reply(&mut self) -> std::io::Result<String> {
        loop {
            let mut line = Vec::new();
            if self.stream.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let line = printable(String::from_utf8_lossy(&line).trim_end());
            sayln!("S: {line}");
            self.offers_utf8 |= line.get(4..) == Some("SMTPUTF8");
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line);
            }
        }
    }
}

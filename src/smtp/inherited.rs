//! Sockets that a service manager has bound and passed on (systemd socket activation), for the listeners with their
//! addresses.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use listenfd::ListenFd;

use crate::config::listen::{Listen, Place};
use crate::smtp::listener::{Door, adopt_tcp, adopt_unix};

/// What was passed on and not yet taken.
#[derive(Debug, Default)]
pub struct Inherited {
    tcp: Vec<(SocketAddr, TcpListener)>,
    unix: Vec<(PathBuf, UnixListener)>,
}

impl Inherited {
    /// Takes all of them (LISTEN_FDS). Has to be called while there is one thread: the variables go.
    ///
    /// # Errors
    /// What is no listening stream socket.
    pub fn of_process() -> Result<Self, String> {
        let mut passed = ListenFd::from_env();
        let mut found = Self::default();
        for index in 0..passed.len() {
            let taken = found.take_tcp(&mut passed, index).or_else(|_| found.take_unix(&mut passed, index));
            taken.map_err(|e| format!("socket {index} of LISTEN_FDS is no TCP or Unix stream socket: {e}"))?;
        }
        Ok(found)
    }

    fn take_tcp(&mut self, passed: &mut ListenFd, index: usize) -> io::Result<()> {
        if let Some(socket) = passed.take_tcp_listener(index)? {
            self.tcp.push((socket.local_addr()?, socket));
        }
        Ok(())
    }

    fn take_unix(&mut self, passed: &mut ListenFd, index: usize) -> io::Result<()> {
        if let Some(socket) = passed.take_unix_listener(index)? {
            let path = socket.local_addr()?.as_pathname().map(PathBuf::from).unwrap_or_default();
            self.unix.push((path, socket));
        }
        Ok(())
    }

    /// The socket for a listener, if one with its address was passed on.
    pub fn take(&mut self, listen: &Listen) -> Option<io::Result<Door>> {
        match &listen.place {
            Place::Tcp(address) => {
                let index = self.tcp.iter().position(|(bound, _)| bound == address)?;
                Some(adopt_tcp(listen, self.tcp.swap_remove(index).1))
            }
            Place::Unix { path, .. } => {
                let index = self.unix.iter().position(|(bound, _)| bound == path)?;
                Some(adopt_unix(listen, self.unix.swap_remove(index).1))
            }
        }
    }

    /// Nothing may be left over: on such a socket connections would be kept waiting for ever.
    ///
    /// # Errors
    /// Which one, and what to do.
    pub fn all_taken(&self) -> Result<(), String> {
        let tcp = self.tcp.iter().map(|(address, _)| format!("smtp://{address}"));
        let unix = self.unix.iter().map(|(path, _)| format!("smtp+unix://{}", path.display()));
        match tcp.chain(unix).next() {
            None => Ok(()),
            Some(url) => Err(format!("a socket was passed on that no listener uses; add \"{url}\" to smtp.listen")),
        }
    }
}

//! How many connections a listener has at a time, on the whole and from one client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::metrics::Gauge;
use crate::network::client_network;

/// The places of one listener, or of several that share them.
#[derive(Debug)]
pub struct Seats {
    most: usize,
    most_per_client: usize,
    taken: Mutex<Taken>,
    open: Gauge,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// Why there is no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSeat {
    /// All are taken.
    AtAll,
    /// This client has as many as one may have.
    ForThisClient,
}

/// One connection's place; free again when this is dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    /// `None` on a Unix socket, and until a proxy has said whom it speaks for.
    client: Option<IpAddr>,
}

impl Seats {
    /// So many places, and so many for one client; `open` counts those that are taken.
    pub fn new(most: usize, most_per_client: usize, open: Gauge) -> Arc<Self> {
        Arc::new(Self { most, most_per_client, taken: Mutex::default(), open })
    }

    /// A place, counted for a client if there is one to count it for.
    ///
    /// # Errors
    /// They are taken.
    pub fn take(self: &Arc<Self>, client: Option<IpAddr>) -> Result<Seat, NoSeat> {
        let mut taken = self.taken();
        if taken.total >= self.most {
            return Err(NoSeat::AtAll);
        }
        let client = client.map(client_network);
        if let Some(client) = client {
            taken.count(client, self.most_per_client)?;
        }
        taken.total += 1;
        self.open.inc();
        Ok(Seat { seats: Arc::clone(self), client })
    }

    /// The counts are sound after a panic: nothing in between can.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn count(&mut self, client: IpAddr, most: usize) -> Result<(), NoSeat> {
        let of_client = self.by_client.entry(client).or_insert(0);
        if *of_client >= most {
            return Err(NoSeat::ForThisClient);
        }
        *of_client += 1;
        Ok(())
    }
}

impl Seat {
    /// Counts the seat for a client that a proxy named.
    ///
    /// # Errors
    /// That client has as many as one may have.
    pub fn belongs_to(&mut self, client: IpAddr) -> Result<(), NoSeat> {
        let client = client_network(client);
        self.seats.taken().count(client, self.seats.most_per_client)?;
        self.client = Some(client);
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        taken.total -= 1;
        if let Some(client) = self.client
            && let Some(of_client) = taken.by_client.get_mut(&client)
        {
            *of_client -= 1;
            if *of_client == 0 {
                taken.by_client.remove(&client);
            }
        }
        self.seats.open.dec();
    }
}

//! Small files: keys, certificates, lists. Some are read again when they change: looked at by content, because on the mounts
//! of containers neither times nor events tell for certain.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long a change has to stand: a certificate and its key are not replaced in one moment.
const SETTLED: Duration = Duration::from_millis(100);
/// A device or a log given by mistake is not read to its end.
const LARGEST: u64 = 1 << 20;

/// Reads a small file of text.
///
/// # Errors
/// It cannot be read, is no UTF-8, or is not small.
pub fn read_small(path: impl AsRef<Path>) -> io::Result<String> {
    let octets = read(path.as_ref())?;
    String::from_utf8(octets).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no text in UTF-8"))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    std::fs::File::open(path)?.take(LARGEST + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB; is it the right one?"));
    }
    Ok(octets)
}

/// Some files that belong together, and a digest of what was in them: they hold secrets, and those are not kept.
#[derive(Debug)]
pub struct Watched {
    paths: Vec<PathBuf>,
    seen: [u8; 32],
}

impl Watched {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// Which file cannot be read, and why.
    pub fn open(paths: Vec<PathBuf>) -> Result<(Self, Vec<Vec<u8>>), String> {
        let read = read_all(&paths);
        let seen = digest(&read);
        Ok((Self { paths, seen }, read?))
    }

    /// Waits until there is something else in them; then what there is, or why they cannot be read.
    ///
    /// # Errors
    /// As [`Watched::open`]; once, not each time they are looked at.
    pub async fn changed(&mut self) -> Result<Vec<Vec<u8>>, String> {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let mut now = digest(&self.read().await);
            while now != self.seen {
                tokio::time::sleep(SETTLED).await;
                let read = self.read().await;
                let again = digest(&read);
                if again == now {
                    self.seen = now;
                    return read;
                }
                now = again;
            }
        }
    }

    async fn read(&self) -> Result<Vec<Vec<u8>>, String> {
        let paths = self.paths.clone();
        tokio::task::spawn_blocking(move || read_all(&paths)).await.unwrap_or_else(|e| Err(e.to_string()))
    }
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    paths.iter().map(|path| read(path).map_err(|e| format!("{} cannot be read: {e}", path.display()))).collect()
}

fn digest(read: &Result<Vec<Vec<u8>>, String>) -> [u8; 32] {
    let mut digest = Sha256::new();
    match read {
        Ok(files) => files.iter().for_each(|octets| digest.update(Sha256::digest(octets))),
        Err(message) => digest.update(message),
    }
    digest.finalize().into()
}

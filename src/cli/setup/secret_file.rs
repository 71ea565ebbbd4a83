//! Where a secret goes that is shown only once: a file that nobody else can read, or the terminal.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use clap::Args;

use crate::cli::{Failure, USAGE};
use crate::secret::Secret;

/// A file for the secret.
#[derive(Debug, Args)]
pub(super) struct OutArgs {
    /// Put the secret into this new file (mode 0600) instead of printing it; a file that exists is left alone
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl OutArgs {
    /// Makes the file, empty: before the call, because a secret that then had no place would be lost.
    pub(super) fn open(&self) -> Result<Option<SecretFile>, Failure> {
        let Some(path) = &self.out else { return Ok(None) };
        let wrong = |e: std::io::Error| {
            let shown = path.display();
            let text = match e.kind() {
                std::io::ErrorKind::AlreadyExists => {
                    format!("{shown} exists, and what is in it may be needed: name another file, or move it away first")
                }
                _ => format!("{shown} cannot be made: {e}; name a file in a folder that you may write to"),
            };
            Failure::new(text).with_code(USAGE)
        };
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(wrong)?;
        // The configuration that names it is read elsewhere, by somebody with another working directory.
        let path = path.canonicalize().map_err(wrong)?;
        Ok(Some(SecretFile { path, file, kept: false }))
    }
}

/// A new file; it goes again if no secret comes.
pub(super) struct SecretFile {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl SecretFile {
    /// Writes the secret, and tells where it is.
    ///
    /// # Errors
    /// A sentence, when it cannot be written; then it has to be shown.
    pub(super) fn keep(mut self, secret: &Secret) -> Result<String, String> {
        let written = writeln!(self.file, "{}", secret.expose()).and_then(|()| self.file.sync_all());
        let shown = self.path.display().to_string();
        written.map_err(|e| format!("{shown} cannot be written: {e}; here is the secret, keep it elsewhere"))?;
        self.kept = true;
        Ok(shown)
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

//! What was checked, line by line.

use std::fmt::Display;
use std::io;

/// The checks that held.
#[derive(Debug, Default)]
pub struct Checks {
    held: usize,
}

impl Checks {
    /// Prints what holds.
    ///
    /// # Errors
    /// If it does not hold.
    pub fn expect(&mut self, holds: bool, what: impl Display) -> io::Result<()> {
        if !holds {
            return Err(io::Error::other(format!("does not hold: {what}")));
        }
        println!("  {what}");
        self.held += 1;
        Ok(())
    }

    /// Prints what holds if an operation failed with an error of this kind.
    ///
    /// # Errors
    /// If it did not, or with another.
    pub fn expect_error(
        &mut self,
        found: Option<io::Error>,
        kind: io::ErrorKind,
        what: impl Display,
    ) -> io::Result<()> {
        match found {
            Some(error) if error.kind() == kind => self.expect(true, what),
            found => self.expect(false, format!("{what}: {found:?}")),
        }
    }

    /// How many held.
    pub fn len(&self) -> usize {
        self.held
    }

    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }
}

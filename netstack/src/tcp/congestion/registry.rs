//! The congestion controls of a stack, by name.

use super::bbr::Bbr;
use super::cubic::Cubic;
use super::new_reno::NewReno;
use super::{CongestionControl, CongestionStart};
use crate::config::{CongestionName, CongestionNameError};
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Makes the controller of a connection.
type Factory = dyn Fn(&CongestionStart) -> Box<dyn CongestionControl> + Send + Sync;

/// The congestion controls of a stack: `cubic`, `reno` and `bbr`, and those that are registered.
///
/// `StackBuilder::congestion_control` registers an algorithm with a stack that has the facade;
/// [`EngineSetup::congestion`](crate::stack::EngineSetup::congestion) takes a registry for one without.
///
/// # Example
/// ```
/// use netstack::tcp::{AckSample, CongestionControl, CongestionRegistry, CongestionStart};
/// use netstack::time::Instant;
///
/// /// Half of the window after congestion, one segment more for each acknowledgment.
/// #[derive(Debug)]
/// struct Simple {
///     cwnd: usize,
///     ssthresh: usize,
///     mss: usize,
/// }
///
/// impl CongestionControl for Simple {
///     fn cwnd(&self) -> usize {
///         self.cwnd
///     }
///     fn ssthresh(&self) -> usize {
///         self.ssthresh
///     }
///     fn set_cwnd(&mut self, bytes: usize) {
///         self.cwnd = bytes.max(self.mss);
///     }
///     fn on_ack(&mut self, ack: &AckSample) {
///         if ack.cwnd_limited {
///             self.cwnd += self.mss;
///         }
///     }
///     fn on_congestion(&mut self, _now: Instant) {
///         self.ssthresh = (self.cwnd / 2).max(2 * self.mss);
///     }
///     fn on_timeout(&mut self, now: Instant, first: bool) {
///         if first {
///             self.on_congestion(now);
///         }
///     }
///     fn on_mss_change(&mut self, mss: usize) {
///         self.mss = mss;
///     }
/// }
///
/// let mut registry = CongestionRegistry::default();
/// registry.register("simple", |&CongestionStart { cwnd, ssthresh, mss, .. }| {
///     Box::new(Simple { cwnd, ssthresh, mss })
/// })?;
/// let names: Vec<_> = registry.names().map(|name| name.to_string()).collect();
/// assert_eq!(names, ["cubic", "reno", "bbr", "simple"]);
/// let choice = registry.choose("simple")?;
/// let controller = choice.start(&CongestionStart::new(Instant::ZERO, 1448));
/// assert_eq!(controller.cwnd(), 14_480);
/// # Ok::<_, netstack::tcp::CongestionError>(())
/// ```
#[derive(Clone)]
pub struct CongestionRegistry {
    algorithms: Arc<Vec<Registered>>,
}

#[derive(Clone)]
struct Registered {
    name: CongestionName,
    factory: Arc<Factory>,
}

impl Default for CongestionRegistry {
    /// The algorithms that every stack has.
    fn default() -> Self {
        let built_in: [(CongestionName, Arc<Factory>); 3] = [
            (CongestionName::CUBIC, Arc::new(|start| Box::new(Cubic::start(start)))),
            (CongestionName::RENO, Arc::new(|start| Box::new(NewReno::start(start)))),
            (CongestionName::BBR, Arc::new(|start| Box::new(Bbr::new(start)))),
        ];
        let algorithms = built_in.into_iter().map(|(name, factory)| Registered { name, factory });
        Self { algorithms: Arc::new(algorithms.collect()) }
    }
}

impl CongestionRegistry {
    /// Adds an algorithm. `factory` makes its state for one connection; it is called with the connection
    /// locked, and must not block or call into the stack.
    ///
    /// # Errors
    /// [`CongestionError::InvalidName`] if `name` cannot be the name of an algorithm,
    /// [`CongestionError::Taken`] if there is one of this name.
    pub fn register(
        &mut self,
        name: &str,
        factory: impl Fn(&CongestionStart) -> Box<dyn CongestionControl> + Send + Sync + 'static,
    ) -> Result<(), CongestionError> {
        let name = CongestionName::new(name)
            .map_err(|reason| CongestionError::InvalidName { name: name.to_owned(), reason })?;
        if self.names().any(|known| known == name) {
            return Err(CongestionError::Taken { name });
        }
        Arc::make_mut(&mut self.algorithms).push(Registered { name, factory: Arc::new(factory) });
        Ok(())
    }

    /// The names of all algorithms, the built-in ones first.
    pub fn names(&self) -> impl Iterator<Item = CongestionName> {
        self.algorithms.iter().map(|algorithm| algorithm.name)
    }

    /// The algorithm called `name`.
    ///
    /// # Errors
    /// [`CongestionError::Unknown`] if there is none of this name.
    pub fn choose(&self, name: &str) -> Result<CongestionChoice, CongestionError> {
        match self.names().position(|known| known == *name) {
            Some(index) => Ok(CongestionChoice { registry: self.clone(), index }),
            None => Err(CongestionError::Unknown { name: name.to_owned(), known: self.names().collect() }),
        }
    }
}

impl fmt::Debug for CongestionRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// One of the algorithms of a stack: the value of `TCP_CONGESTION` of a socket.
///
/// Cheap to clone. Two choices are equal if their names are.
#[derive(Clone)]
pub struct CongestionChoice {
    registry: CongestionRegistry,
    index: usize,
}

impl CongestionChoice {
    /// The name of the algorithm.
    pub fn name(&self) -> CongestionName {
        self.registered().name
    }

    /// Another algorithm of the same stack.
    ///
    /// # Errors
    /// [`CongestionError::Unknown`] if the stack has none of this name.
    pub fn choose(&self, name: &str) -> Result<Self, CongestionError> {
        self.registry.choose(name)
    }

    /// A controller for one connection, which begins with what `start` says.
    pub fn start(&self, start: &CongestionStart) -> Box<dyn CongestionControl> {
        (self.registered().factory)(start)
    }

    fn registered(&self) -> &Registered {
        &self.registry.algorithms[self.index]
    }
}

impl PartialEq for CongestionChoice {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for CongestionChoice {}

impl fmt::Debug for CongestionChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CongestionChoice").field(&self.name()).finish()
    }
}

/// A congestion control cannot be registered, or does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CongestionError {
    /// Nothing can be registered by this name.
    InvalidName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: CongestionNameError,
    },
    /// There is an algorithm of this name, built in or registered.
    Taken {
        /// The name.
        name: CongestionName,
    },
    /// There is no algorithm of this name.
    Unknown {
        /// The name.
        name: String,
        /// The algorithms that there are.
        known: Vec<CongestionName>,
    },
}

impl fmt::Display for CongestionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidName { name, reason } => write!(f, "congestion control {name:?}: {reason}"),
            Self::Taken { name } => write!(f, "there is already a congestion control `{name}`"),
            Self::Unknown { name, known } => {
                write!(f, "there is no congestion control `{}`; there are", name.escape_debug())?;
                for (index, name) in known.iter().enumerate() {
                    write!(f, "{} `{name}`", if index > 0 { "," } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

impl Error for CongestionError {}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn the_built_in_algorithms_are_those_that_config_names() {
        let registry = CongestionRegistry::default();
        assert_eq!(registry.names().collect::<Vec<_>>(), CongestionName::BUILT_IN);
        // Only BBR paces.
        let paces =
            |name| registry.choose(name).unwrap().start(&testing::start(10_000)).pacing_rate().is_some();
        assert_eq!(["cubic", "reno", "bbr"].map(paces), [false, false, true]);
    }

    #[test]
    fn a_name_is_registered_once_and_must_be_one() {
        let mut registry = CongestionRegistry::default();
        let reno = |start: &CongestionStart| Box::new(NewReno::start(start)) as Box<dyn CongestionControl>;
        registry.register("mine", reno).unwrap();
        let message = |result: Result<(), CongestionError>| result.unwrap_err().to_string();
        assert_eq!(message(registry.register("mine", reno)), "there is already a congestion control `mine`");
        assert_eq!(message(registry.register("bbr", reno)), "there is already a congestion control `bbr`");
        for bad in ["", "sixteen_letters_", "my own"] {
            let message = message(registry.register(bad, reno));
            assert!(message.contains("1 to 15 printable"), "{message}");
        }
        assert_eq!(registry.names().count(), 4);
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_that_there_are() {
        let registry = CongestionRegistry::default();
        let choice = registry.choose("reno").unwrap();
        for error in [registry.choose("vegas").unwrap_err(), choice.choose("vegas").unwrap_err()] {
            let expected = "there is no congestion control `vegas`; there are `cubic`, `reno`, `bbr`";
            assert_eq!(error.to_string(), expected);
        }
        assert_eq!(choice.choose("reno"), Ok(choice.clone()));
        assert_ne!(choice.choose("bbr"), Ok(choice));
    }

    #[test]
    fn what_is_registered_later_does_not_change_what_was_chosen_before() {
        let mut registry = CongestionRegistry::default();
        let choice = registry.choose("bbr").unwrap();
        registry.register("mine", |start| Box::new(NewReno::start(start))).unwrap();
        assert!(choice.choose("mine").is_err());
        assert_eq!(registry.choose("mine").unwrap().name(), "mine");
    }

    #[test]
    fn a_choice_is_small() {
        assert_eq!(size_of::<CongestionChoice>(), 16);
    }
}

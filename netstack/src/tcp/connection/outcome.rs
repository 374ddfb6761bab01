//! What a connection has to say to its user and to the stack, and what became of it.

use crate::readiness::Events;
use crate::reasons::EndReason;
use crate::tcp::error::TcpError;
use crate::tcp::reset::Reset;

/// What became of a connection so far.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Edges for [`Connection::take_events`](super::Connection::take_events).
    events: Events,
    completion: Completion,
    /// SO_ERROR: reported once.
    error: Option<TcpError>,
    /// What ICMP said while the connection lived: the reason given if it times out (`sk_err_soft`).
    soft_error: Option<TcpError>,
    /// A reset that must still be sent.
    reset: Option<Box<Reset>>,
    /// Why the connection ended, if it has.
    end: Option<EndReason>,
}

/// How much of a connection is still needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Completion {
    /// All of it.
    Running,
    /// No more than a [`TimeWait`](crate::tcp::TimeWait) record.
    TimeWait,
    /// Nothing: no segment will be sent or accepted for it.
    Closed,
}

impl Outcome {
    /// The connection may be written to.
    pub(super) fn new() -> Self {
        Self {
            events: Events::WRITABLE,
            completion: Completion::Running,
            error: None,
            soft_error: None,
            reset: None,
            end: None,
        }
    }

    /// Nothing happened that is not known.
    pub(super) fn untouched() -> Self {
        Self { events: Events::NONE, ..Self::new() }
    }

    /// The user is to be notified of `events`.
    pub(super) fn notify(&mut self, events: Events) {
        self.events |= events;
    }

    pub(super) fn take_events(&mut self) -> Events {
        std::mem::take(&mut self.events)
    }

    pub(super) fn completion(&self) -> Completion {
        self.completion
    }

    /// No more is needed than `completion` says.
    pub(super) fn complete(&mut self, completion: Completion) {
        self.completion = self.completion.max(completion);
    }

    /// The connection ends with `error`.
    pub(super) fn fail(&mut self, error: TcpError) {
        self.error = Some(error);
        self.notify(Events::ERROR);
    }

    pub(super) fn error(&self) -> Option<TcpError> {
        self.error
    }

    pub(super) fn take_error(&mut self) -> Option<TcpError> {
        self.error.take()
    }

    /// Something is wrong with the path, or was as long as there is none.
    pub(super) fn set_soft_error(&mut self, error: Option<TcpError>) {
        self.soft_error = error;
    }

    /// Why the connection ends if it times out now.
    pub(super) fn cause_of_timeout(&self) -> TcpError {
        self.soft_error.unwrap_or(TcpError::TimedOut)
    }

    /// The reset that must be sent.
    pub(super) fn reset(&self) -> Option<&Reset> {
        self.reset.as_deref()
    }

    /// Whether it is [untouched](Self::untouched).
    pub(super) fn is_untouched(&self) -> bool {
        let Self { events, completion, error, soft_error, reset, end } = self;
        events.is_empty()
            && *completion == Completion::Running
            && error.is_none()
            && soft_error.is_none()
            && reset.is_none()
            && end.is_none()
    }

    /// Whether there is nothing to say.
    pub(super) fn is_silent(&self) -> bool {
        self.events.is_empty() && self.reset.is_none()
    }

    /// A reset must be sent, or none any more.
    pub(super) fn set_reset(&mut self, reset: Option<Reset>) {
        self.reset = reset.map(Box::new);
    }

    /// The connection ends for this reason. What it has ended for before stays.
    pub(super) fn end_for(&mut self, reason: EndReason) {
        self.end.get_or_insert(reason);
    }

    /// Why the connection ended, if it has.
    pub(super) fn end(&self) -> Option<EndReason> {
        self.end
    }
}

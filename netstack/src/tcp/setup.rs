//! What the stack gives each connection.

use super::options::SocketOptions;
use crate::buffer::Pool;
use crate::config::Config;
use std::sync::Arc;

/// What a connection is made with.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// The options that it inherits.
    pub options: &'a SocketOptions,
    /// The stack's settings.
    pub config: &'a Arc<Config>,
    /// Memory for what it will send.
    pub pool: &'a Arc<Pool>,
}

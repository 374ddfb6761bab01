//! Headers on the wire.

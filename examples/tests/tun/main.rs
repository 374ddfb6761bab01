//! The examples and the stack against the kernel, over TUN devices in namespaces of their own.
//!
//! Usually small. The whole of it takes some minutes:
//! ```text
//! NETSTACK_TEST_MIB=1024 NETSTACK_TEST_IMPAIRED_MIB=16 NETSTACK_TEST_REPEATS=100 \
//!     cargo test --release -p netstack-examples --test tun -- --nocapture --test-threads=1
//! ```
//! and for the proxy, with more than 16,000 descriptors (`ulimit -n`):
//! ```text
//! NETSTACK_TEST_CURL_MIB=1024 NETSTACK_TEST_CONNECTIONS=8000 NETSTACK_TEST_SYN_RETRIES=5 \
//!     cargo test --release -p netstack-examples --test tun -- --nocapture --test-threads=1 proxy::
//! ```

mod clients;
mod common;
mod connections;
mod device;
mod examples;
mod fast_open;
mod kernel;
mod listening;
mod path;
mod programs;
mod proxy;
mod udp;

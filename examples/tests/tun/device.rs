//! A TUN device that goes while a stack uses it.

use crate::common::{self, Family, OFFLOAD, at, runtime};
use netstack::Config;
use netstack_tun::interface;
use netstack_tun::netns::isolated;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Its descriptor reports an error then, and nothing to read.
#[test]
fn an_idle_stack_notices_that_its_device_was_deleted() {
    isolated("device::an_idle_stack_notices_that_its_device_was_deleted", || {
        runtime().block_on(async {
            let stack = common::stack(OFFLOAD, Config::default()).unwrap();
            let listener = stack.listen(at(Family::V4.stack(), 80)).await.unwrap();
            let waiting = async { tokio::join!(listener.accept(), stack.failed()) };
            let delete = async {
                // What the kernel says of a new interface is over then.
                sleep(Duration::from_secs(2)).await;
                interface::delete("tun0").unwrap();
            };
            let both = async { tokio::join!(waiting, delete).0 };
            let (accepted, failure) =
                timeout(Duration::from_secs(4), both).await.expect("told while nothing else happens");
            assert_eq!(accepted.unwrap_err().kind(), ErrorKind::NotConnected);
            assert_eq!(failure.error.kind(), ErrorKind::NotConnected, "{failure}");
            assert!(failure.error.to_string().contains("tun0 is gone"), "{failure}");
        });
    });
}

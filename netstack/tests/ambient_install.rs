//! The default stack of the process: one test, because there is one process.

use netstack::net::{TcpListener, TcpSocket};
use netstack::{Driver, Stack};
use std::io;
use std::time::Duration;
use tokio::runtime::Builder;

#[test]
fn an_installed_stack_reaches_everything_until_it_ends() {
    let build = |name: &str| Stack::builder().name(name).driver(Driver::Thread).build().unwrap();
    let (first, second) = (build("first"), build("second"));
    first.install().unwrap();
    let refused = second.install().unwrap_err();
    assert_eq!(refused.0.name(), "second", "given back");
    assert_eq!(io::Error::from(refused).kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(TcpSocket::new_v4().unwrap().stack().name(), "first");
    for runtime in [
        Builder::new_multi_thread().worker_threads(4).enable_all().build(),
        Builder::new_current_thread().enable_all().build(),
    ] {
        let runtime = runtime.unwrap();
        runtime.block_on(async {
            for task in (0..8).map(|_| tokio::spawn(TcpListener::bind("127.0.0.1:0"))).collect::<Vec<_>>() {
                assert_eq!(task.await.unwrap().unwrap().stack().name(), "first");
            }
            let blocking =
                tokio::task::spawn_blocking(|| TcpSocket::new_v4().unwrap().stack().name().to_owned());
            assert_eq!(blocking.await.unwrap(), "first");
            second.scope(async { assert_eq!(Stack::current().unwrap().name(), "second") }).await;
            first.shutdown(Duration::from_secs(1)).await;
        });
        if second.install().is_ok() {
            assert_eq!(Stack::current().unwrap().name(), "second");
            return;
        }
    }
    panic!("a stack that is over can be replaced");
}

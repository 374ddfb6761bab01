//! Which stack a constructor uses. The default of the process is tested in `ambient_install.rs`.

use netstack::net::{TcpListener, TcpSocket, TcpStream};
use netstack::{Driver, Stack};
use std::io::ErrorKind;
use tokio::runtime::{Builder, Handle, Runtime};

/// The name of the stack that a constructor uses here, or `none`.
async fn used() -> String {
    match TcpListener::bind("127.0.0.1:0").await {
        Ok(listener) => listener.stack().name().to_owned(),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("no netstack stack here"), "{error}");
            "none".to_owned()
        }
    }
}

fn stack(name: &str) -> Stack {
    Stack::builder().name(name).driver(Driver::Thread).build().unwrap()
}

fn multi() -> Runtime {
    Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap()
}

fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// What 16 spawned tasks use, all the same.
async fn spawned() -> String {
    let mut seen = Vec::new();
    for task in (0..16).map(|_| tokio::spawn(used())).collect::<Vec<_>>() {
        seen.push(task.await.unwrap());
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:?}");
    seen.remove(0)
}

async fn blocking() -> String {
    tokio::task::spawn_blocking(|| {
        TcpSocket::new_v4().map_or_else(|_| "none".to_owned(), |socket| socket.stack().name().to_owned())
    })
    .await
    .unwrap()
}

#[test]
fn without_a_stack_constructors_fail() {
    single().block_on(async {
        assert_eq!(used().await, "none");
        let error = TcpStream::connect("127.0.0.1:80").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    });
    assert_eq!(TcpSocket::new_v4().unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(TcpSocket::new_v6().unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(Stack::try_current().is_none());
}

#[test]
fn entering_covers_the_thread() {
    let stack = stack("entered");
    let multi = multi();
    {
        let _entered = stack.enter();
        multi.block_on(async {
            assert_eq!(used().await, "entered", "the root future runs here");
            assert_eq!(spawned().await, "none", "the workers are other threads");
            assert_eq!(blocking().await, "none");
        });
        single().block_on(async {
            assert_eq!(spawned().await, "entered", "spawned tasks run here");
            assert_eq!(blocking().await, "none");
        });
        assert_eq!(TcpSocket::new_v4().unwrap().stack().name(), "entered");
    }
    assert!(TcpSocket::new_v4().is_err());
}

#[test]
fn a_scope_covers_the_task() {
    let stack = stack("scoped");
    multi().block_on(stack.scope(async {
        assert_eq!(used().await, "scoped");
        tokio::task::yield_now().await;
        assert_eq!(used().await, "scoped");
        assert_eq!(tokio::spawn(used()).await.unwrap(), "none", "children are on their own");
        assert_eq!(blocking().await, "none");
        let here = Stack::current().unwrap();
        assert_eq!(here.spawn(used()).await.unwrap(), "scoped");
    }));
}

#[test]
fn binding_covers_the_runtime() {
    let stack = stack("bound");
    for runtime in [multi(), single()] {
        let guard = stack.bind_runtime(runtime.handle()).unwrap();
        runtime.block_on(async {
            assert_eq!(used().await, "bound");
            assert_eq!(spawned().await, "bound");
            assert_eq!(tokio::spawn(spawned()).await.unwrap(), "bound", "the tasks of tasks");
            assert_eq!(blocking().await, "bound");
        });
        assert!(TcpSocket::new_v4().is_err(), "outside of the runtime");
        // The guard may go to another thread.
        std::thread::spawn(move || drop(guard)).join().unwrap();
        runtime.block_on(async { assert_eq!(spawned().await, "none") });
    }
}

#[test]
fn the_innermost_wins() {
    let (outer, inner, scoped) = (stack("outer"), stack("inner"), stack("scoped"));
    let runtime = single();
    let first = outer.bind_runtime(runtime.handle()).unwrap();
    let second = inner.bind_runtime(runtime.handle()).unwrap();
    runtime.block_on(async {
        assert_eq!(used().await, "inner", "the later binding");
        scoped
            .scope(async {
                assert_eq!(used().await, "scoped");
                outer.scope(async { assert_eq!(used().await, "outer") }).await;
                let entered = inner.enter();
                assert_eq!(TcpSocket::new_v4().unwrap().stack().name(), "inner");
                drop(entered);
                assert_eq!(used().await, "scoped");
            })
            .await;
        drop(first);
        assert_eq!(used().await, "inner");
        drop(second);
        assert_eq!(used().await, "none");
    });
}

#[test]
fn guards_may_be_dropped_in_any_order() {
    let (one, two) = (stack("one"), stack("two"));
    let first = one.enter();
    let second = two.enter();
    drop(first);
    assert_eq!(Stack::current().unwrap().name(), "two");
    drop(second);
    assert!(Stack::try_current().is_none());
}

#[test]
fn a_socket_keeps_its_stack() {
    let stack = stack("mine");
    let other = self::stack("other");
    let runtime = multi();
    let listener = runtime.block_on(stack.scope(TcpListener::bind("127.0.0.1:0"))).unwrap();
    let addr = listener.local_addr().unwrap();
    let client = runtime.block_on(stack.connect(addr)).unwrap();
    drop(runtime);
    // In another runtime, under another stack.
    single().block_on(other.scope(async {
        let (server, _) = listener.accept().await.unwrap();
        assert_eq!(server.stack().name(), "mine");
        client.try_write(b"x").unwrap();
        server.readable().await.unwrap();
        assert_eq!(TcpStream::connect(addr).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }));
}

#[test]
fn constructors_look_when_they_are_first_polled() {
    let stack = stack("late");
    let future = TcpListener::bind("127.0.0.1:0");
    single().block_on(async {
        let listener = stack.scope(future).await.unwrap();
        assert_eq!(listener.stack().name(), "late");
    });
}

#[tokio::test]
async fn run_covers_the_runtime_and_delivers() {
    let stack = Stack::builder().name("run").build().unwrap();
    let read = netstack::run(stack.clone(), async {
        assert_eq!(spawned().await, "run");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        client.try_write(b"x").unwrap();
        drop(client);
        server
    })
    .await
    .unwrap();
    assert_eq!(read.try_read(&mut [0; 2]).unwrap(), 1, "delivered when run returned");
    assert_eq!(used().await, "none");
    let _ = Handle::current();
}

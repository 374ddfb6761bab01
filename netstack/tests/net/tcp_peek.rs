//! Peeking.

use crate::common::{connected, poll_once};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};

#[tokio::test]
async fn what_was_peeked_at_can_be_read() {
    let (_stack, mut client, mut server) = connected().await;
    let mut buf = [0; 3];
    {
        let mut peek = Box::pin(server.peek(&mut buf));
        assert!(poll_once(|cx| peek.as_mut().poll(cx)).is_pending());
    }
    assert_eq!(buf, [0; 3], "a dropped future has not touched the buffer");
    client.write_all(b"hello").await.unwrap();
    for _ in 0..3 {
        assert_eq!(server.peek(&mut buf).await.unwrap(), 3);
        assert_eq!(&buf, b"hel");
    }
    let mut space = [0; 8];
    let mut read_buf = ReadBuf::new(&mut space);
    read_buf.put_slice(b">");
    let n = std::future::poll_fn(|cx| server.poll_peek(cx, &mut read_buf)).await.unwrap();
    assert_eq!((n, read_buf.filled()), (5, &b">hello"[..]));
    let mut all = [0; 5];
    server.read_exact(&mut all).await.unwrap();
    assert_eq!(&all, b"hello");
    assert!(poll_once(|cx| server.poll_peek(cx, &mut ReadBuf::new(&mut all))).is_pending());
}

#[tokio::test]
async fn the_end_of_the_stream_can_be_peeked_at() {
    let (_stack, client, server) = connected().await;
    drop(client);
    for _ in 0..2 {
        assert_eq!(server.peek(&mut [0; 3]).await.unwrap(), 0);
    }
}

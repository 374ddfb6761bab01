//! gRPC in both roles on the sockets of netstack.

use http::Uri;
use netstack::Stack;
use netstack::net::TcpListenerStream;
use netstack::net::hyper::Connector;
use netstack_ecosystem::greeter::{Greeter, greet};
use netstack_ecosystem::place::{Place, SERVER};
use tonic::transport::{Channel, Endpoint, Server};

async fn channel(client: &Stack) -> Channel {
    let endpoint = Endpoint::from(Uri::from_static("http://server.test:50051"));
    endpoint.connect_with_connector(Connector::new(client)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_server_knows_who_asks() {
    let Place { server, client } = Place::memory().unwrap();
    let connections = TcpListenerStream::new(server.listen((SERVER, 50051)).await.unwrap());
    let serving = Server::builder().add_service(Greeter).serve_with_incoming(connections);
    tokio::spawn(serving);
    let channel = channel(&client.unwrap()).await;
    assert_eq!(greet(channel.clone(), "Ada").await.unwrap(), "Hello Ada at 10.9.0.1");
    let greetings = (0..20).map(|n| {
        let channel = channel.clone();
        tokio::spawn(async move { greet(channel, &n.to_string()).await })
    });
    for (n, greeting) in greetings.enumerate() {
        assert_eq!(greeting.await.unwrap().unwrap(), format!("Hello {n} at 10.9.0.1"));
    }
    assert_eq!(server.connections(), 1, "all of them on one connection");
    let too_long = greet(channel.clone(), &"x".repeat(200)).await.unwrap_err();
    assert_eq!(too_long.code(), tonic::Code::Internal, "{too_long}");
    assert_eq!(greet(channel, "Bob").await.unwrap(), "Hello Bob at 10.9.0.1");
}

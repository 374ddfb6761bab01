//! gRPC of tonic in both roles. The service is written by hand (`netstack_ecosystem::greeter`), so no `protoc` is needed.
//!
//! ```text
//! cargo run -p netstack-ecosystem --example tonic_greeter            a client over a link in memory
//! cargo build -p netstack-ecosystem --example tonic_greeter
//! unshare -rn sh -c 'target/debug/examples/tonic_greeter --tun & sleep 1; printf "\0\0\0\0\5\n\3Ada" | curl -s --http2-prior-knowledge \
//!     -H "content-type: application/grpc" --data-binary @- -o - http://10.9.0.2:50051/greet.Greeter/Greet; kill $!'
//! ```

use http::Uri;
use netstack::net::TcpListenerStream;
use netstack::net::hyper::Connector;
use netstack_ecosystem::greeter::{Greeter, greet};
use netstack_ecosystem::place::{Failure, Place, SERVER};
use tonic::transport::{Endpoint, Server};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let place = Place::from_args()?;
    let connections = TcpListenerStream::new(place.server.listen((SERVER, 50051)).await?);
    let serving = tokio::spawn(Server::builder().add_service(Greeter).serve_with_incoming(connections));
    let Some(stack) = place.client else {
        println!("greet.Greeter/Greet at {SERVER}, port 50051");
        return Ok(serving.await??);
    };
    let endpoint = Endpoint::from(Uri::from_static("http://server.test:50051"));
    let channel = endpoint.connect_with_connector(Connector::new(&stack)).await?;
    for name in ["Ada", "Grace"] {
        println!("{}", greet(channel.clone(), name).await?);
    }
    Ok(())
}

//! A gRPC service, written by hand: `greet.Greeter/Greet` takes a name and gives a greeting. A message has one
//! field, the first, a string; so it needs neither `protoc` nor generated code.

use bytes::{Buf, BufMut};
use http::uri::PathAndQuery;
use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::client::{Grpc as Client, GrpcService};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc as Server, NamedService, UnaryService};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tower_service::Service;

/// `{string = 1}` in the encoding of Protocol Buffers.
#[derive(Clone, Copy, Debug, Default)]
struct OneString;

impl Codec for OneString {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

/// Field 1, with a length.
const TAG: u8 = 0x0a;

impl Encoder for OneString {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, text: String, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let len = u8::try_from(text.len()).ok().filter(|len| *len < 0x80);
        let len = len.ok_or_else(|| Status::invalid_argument("longer than 127 bytes"))?;
        to.put_slice(&[TAG, len]);
        to.put_slice(text.as_bytes());
        Ok(())
    }
}

impl Decoder for OneString {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        let text = match &bytes[..] {
            [] => "",
            [TAG, len, text @ ..] if usize::from(*len) == text.len() => {
                str::from_utf8(text).map_err(|_| Status::invalid_argument("not UTF-8"))?
            }
            _ => return Err(Status::invalid_argument("not a message of one string")),
        };
        Ok(Some(text.to_owned()))
    }
}

/// The service. It says who asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Greeter;

impl NamedService for Greeter {
    const NAME: &'static str = "greet.Greeter";
}

impl UnaryService<String> for Greeter {
    type Response = String;
    type Future = std::future::Ready<Result<Response<String>, Status>>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        let from = request.remote_addr().map_or("nowhere".to_owned(), |addr| addr.ip().to_string());
        ready(Ok(Response::new(format!("Hello {} at {from}", request.into_inner()))))
    }
}

impl Service<http::Request<Body>> for Greeter {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let greeter = *self;
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/greet.Greeter/Greet" => Server::new(OneString).unary(greeter, request).await,
                _ => Status::unimplemented("there is only Greet").into_http(),
            })
        })
    }
}

/// Asks the service behind `channel` to greet `name`.
///
/// # Errors
/// The status of the answer.
pub async fn greet(channel: Channel, name: &str) -> Result<String, Status> {
    let mut client = Client::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static("/greet.Greeter/Greet");
    client.unary(Request::new(name.to_owned()), path, OneString).await.map(Response::into_inner)
}

/// A channel is what a client needs.
const _: () = {
    const fn is_service<T: GrpcService<Body>>() {}
    is_service::<Channel>();
};

//! The least of a web client: one request, one connection.

use crate::place::{Failure, SERVER};
use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use netstack::Stack;
use netstack::net::hyper::Connector;

/// What the server of an example answers to `GET path`.
///
/// # Errors
/// Those of the client; a status that is no success.
pub async fn get(stack: &Stack, path: &str) -> Result<String, Failure> {
    let uri = Uri::builder().scheme("http").authority(SERVER.to_string()).path_and_query(path).build()?;
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(Connector::new(stack));
    let response = client.get(uri).await?;
    if !response.status().is_success() {
        return Err(response.status().to_string().into());
    }
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec())?)
}

//! A web server of axum.
//!
//! ```text
//! cargo run -p netstack-ecosystem --example axum_hello            a client asks it over a link in memory
//! cargo build -p netstack-ecosystem --example axum_hello
//! unshare -rn sh -c 'target/debug/examples/axum_hello --tun & sleep 1; curl http://10.9.0.2/; kill $!'
//! ```
//!
//! With `use tokio::net::TcpListener` in the line below, and no other change, it is a server on the sockets of the
//! kernel. A test counts the lines that differ, and runs both.

use axum::extract::{ConnectInfo, Path};
use axum::http::header::CONTENT_TYPE;
use axum::response::Html;
use axum::serve::ListenerExt;
use axum::{Router, routing::get};
use netstack::net::TcpListener;
use netstack_ecosystem::page;
use netstack_ecosystem::place::{Failure, Place};
use std::net::SocketAddr;

/// Serves all that connect to the listener.
pub async fn serve(listener: TcpListener) -> std::io::Result<()> {
    let app = Router::new()
        .route("/", get(async || "Hello, World!\n"))
        .route("/hello/{name}", get(async |Path(name): Path<String>| format!("Hello, {name}!\n")))
        .route("/whoami", get(async |ConnectInfo(client): ConnectInfo<SocketAddr>| client.to_string()))
        .route("/page", get(async || Html(page::html())))
        .route("/image/{number}", get(image));
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await
}

async fn image(Path(number): Path<u32>) -> impl axum::response::IntoResponse {
    ([(CONTENT_TYPE, "image/bmp")], page::image(number))
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let place = Place::from_args()?;
    let _bound = place.server.bind_runtime(&tokio::runtime::Handle::current())?;
    let serving = tokio::spawn(serve(TcpListener::bind("10.9.0.2:80").await?));
    match place.client {
        Some(client) => {
            for path in ["/", "/hello/netstack", "/whoami"] {
                print!("GET {path}: {}", netstack_ecosystem::http::get(&client, path).await?);
            }
            println!();
        }
        None => {
            println!("http://10.9.0.2/ and, for browsers, http://10.9.0.2/page");
            serving.await??;
        }
    }
    Ok(())
}

//! Makes of `axum_hello` the same program on the sockets of the kernel, for the test that runs both.

use std::path::Path;
use std::{env, fs};

fn main() {
    const EXAMPLE: &str = "examples/axum_hello.rs";
    println!("cargo::rerun-if-changed={EXAMPLE}");
    let source = fs::read_to_string(EXAMPLE).expect("the example");
    // The documentation of a module is outside of it here.
    let source: String =
        source.lines().filter(|line| !line.starts_with("//!")).map(|line| format!("{line}\n")).collect();
    let directory = env::var_os("OUT_DIR").expect("cargo says where");
    let write = |name: &str, text: &str| {
        fs::write(Path::new(&directory).join(name), text).expect("the directory can be written");
    };
    write("axum_hello_netstack.rs", &source);
    write("axum_hello_tokio.rs", &source.replace("netstack::net::", "tokio::net::"));
}

//! What hostile and broken input must not do: a test for each row R1 to R22 of the table in SECURITY.md, by its number,
//! on the public interface and in virtual time. The cases of R20 that need a real device are in `netstack-tun`.
//!
//! "A legitimate client" is another, well-behaved one that completes an echo of one byte within a second.

mod applications;
mod floods;
mod lab;
mod packets;
mod segments;
mod streams;

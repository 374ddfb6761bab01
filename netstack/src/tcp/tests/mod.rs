//! Tests of the core as a whole: two connections on a virtual clock ([`pair`]), and single
//! connections that are given segments and watched ([`table`]).

mod accurate_ecn;
mod close;
mod congestion;
mod custom_congestion;
mod duplex;
mod ecn;
mod hostile;
mod mistakes;
mod opening;
mod pair;
mod prediction;
mod recovery;
mod rules;
mod sending;
mod stalls;
mod states;
mod strays;
mod syn_received;
mod table;
mod transfer;

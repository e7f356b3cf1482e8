//! What this machine and this network let WebRTC do.
//!
//! [`probe`] collects facts, [`diagnose`] makes findings of them, in plain words and without a network,
//! and [`report`] prints them; [`against`] explains why two sides found no way. What lives here: tests of one side. What does not:
//! a connection between two sides, which `--against` makes with `pairing`.

pub(crate) mod against;
pub(crate) mod diagnose;
mod dtls;
pub(crate) mod facts;
mod http;
pub(crate) mod probe;
mod relay;
pub(crate) mod report;
mod stun;

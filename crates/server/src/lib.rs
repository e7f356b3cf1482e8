//! Signalling, rooms, WHIP and WHEP, the TURN service, the web page and metrics.

pub mod rendezvous;
pub mod turn;

//! The STUN and TURN service: sockets and workers around the state machine of `visavis-turn`.

//! TURN client and TURN server state machines, sans-IO.

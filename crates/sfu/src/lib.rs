//! Selective forwarding of rooms.

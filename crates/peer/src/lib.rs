//! One WebRTC peer connection, sans-IO.

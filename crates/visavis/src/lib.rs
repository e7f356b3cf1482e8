//! The async API: PeerConnection, DataChannel, tracks.

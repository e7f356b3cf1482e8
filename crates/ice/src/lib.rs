//! The ICE agent of RFC 8445, sans-IO.

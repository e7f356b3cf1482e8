//! SCTP association, streams and data channels, sans-IO.

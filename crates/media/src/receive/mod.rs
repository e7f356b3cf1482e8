//! Streams on their way in.

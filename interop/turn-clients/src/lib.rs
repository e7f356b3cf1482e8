//! Clients in Rust that others wrote: `tests/`.

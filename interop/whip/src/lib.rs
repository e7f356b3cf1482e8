//! WHIP and WHEP clients that others wrote, against this repository's server. The tests are `tests/clients.rs`,
//! the clients `driver/`.

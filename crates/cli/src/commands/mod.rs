//! One module per subcommand: its arguments, its help, and what runs.

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod echo;
pub(crate) mod join;
pub(crate) mod keygen;
pub(crate) mod receive;
pub(crate) mod send;
pub(crate) mod serve;
pub(crate) mod turn;
pub(crate) mod whep;
pub(crate) mod whip;

use std::net::SocketAddr;

/// Where to listen, from the command line.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "use ADDRESS:PORT, as 0.0.0.0:8080 for all addresses or 127.0.0.1:8080 for this machine alone".to_owned()
    })
}

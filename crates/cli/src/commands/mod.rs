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

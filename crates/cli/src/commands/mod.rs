//! One module per subcommand: its arguments, its help, and what runs.

pub(crate) mod serve;
pub(crate) mod turn;

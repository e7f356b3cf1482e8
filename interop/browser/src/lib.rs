//! Tests against headless Chromium and Firefox: a browser whose pages evaluate JavaScript
//! ([`Browser`]), a call between a page and a connection of ours ([`Call`]), and a bad line between the
//! two ([`Line`]).

mod browser;
mod call;
mod echo;
mod line;

pub use browser::{Browser, Kind, Page, in_namespace};
pub use call::{Call, Plan, Side, candidates_only, within};
pub use echo::Echo;
pub use line::{Conditions, Line};

/// A test for each line: its name, and what it runs.
#[macro_export]
macro_rules! tests {
    ($($(#[$attribute:meta])* $name:ident: $run:expr;)*) => {
        $(
            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $run.await;
            }
        )*
    };
}

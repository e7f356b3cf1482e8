//! Tests against headless Chromium and Firefox: a browser whose pages evaluate JavaScript
//! ([`Browser`]), a call between a page and a connection of ours ([`Call`]), and a bad line between the
//! two ([`Line`]).

mod browser;
mod call;
mod echo;
mod line;

pub use browser::{Browser, Kind, Page};
pub use call::{Call, Plan, Side};
pub use echo::Echo;
pub use interop_common::{in_namespace, tests, within};
pub use line::{Conditions, Line};

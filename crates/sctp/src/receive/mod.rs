//! The receiving side: which TSNs have arrived, and messages put together from their fragments.

mod reassembly;
mod slab;
mod tracker;

pub(crate) use reassembly::{Delivery, Fragment, Reassembly};
pub(crate) use tracker::{Arrival, TsnTracker};

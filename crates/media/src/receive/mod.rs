//! Streams on their way in.

mod audio;
mod delay;
mod fec;
mod keyframe;
mod nack;
mod references;
mod sources;
mod statistics;
mod sync;
mod video;

pub use audio::{AudioReceiver, AudioReceiverConfig, AudioStats, Playout, Speed};
pub use delay::DelayTracker;
pub use fec::{FecReceiver, FecStats};
pub use keyframe::{KeyframeRequest, KeyframeRequester, KeyframeRequesterConfig};
pub use nack::{NackConfig, NackList, NackScheduler, NackStats};
pub use sources::{Route, SectionRules, SourceStats, SourceTable};
pub use statistics::{Freshness, ReceptionCounters, ReceptionStats};
pub use sync::{AvSync, SenderClock, SyncDelays};
pub use video::{Feedback, Origin, VideoFrame, VideoReceiver, VideoReceiverConfig, VideoStats};

//! Streams on their way out.

mod fec;
mod keyframe;
mod red;
mod report;
mod stream;
mod svc;

pub(crate) use fec::zero_mutable_extensions;
pub use fec::{FecKind, FecSender, FecSenderConfig};
pub use keyframe::KeyframeGate;
pub use red::{MAX_REDUNDANCY, RedSender, wrap_in_red};
pub use report::{ReportSchedule, RoundTrip};
pub use stream::{
    FrameMeta, OutgoingPacket, PacketSpan, RtxConfig, SendError, SendStats, SendStream,
    SendStreamConfig, stamp,
};
pub use svc::{ScalabilityMode, SvcDescriptor};

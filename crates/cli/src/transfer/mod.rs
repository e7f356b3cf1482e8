//! Files over a data channel: what is sent, how it is resumed, how it is verified.
//!
//! One ordered, reliable channel. Text messages are JSON ([`message::Message`]); binary messages are
//! the bytes of the entry that was begun last. The sender offers its entries, the receiver says what it
//! has of them already and accepts, the sender streams the rest; each entry ends with its digest
//! ([`digest`]) and is acknowledged. What lives here: that protocol, files, progress. What does not:
//! how the two ends met (`pairing`).

pub(crate) mod digest;
pub(crate) mod message;
pub(crate) mod path;
pub(crate) mod progress;
pub(crate) mod rate;
pub(crate) mod receive;
pub(crate) mod send;
pub(crate) mod source;
pub(crate) mod store;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use visavis::DataChannel;

/// Bytes per binary message.
pub(crate) const MESSAGE: usize = 64 << 10;
/// How long the last words may take to arrive.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Closes a channel once what was said on it has arrived, which is when its stream is reset (RFC 8831 section 6.7). Who ended
/// earlier would leave the other side without the last word, whenever the packet that bears it is lost.
pub(crate) async fn finish(channel: &DataChannel) {
    channel.close();
    let _ = tokio::time::timeout(LAST_WORDS, channel.closed()).await;
}

/// A message that has come already; `None` if none has.
async fn try_recv(channel: &mut DataChannel) -> Option<Option<visavis::Message>> {
    let mut received = pin!(channel.recv());
    poll_fn(|cx| match received.as_mut().poll(cx) {
        Poll::Ready(message) => Poll::Ready(Some(message)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

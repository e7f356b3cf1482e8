//! What every WebSocket of the server does: writing that ends, and closing that is heard.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message as Frame, WebSocket, WebSocketUpgrade};

/// The end of a connection that was as it should be (RFC 6455 section 7.4.1).
pub(crate) const NORMAL: u16 = 1000;

/// How long one message may take to be written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a peer has to answer a close before its connection is dropped.
const LINGER: Duration = Duration::from_secs(5);

/// How much is read at once. Each connection holds as much for as long as it lives, and most messages have some kilobytes.
const READ_BUFFER: usize = 8 * 1024;

/// Takes messages of so many bytes at most.
pub(crate) fn bounded(upgrade: WebSocketUpgrade, max_message_bytes: usize) -> WebSocketUpgrade {
    upgrade
        .max_message_size(max_message_bytes)
        .max_frame_size(max_message_bytes)
        .read_buffer_size(READ_BUFFER)
}

/// Sends a frame; false if the connection is of no use any more.
pub(crate) async fn send(socket: &mut WebSocket, frame: Frame) -> bool {
    matches!(
        tokio::time::timeout(WRITE_TIMEOUT, socket.send(frame)).await,
        Ok(Ok(()))
    )
}

/// Says why the connection ends, and reads past what the peer was still sending until it has heard it: a
/// socket that is dropped with bytes unread resets the connection, and the reason is lost with it.
pub(crate) async fn close(mut socket: WebSocket, code: u16, reason: &'static str) {
    let frame = CloseFrame {
        code,
        reason: reason.into(),
    };
    send(&mut socket, Frame::Close(Some(frame))).await;
    // Where the peer closed first, this writes the answer to it.
    let heard = async { while let Some(Ok(_)) = socket.recv().await {} };
    let _ = tokio::time::timeout(LINGER, heard).await;
}

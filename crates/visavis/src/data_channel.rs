//! Data channels as their user sees them: messages, or a stream of bytes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use futures_core::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use visavis_peer::{ChannelId, ChannelState, Error as PeerError, MessageKind};

use crate::Error;
use crate::connection::{Part, register};
use crate::peer_connection::Handle;

/// The largest piece that [`DataChannelStream`] sends as one message.
const STREAM_MESSAGE: usize = 16 << 10;

/// A message of a data channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text. What the peer sent is checked to be UTF-8; if it is not, replacement characters stand in.
    Text(String),
    /// Bytes.
    Binary(Bytes),
}

impl Message {
    /// The message's bytes.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into(),
            Self::Binary(bytes) => bytes,
        }
    }

    fn parts(self) -> (MessageKind, Bytes) {
        match self {
            Self::Text(text) => (MessageKind::Text, text.into()),
            Self::Binary(bytes) => (MessageKind::Binary, bytes),
        }
    }

    fn new(kind: MessageKind, data: Bytes) -> Self {
        match kind {
            MessageKind::Text => Self::Text(match String::from_utf8(data.into()) {
                Ok(text) => text,
                Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
            }),
            MessageKind::Binary => Self::Binary(data),
        }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

/// A channel for messages (W3C `RTCDataChannel`).
///
/// Dropping it closes it.
#[derive(Debug)]
pub struct DataChannel {
    handle: Arc<Handle>,
    id: ChannelId,
    /// The parts that have come of a message that is too large to be handed out whole.
    assembly: BytesMut,
}

impl DataChannel {
    pub(crate) fn new(handle: Arc<Handle>, id: ChannelId) -> Self {
        Self {
            handle,
            id,
            assembly: BytesMut::new(),
        }
    }

    /// The label; empty once the channel is forgotten.
    pub fn label(&self) -> String {
        let state = self.handle.connection.lock();
        state
            .core
            .data_channel_options(self.id)
            .map_or_else(String::new, |o| o.label.clone())
    }

    /// The subprotocol.
    pub fn protocol(&self) -> String {
        let state = self.handle.connection.lock();
        state
            .core
            .data_channel_options(self.id)
            .map_or_else(String::new, |o| o.protocol.clone())
    }

    /// The stream identifier (W3C `id`), once it is known.
    pub fn stream_id(&self) -> Option<u16> {
        self.handle
            .connection
            .lock()
            .core
            .data_channel_stream(self.id)
    }

    /// The state (W3C `readyState`).
    pub fn state(&self) -> ChannelState {
        self.handle
            .connection
            .lock()
            .core
            .data_channel_state(self.id)
    }

    /// Bytes that wait to be sent.
    pub fn buffered_amount(&self) -> usize {
        self.handle.connection.lock().core.buffered_amount(self.id)
    }

    /// Sets the bytes at which [`buffered_amount_low`](Self::buffered_amount_low) is told.
    pub fn set_buffered_amount_low_threshold(&self, bytes: usize) {
        let id = self.id;
        let connection = &self.handle.connection;
        connection
            .lock()
            .core
            .set_buffered_amount_low_threshold(id, bytes);
    }

    /// Sends a message at once.
    ///
    /// # Errors
    /// As W3C `send`; `OperationError` when the send buffer is full: [`feed`](Self::feed) waits then.
    pub fn send(&self, message: impl Into<Message>) -> Result<(), Error> {
        let (kind, data) = message.into().parts();
        Ok(self
            .handle
            .connection
            .with(|state, now| state.core.send(now, self.id, kind, data))?)
    }

    /// Sends a message as soon as the channel is open and has room for it. Cancel-safe: a message whose
    /// future is dropped before it is ready was not sent.
    ///
    /// # Errors
    /// As W3C `send`, and [`Error::Closed`].
    pub async fn feed(&self, message: impl Into<Message>) -> Result<(), Error> {
        let (kind, data) = message.into().parts();
        poll_fn(|cx| self.poll_feed(cx, kind, &data)).await
    }

    fn poll_feed(
        &self,
        cx: &mut Context<'_>,
        kind: MessageKind,
        data: &Bytes,
    ) -> Poll<Result<(), Error>> {
        let mut state = self.handle.connection.lock();
        let open = state.core.data_channel_state(self.id);
        if open == ChannelState::Open {
            let sent = state
                .core
                .send(std::time::Instant::now(), self.id, kind, data.clone());
            match sent {
                Err(PeerError::Operation(_)) => {}
                Ok(()) => {
                    drop(state);
                    self.handle.connection.touch();
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        } else if open != ChannelState::Connecting || state.is_finished() {
            return Poll::Ready(Err(Error::Closed));
        }
        register(&mut state.channel(self.id).watchers, cx.waker());
        Poll::Pending
    }

    /// The next message; `None` when the channel is closed. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Message> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        loop {
            let Some(part) = std::task::ready!(self.poll_part(cx)) else {
                return Poll::Ready(None);
            };
            if part.first {
                self.assembly.clear();
            }
            if part.first && part.last {
                return Poll::Ready(Some(Message::new(part.kind, part.data)));
            }
            self.assembly.extend_from_slice(&part.data);
            if part.last {
                return Poll::Ready(Some(Message::new(
                    part.kind,
                    self.assembly.split().freeze(),
                )));
            }
        }
    }

    fn poll_part(&self, cx: &mut Context<'_>) -> Poll<Option<Part>> {
        let mut state = self.handle.connection.lock();
        if let Some((part, again)) = state.pop_part(self.id, self.handle.receive_buffer()) {
            drop(state);
            if again {
                self.handle.connection.touch();
            }
            return Poll::Ready(Some(part));
        }
        let over = matches!(state.core.data_channel_state(self.id), ChannelState::Closed);
        if over || state.is_finished() {
            return Poll::Ready(None);
        }
        register(&mut state.channel(self.id).readers, cx.waker());
        Poll::Pending
    }

    /// Waits until the channel is open.
    ///
    /// # Errors
    /// [`Error::Closed`] if it will never be.
    pub async fn opened(&self) -> Result<(), Error> {
        match self.watch(|state| state != ChannelState::Connecting).await {
            ChannelState::Open | ChannelState::Closing => Ok(()),
            _ => Err(Error::Closed),
        }
    }

    /// Waits until the channel is closed.
    pub async fn closed(&self) {
        self.watch(|state| state == ChannelState::Closed).await;
    }

    /// Waits until no more than the threshold's bytes wait to be sent.
    pub async fn buffered_amount_low(&self, threshold: usize) {
        self.set_buffered_amount_low_threshold(threshold);
        poll_fn(|cx| {
            let mut state = self.handle.connection.lock();
            let low = state.core.buffered_amount(self.id) <= threshold;
            let over = state.core.data_channel_state(self.id) == ChannelState::Closed;
            if low || over || state.is_finished() {
                return Poll::Ready(());
            }
            register(&mut state.channel(self.id).watchers, cx.waker());
            Poll::Pending
        })
        .await;
    }

    async fn watch(&self, until: impl Fn(ChannelState) -> bool) -> ChannelState {
        poll_fn(|cx| {
            let mut state = self.handle.connection.lock();
            let now = state.core.data_channel_state(self.id);
            if until(now) {
                return Poll::Ready(now);
            }
            if state.is_finished() {
                return Poll::Ready(ChannelState::Closed);
            }
            register(&mut state.channel(self.id).watchers, cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Why the channel failed, if it did.
    pub fn error(&self) -> Option<String> {
        self.handle.connection.lock().channel(self.id).error.clone()
    }

    /// Starts to close the channel: what waits is still sent.
    pub fn close(&self) {
        self.handle
            .connection
            .with(|state, now| state.core.close_data_channel(now, self.id));
    }

    /// The channel as a stream of bytes: message boundaries are lost.
    pub fn into_stream(self) -> DataChannelStream {
        DataChannelStream {
            channel: self,
            rest: Bytes::new(),
        }
    }
}

impl Drop for DataChannel {
    fn drop(&mut self) {
        self.handle.connection.with(|state, now| {
            state.core.close_data_channel(now, self.id);
            state.forget_channel(self.id);
        });
    }
}

impl Stream for DataChannel {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.get_mut().poll_recv(cx)
    }
}

/// A data channel as a stream of bytes, for whatever speaks over a TCP connection otherwise.
#[derive(Debug)]
pub struct DataChannelStream {
    channel: DataChannel,
    /// What has come and was not read.
    rest: Bytes,
}

impl AsyncRead for DataChannelStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            match std::task::ready!(this.channel.poll_part(cx)) {
                Some(part) => this.rest = part.data,
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = this.rest.len().min(buffer.remaining());
        buffer.put_slice(&this.rest[..length]);
        this.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for DataChannelStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let length = bytes.len().min(STREAM_MESSAGE);
        if length == 0 {
            return Poll::Ready(Ok(0));
        }
        let data = Bytes::copy_from_slice(&bytes[..length]);
        match std::task::ready!(self.channel.poll_feed(cx, MessageKind::Binary, &data)) {
            Ok(()) => Poll::Ready(Ok(length)),
            Err(error) => Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, error))),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.channel.handle.connection.lock();
        let over = state.core.data_channel_state(self.channel.id) == ChannelState::Closed;
        if state.core.buffered_amount(self.channel.id) == 0 || over || state.is_finished() {
            return Poll::Ready(Ok(()));
        }
        state
            .core
            .set_buffered_amount_low_threshold(self.channel.id, 0);
        register(&mut state.channel(self.channel.id).watchers, cx.waker());
        Poll::Pending
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.as_mut().poll_flush(cx))?;
        self.channel.close();
        Poll::Ready(Ok(()))
    }
}

//! What happens behind the handshake of 1.3: key updates and connection IDs; and what 1.2 refuses.

use std::time::Instant;

use super::handshake::{APPLICATION_EPOCH, HANDSHAKE_EPOCH, Secrets};
use super::{Connection, Phase};
use crate::alert::{Alert, AlertDescription};
use crate::codec::Decode;
use crate::key_schedule::next_traffic;
use crate::message::MessageType;
use crate::message::post_handshake::{NewConnectionId, parse_key_update};
use crate::reassembly::Message;
use crate::record::RecordKeys;
use crate::{Error, Event, Role, Version};

/// RFC 9147 section 8: no end may send in a higher epoch.
const MAX_EPOCH: u64 = (1 << 48) - 1;

impl Connection {
    /// Moves to new sending keys, and asks the peer to do the same if `request_peer` (1.3). The keys
    /// change once the peer has acknowledged.
    ///
    /// # Errors
    /// [`Error::NotConnected`], [`Error::Closed`], [`Error::Version`].
    pub fn update_keys(&mut self, now: Instant, request_peer: bool) -> Result<(), Error> {
        let _ = now;
        match self.phase {
            Phase::Handshaking => Err(Error::NotConnected),
            Phase::Closed => Err(Error::Closed),
            Phase::Connected if self.version() != Some(Version::Dtls13) => Err(Error::Version),
            Phase::Connected => {
                self.queue_key_update(request_peer);
                Ok(())
            }
        }
    }

    /// At most one waits, and none beyond the last epoch.
    pub(super) fn queue_key_update(&mut self, request_peer: bool) {
        let waits = self
            .post_handshake
            .iter()
            .any(|(message_type, _)| *message_type == MessageType::KEY_UPDATE);
        if self.records.write_epoch() < MAX_EPOCH && !waits && !self.updating {
            self.post_handshake
                .push_back((MessageType::KEY_UPDATE, vec![request_peer.into()]));
        }
    }

    /// All of the current flight is acknowledged.
    pub(super) fn flight_complete(&mut self, now: Instant) {
        if self.phase != Phase::Connected {
            // The peer has our flight and will answer it.
            self.flight.answered();
            return;
        }
        self.answered(now);
        let of_handshake = self.flight.epoch() == Some(HANDSHAKE_EPOCH);
        self.flight.clear();
        self.outer.flight_changed();
        if of_handshake && self.version() == Some(Version::Dtls13) {
            // The server has said that it has all: it repeats nothing, and neither does this end.
            self.timers.linger = None;
            self.forget_handshake();
        }
        if std::mem::take(&mut self.updating) {
            self.move_local_keys();
        }
    }

    fn move_local_keys(&mut self) {
        let epoch = self.records.write_epoch() + 1;
        let Some(session) = &mut self.session else {
            return;
        };
        let Secrets::Dtls13 { local, .. } = &mut session.secrets else {
            return;
        };
        *local = next_traffic(session.suite.hash(), local);
        let keys = RecordKeys::dtls13(session.suite, local);
        self.records.add_write(epoch, keys);
        self.records.retain_write(|kept| kept == epoch);
        self.push_event(Event::LocalKeysUpdated);
    }

    /// A record of a newer epoch opened: the keys before it are not needed any more, but for
    /// records that were overtaken.
    pub(super) fn peer_uses_new_keys(&mut self, epoch: u64) {
        if self.peer_epoch < epoch {
            self.peer_epoch = epoch;
            self.records.retain_read(|kept| kept + 1 >= epoch);
            self.push_event(Event::RemoteKeysUpdated);
        }
    }

    pub(super) fn handle_post_handshake_message(&mut self, now: Instant, message: &Message) {
        let _ = now;
        if self.version() == Some(Version::Dtls12) {
            // Renegotiation is refused (RFC 8827 section 6.5); a warning leaves the connection as
            // it is (RFC 5246 section 7.2.2).
            self.stats.messages_ignored += 1;
            if [MessageType::HELLO_REQUEST, MessageType::CLIENT_HELLO]
                .contains(&message.message_type)
            {
                self.alert = Some(Alert {
                    fatal: false,
                    description: AlertDescription::NO_RENEGOTIATION,
                });
            }
            return;
        }
        match self.take_post_handshake_message(message) {
            // RFC 9147 section 7.1: acknowledged at once.
            Ok(()) => self.acks.request(),
            Err(alert) => self.fail_now(alert),
        }
    }

    fn take_post_handshake_message(&mut self, message: &Message) -> Decode<()> {
        match message.message_type {
            // No session is ever resumed.
            MessageType::NEW_SESSION_TICKET if self.role == Role::Client => Ok(()),
            MessageType::KEY_UPDATE => {
                let requested = parse_key_update(&message.body)?;
                self.key_updates += 1;
                if self.key_updates > self.config.limits.key_updates {
                    return Err(AlertDescription::UNEXPECTED_MESSAGE);
                }
                self.add_remote_keys(message.epoch)?;
                if requested {
                    self.queue_key_update(false);
                }
                Ok(())
            }
            MessageType::REQUEST_CONNECTION_ID if !self.records.local_id.is_empty() => {
                // RFC 9147 section 9: fewer than asked for, even none, are a fair answer.
                if self.post_handshake.len() < 2 {
                    self.post_handshake.push_back((
                        MessageType::NEW_CONNECTION_ID,
                        NewConnectionId::encode_none(),
                    ));
                    Ok(())
                } else {
                    Err(AlertDescription::TOO_MANY_CIDS_REQUESTED)
                }
            }
            MessageType::NEW_CONNECTION_ID if !self.records.remote_id.is_empty() => {
                let new = NewConnectionId::parse(&message.body)?;
                if let (Some(id), true) = (new.first, new.immediate) {
                    self.records.remote_id = id.to_vec();
                }
                Ok(())
            }
            _ => Err(AlertDescription::UNEXPECTED_MESSAGE),
        }
    }

    /// The peer will send with the keys behind those of `epoch`.
    fn add_remote_keys(&mut self, epoch: u64) -> Decode<()> {
        let newest = self.records.read_epoch();
        // A second update before the first is used cannot come (RFC 9147 section 8).
        if epoch != newest || newest < APPLICATION_EPOCH {
            return Err(AlertDescription::UNEXPECTED_MESSAGE);
        }
        let session = self
            .session
            .as_mut()
            .ok_or(AlertDescription::INTERNAL_ERROR)?;
        let Secrets::Dtls13 { remote, .. } = &mut session.secrets else {
            return Err(AlertDescription::INTERNAL_ERROR);
        };
        *remote = next_traffic(session.suite.hash(), remote);
        let keys = RecordKeys::dtls13(session.suite, remote);
        self.records.add_read(newest + 1, keys);
        Ok(())
    }
}

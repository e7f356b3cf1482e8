//! Tracks that are forwarded to a participant, and how it wants them.

use livekit_protocol as proto;
use visavis_sfu::{SubscribeOptions, Wish};

use super::Actor;
use crate::room::ParticipantKey;

impl Actor {
    pub(super) async fn subscribe(&mut self, subscriber: ParticipantKey, track_sid: String) {
        let Some(track) = self.tracks.get(&track_sid).copied() else {
            return;
        };
        let Some(link) = self.links.get(&subscriber) else {
            return;
        };
        let Some(peer) = link.subscriber.as_ref().or(link.publisher.as_ref()) else {
            return;
        };
        let Some((publisher, info)) = self.room.track(&track_sid) else {
            return;
        };
        let by_stream = self
            .room
            .participant(subscriber)
            .is_some_and(|participant| !participant.client.browser.eq_ignore_ascii_case("firefox"));
        // Tracks of one stream are played in step. Firefox makes ids of its own for tracks, so that there the
        // stream's id has to carry the track's.
        let second = if by_stream && !info.info.stream.is_empty() {
            &info.info.stream
        } else {
            &track_sid
        };
        let adapts = self
            .room
            .participant(subscriber)
            .is_some_and(|participant| participant.adaptive_stream);
        let options = SubscribeOptions {
            stream: format!("{}|{second}", publisher.sid),
            track: track_sid.clone(),
            // Whoever will tell a size gets the smallest picture until then.
            wish: if adapts {
                Wish {
                    max_quality: 0,
                    ..Wish::default()
                }
            } else {
                Wish::default()
            },
        };
        match self
            .shared
            .media
            .sfu()
            .subscribe(track, peer.connection, options)
            .await
        {
            Ok(subscription) => {
                self.subscriptions
                    .insert((subscriber, track_sid), subscription);
            }
            Err(error) => self.note_of(
                subscriber,
                format!("cannot subscribe to {track_sid}: {error}"),
            ),
        }
    }
}

/// What a client's settings mean for forwarding. A size goes before a quality.
pub(super) fn wish(settings: &proto::UpdateTrackSettings) -> Wish {
    let quality =
        proto::VideoQuality::try_from(settings.quality).unwrap_or(proto::VideoQuality::High);
    let max_quality = match quality {
        _ if settings.width > 0 => Wish::ANY_QUALITY,
        proto::VideoQuality::Low => 0,
        proto::VideoQuality::Medium => 1,
        proto::VideoQuality::High | proto::VideoQuality::Off => Wish::ANY_QUALITY,
    };
    // Clients count from 1, the highest; here higher goes first.
    let priority = match settings.priority {
        0 => 0,
        priority => 1000 - priority.min(999),
    };
    Wish {
        enabled: !settings.disabled && quality != proto::VideoQuality::Off,
        max_width: settings.width,
        max_height: settings.height,
        max_fps: settings.fps,
        max_quality,
        priority,
        pinned: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_goes_before_a_quality() {
        let sized = proto::UpdateTrackSettings {
            width: 640,
            height: 360,
            ..Default::default()
        };
        assert_eq!(wish(&sized).max_quality, Wish::ANY_QUALITY);
        assert_eq!(wish(&proto::UpdateTrackSettings::default()).max_quality, 0);
        assert!(
            wish(&proto::UpdateTrackSettings {
                priority: 1,
                ..sized.clone()
            })
            .priority
                > wish(&sized).priority
        );
        assert!(
            !wish(&proto::UpdateTrackSettings {
                disabled: true,
                ..sized
            })
            .enabled
        );
    }
}

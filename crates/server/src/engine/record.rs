//! Recording of a room: every track that is there, and every track that comes.

use super::Actor;
use crate::{
    record::{Recorded, Recording},
    room::Now,
};

impl Actor {
    /// Begins or ends a recording; its folder, and how many files were begun.
    pub(super) async fn record(&mut self, on: bool) -> Result<(String, usize), String> {
        let Some(root) = self.shared.config.record_dir.clone() else {
            return Err("recording is off: set record-dir".into());
        };
        if !on {
            self.room.set_recording(false);
            let ended = self
                .recording
                .take()
                .ok_or("the room is not being recorded")?;
            self.note(None, "recording ends".into());
            return Ok((ended.directory().display().to_string(), ended.files()));
        }
        if self.recording.is_none() {
            let begun = Recording::begin(&root, self.room.name(), Now::read().unix_millis);
            self.recording = Some(begun.map_err(|error| format!("{}: {error}", root.display()))?);
            self.room.set_recording(true);
            self.note(None, "recording begins".into());
            let sids: Vec<String> = self.tracks.keys().cloned().collect();
            for sid in sids {
                self.record_track(&sid).await;
            }
        }
        let recording = self.recording.as_ref().ok_or("the recording ended")?;
        Ok((
            recording.directory().display().to_string(),
            recording.files(),
        ))
    }

    /// Records a track, if the room is being recorded.
    pub(super) async fn record_track(&mut self, sid: &str) {
        let (Some(recording), Some(track)) = (&mut self.recording, self.tracks.get(sid)) else {
            return;
        };
        let Some((publisher, info)) = self.room.track(sid) else {
            return;
        };
        let info = &info.info;
        let source = livekit_protocol::TrackSource::try_from(info.source).unwrap_or_default();
        let recorded = Recorded {
            file: String::new(),
            room: self.room.name().to_owned(),
            identity: publisher.identity.clone(),
            name: publisher.claims.name.clone(),
            source: source.as_str_name().to_ascii_lowercase(),
            track: sid.to_owned(),
            started_at: 0,
            width: info.width,
            height: info.height,
        };
        match self.shared.media.sfu().tap(*track).await {
            Ok(tap) => recording.add(tap, recorded),
            Err(error) => tracing::warn!("{sid} is not recorded: {error}"),
        }
    }
}

// werift: the packets that come are sent back.
import { MediaStreamTrack, RTCPeerConnection, RTCRtpCodecParameters } from 'werift';
import { serve, until, version } from '../common.mjs';
import { w3c } from '../w3c.mjs';

const codecs = {
  audio: [new RTCRtpCodecParameters({ mimeType: 'audio/opus', clockRate: 48000, channels: 2 })],
  video: [new RTCRtpCodecParameters({ mimeType: 'video/VP8', clockRate: 90000, rtcpFeedback: [{ type: 'nack' }, { type: 'nack', parameter: 'pli' }] })],
};
const pc = new RTCPeerConnection({ codecs });
const counts = { audio: 0, video: 0 };
const back = {};

serve('werift', version('werift'), ['data', 'audio', 'video'], w3c(pc, {
  send() {
    for (const kind of ['audio', 'video']) {
      back[kind] = new MediaStreamTrack({ kind });
      pc.addTrack(back[kind]);
    }
  },
  received(track) {
    track.onReceiveRtp.subscribe((rtp) => {
      counts[track.kind]++;
      back[track.kind].writeRtp(rtp.clone?.() ?? rtp);
    });
  },
  media: () => until(counts, 20),
}));

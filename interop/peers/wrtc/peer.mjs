// @roamhq/wrtc: libwebrtc. It encodes a picture that changes and silence, and decodes what comes.
import { createRequire } from 'node:module';
import { serve, until, version } from '../common.mjs';
import { w3c } from '../w3c.mjs';

const require = createRequire(import.meta.url);
const { RTCPeerConnection, MediaStream, nonstandard } = require('@roamhq/wrtc');
const { RTCAudioSink, RTCAudioSource, RTCVideoSink, RTCVideoSource } = nonstandard;

const pc = new RTCPeerConnection();
const counts = { audio: 0, video: 0 };
const [width, height] = [160, 120];
const sinks = [];

serve('@roamhq/wrtc', version('@roamhq/wrtc'), ['data', 'audio', 'video'], w3c(pc, {
  send() {
    const [audio, video] = [new RTCAudioSource(), new RTCVideoSource()];
    const stream = new MediaStream();
    pc.addTrack(audio.createTrack(), stream);
    pc.addTrack(video.createTrack(), stream);
    const samples = new Int16Array(480);
    setInterval(() => audio.onData({ samples, sampleRate: 48000, bitsPerSample: 16, channelCount: 1, numberOfFrames: 480 }), 10);
    let shade = 0;
    setInterval(() => {
      const data = new Uint8ClampedArray(width * height * 3 / 2).fill(shade++ % 256, 0, width * height);
      video.onFrame({ width, height, data });
    }, 50);
  },
  received(track) {
    const sink = track.kind === 'audio' ? new RTCAudioSink(track) : new RTCVideoSink(track);
    // Sound is made up where none comes; a picture is not.
    sink.ondata = () => { counts.audio++; };
    sink.onframe = () => { counts.video++; };
    sinks.push(sink);
  },
  media: () => until(counts, 20),
}));

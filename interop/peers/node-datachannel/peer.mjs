// node-datachannel: libdatachannel. The packets that come are sent back.
import nodeDataChannel from 'node-datachannel';
import { bytes, Inbox, serve, until, version } from '../common.mjs';

const library = nodeDataChannel.getLibraryVersion();
const pc = new nodeDataChannel.PeerConnection('peer', { iceServers: [], maxMessageSize: 262144, disableAutoNegotiation: true });
const inbox = new Inbox();
const counts = { audio: 0, video: 0 };
const tracks = [];
let dc;

const gathered = () => new Promise((done) => {
  const look = () => { if (pc.gatheringState() === 'complete') done(pc.localDescription()); };
  pc.onGatheringStateChange(look);
  look();
});
const follow = (channel) => {
  dc = channel;
  dc.onMessage((data) => inbox.push(data));
  dc.onClosed(() => inbox.end());
};
pc.onDataChannel(follow);

/** A track with the section's id and payload type, ours or those of the offer. */
function addTrack(kind, mid, payloadType) {
  const media = kind === 'audio' ? new nodeDataChannel.Audio(mid, 'SendRecv') : new nodeDataChannel.Video(mid, 'SendRecv');
  if (kind === 'audio') media.addOpusCodec(payloadType);
  else media.addVP8Codec(payloadType);
  const ssrc = kind === 'audio' ? 1000 : 2000;
  media.addSSRC(ssrc, 'peer', 'stream', kind);
  const track = pc.addTrack(media);
  track.onMessage((packet) => {
    // RTP has the version 2 and is no RTCP (RFC 5761 section 4).
    if (packet.length < 12 || packet[0] >> 6 !== 2 || (packet[1] >= 192 && packet[1] < 224)) return;
    counts[kind]++;
    const back = Buffer.from(packet);
    back.writeUInt32BE(ssrc, 8);
    if (track.isOpen()) track.sendMessageBinary(back);
  });
  tracks.push(track);
}

serve('node-datachannel', `${version('node-datachannel')} (libdatachannel ${library})`, ['data', 'audio', 'video'], {
  async offer(wanted) {
    if (wanted.media) {
      addTrack('audio', '0', 111);
      addTrack('video', '1', 96);
    }
    if (wanted.data) follow(pc.createDataChannel('chat'));
    pc.setLocalDescription('offer');
    return gathered();
  },
  async answer({ sdp }) {
    for (const section of sdp.split(/^m=/m).slice(1)) {
      const [kind] = section.split(' ');
      const codec = { audio: /a=rtpmap:(\d+) opus/i, video: /a=rtpmap:(\d+) VP8/i }[kind]?.exec(section);
      if (codec) addTrack(kind, /a=mid:(\S+)/.exec(section)[1], Number(codec[1]));
    }
    pc.setRemoteDescription(sdp, 'offer');
    pc.setLocalDescription('answer');
    return gathered();
  },
  accept({ sdp }) { pc.setRemoteDescription(sdp, 'answer'); },
  async send({ text, size }) {
    while (!dc?.isOpen()) await new Promise((done) => setTimeout(done, 10));
    if (text === undefined) dc.sendMessageBinary(Buffer.from(bytes(size)));
    else dc.sendMessage(text);
  },
  receive: () => inbox.next(),
  media: () => until(counts, 20),
  over: () => inbox.over,
  close() { pc.close(); },
});

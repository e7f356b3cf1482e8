// A peer that has the W3C's names: all but how sound and pictures get in and out.
import { bytes, Inbox } from './common.mjs';

const gathered = (pc) => new Promise((done) => {
  const look = () => { if (pc.iceGatheringState === 'complete') done({ type: pc.localDescription.type, sdp: pc.localDescription.sdp }); };
  pc.onicegatheringstatechange = look;
  pc.onicecandidate = look;
  look();
});

/** `send(pc)` adds tracks of both kinds, `received(track)` looks at one, `media()` waits for what came. */
export function w3c(pc, { send, received, media }) {
  const inbox = new Inbox();
  let dc;
  const follow = (channel) => {
    dc = channel;
    dc.binaryType = 'arraybuffer';
    dc.onmessage = (e) => inbox.push(e.data);
    dc.onclose = () => inbox.end();
  };
  pc.ondatachannel = (e) => follow(e.channel);
  pc.ontrack = (e) => received(e.track, e.transceiver);
  return {
    async offer(wanted) {
      if (wanted.data) follow(pc.createDataChannel('chat'));
      if (wanted.media) await send(pc);
      await pc.setLocalDescription(await pc.createOffer());
      return gathered(pc);
    },
    async answer({ sdp, ...wanted }) {
      await pc.setRemoteDescription({ type: 'offer', sdp });
      if (wanted.media) await send(pc);
      await pc.setLocalDescription(await pc.createAnswer());
      return gathered(pc);
    },
    accept: ({ sdp }) => pc.setRemoteDescription({ type: 'answer', sdp }),
    async send({ text, size }) {
      while (dc?.readyState !== 'open') await new Promise((done) => setTimeout(done, 10));
      await dc.send(text ?? Buffer.from(bytes(size)));
    },
    receive: () => inbox.next(),
    media,
    over: () => inbox.over,
    close: () => pc.close(),
  };
}

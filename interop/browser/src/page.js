// What the tests do in a page, each by its name: a connection `pc`, things to send, and what came of
// what was received.
'use strict';

globalThis.pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

globalThis.begin = (configuration) => {
  globalThis.pc = new RTCPeerConnection(configuration);
  globalThis.trickled = [];
  pc.onicecandidate = (e) => e.candidate && trickled.push(e.candidate.candidate);
  pc.ondatachannel = (e) => follow(e.channel);
  pc.ontrack = (e) => play(e.track);
};

// Messages of the channel that was followed last, and a promise for its opening.
globalThis.got = [];
globalThis.follow = (dc) => {
  globalThis.dc = dc;
  dc.binaryType = 'arraybuffer';
  globalThis.opened = new Promise((done) => { dc.onopen = done; if (dc.readyState === 'open') done(); });
  globalThis.over = new Promise((done) => { dc.onclose = () => done(true); });
  dc.onmessage = (e) => {
    got.push(typeof e.data === 'string' ? e.data : [...new Uint8Array(e.data)]);
    globalThis.arrived?.();
  };
};
globalThis.messages = async (count) => {
  while (got.length < count) await new Promise((done) => { globalThis.arrived = done; });
  return got;
};

// A picture that moves, and a tone.
globalThis.picture = (width = 320, height = 240) => {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [width, height];
  document.body.append(canvas);
  const context = canvas.getContext('2d');
  let count = 0;
  setInterval(() => {
    context.fillStyle = `hsl(${count * 5 % 360} 80% 50%)`;
    context.fillRect(0, 0, width, height);
    context.fillStyle = 'white';
    context.fillRect(count * 3 % width, height / 3, width / 8, height / 3);
    count++;
  }, 33);
  return canvas.captureStream(30).getVideoTracks()[0];
};
// A picture that costs an encoder all the bits it may use.
globalThis.noise = (width, height) => {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [width, height];
  document.body.append(canvas);
  const context = canvas.getContext('2d');
  setInterval(() => {
    for (let x = 0; x < width; x += 16) {
      for (let y = 0; y < height; y += 16) {
        context.fillStyle = `rgb(${Math.random() * 255} ${Math.random() * 255} ${Math.random() * 255})`;
        context.fillRect(x, y, 16, 16);
      }
    }
  }, 66);
  return canvas.captureStream(15).getVideoTracks()[0];
};
globalThis.tone = () => {
  const context = new AudioContext();
  const oscillator = context.createOscillator();
  const destination = context.createMediaStreamDestination();
  oscillator.connect(destination);
  oscillator.start();
  context.resume();
  return destination.stream.getAudioTracks()[0];
};
globalThis.media = (kind) => (kind === 'video' ? picture() : tone());

globalThis.play = (track) => {
  const element = document.createElement(track.kind);
  element.srcObject = new MediaStream([track]);
  element.muted = true;
  element.autoplay = true;
  document.body.append(element);
  element.play?.().catch(() => {});
};

// The local description with its candidates.
globalThis.gathered = () => new Promise((done) => {
  const look = () => { if (pc.iceGatheringState === 'complete') done(pc.localDescription.toJSON()); };
  pc.addEventListener('icegatheringstatechange', look);
  look();
});
globalThis.offer = async (options) => {
  await pc.setLocalDescription(options ? await pc.createOffer(options) : undefined);
  return gathered();
};
// With `back`, what was offered to be received is sent.
globalThis.answer = async (offer, back) => {
  await pc.setRemoteDescription(offer);
  for (const transceiver of back ? pc.getTransceivers() : []) {
    if (transceiver.sender.track || transceiver.currentDirection === 'stopped') continue;
    transceiver.direction = 'sendrecv';
    await transceiver.sender.replaceTrack(media(transceiver.receiver.track.kind));
  }
  await pc.setLocalDescription();
  return gathered();
};

globalThis.stats = async (type, kind) => [...(await pc.getStats()).values()]
  .filter((r) => r.type === type && (!kind || r.kind === kind));
// What was received: the newest stream of each kind.
globalThis.report = async () => {
  const last = async (kind) => (await stats('inbound-rtp', kind)).at(-1) ?? {};
  const [video, audio] = [await last('video'), await last('audio')];
  const codecs = await stats('codec');
  return {
    decoded: video.framesDecoded ?? 0,
    width: video.frameWidth ?? 0,
    lost: video.packetsLost ?? 0,
    nacks: video.nackCount ?? 0,
    plis: video.pliCount ?? 0,
    codec: codecs.find((r) => r.id === video.codecId)?.mimeType ?? '',
    sound: audio.packetsReceived ?? 0,
    energy: audio.totalAudioEnergy ?? 0,
    state: pc.connectionState,
  };
};
// Waits for so many more decoded pictures and received packets of sound; answers the report anyway.
globalThis.until = async (decoded, sound) => {
  const before = await report();
  let now = before;
  for (let i = 0; i < 250; i++) {
    now = await report();
    if (now.decoded >= before.decoded + decoded && now.sound >= before.sound + sound) break;
    await pause(100);
  }
  return { ...now, decoded: now.decoded - before.decoded, sound: now.sound - before.sound };
};
// How bright the received picture is, and how much it changes.
globalThis.look = async () => {
  const video = [...document.querySelectorAll('video')].at(-1);
  const context = new OffscreenCanvas(16, 16).getContext('2d', { willReadFrequently: true });
  const pixels = () => {
    context.drawImage(video, 0, 0, 16, 16);
    return context.getImageData(0, 0, 16, 16).data;
  };
  const one = pixels();
  let [brightest, change] = [0, 0];
  for (let i = 0; i < 100 && change < 32; i++) {
    await pause(100);
    const two = pixels();
    for (let at = 0; at < one.length; at++) {
      if (at % 4 === 3) continue;
      brightest = Math.max(brightest, two[at]);
      change = Math.max(change, Math.abs(one[at] - two[at]));
    }
  }
  return { brightest, change };
};
// Whether the browser can send and receive a codec.
globalThis.has = (kind, mime) => [RTCRtpSender, RTCRtpReceiver].every((it) =>
  it.getCapabilities(kind).codecs.some((c) => c.mimeType.toLowerCase() === mime.toLowerCase()));

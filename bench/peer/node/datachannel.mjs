// One end of `cargo xtask bench datachannel` with libdatachannel: see src/end.rs for what it says.
import nodeDataChannel from 'node-datachannel';
import readline from 'node:readline';

const [role, message, total, ordered] = process.argv.slice(2);
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const hear = async () => (await lines.next()).value;
const seconds = () => {
  const used = process.cpuUsage();
  return (used.user + used.system) / 1e6;
};

console.log('ready');
const offer = role === 'send' ? await hear() && null : JSON.parse(await hear());
// What nothing names is collected, and closed by that.
const kept = (globalThis.kept = []);
const pc = new nodeDataChannel.PeerConnection(role, {
  iceServers: [],
  bindAddress: '127.0.0.1',
  maxMessageSize: 262144,
});
kept.push(pc);
const described = new Promise((resolve) => {
  pc.onGatheringStateChange((state) => {
    if (state === 'complete') resolve(pc.localDescription().sdp);
  });
});

if (role === 'send') {
  const channel = pc.createDataChannel('load', { unordered: ordered !== 'true' });
  kept.push(channel);
  console.log(JSON.stringify(await described));
  pc.setRemoteDescription(JSON.parse(await hear()), 'answer');
  await new Promise((resolve) => channel.onOpen(resolve));
  const before = seconds();
  console.log('begin');
  const bytes = Buffer.alloc(Number(message), 7);
  let left = Math.floor(Number(total) / Number(message));
  channel.setBufferedAmountLowThreshold(1 << 20);
  const send = () => {
    while (left > 0 && channel.bufferedAmount() < 4 << 20) {
      channel.sendMessageBinary(bytes);
      left -= 1;
    }
  };
  channel.onBufferedAmountLow(send);
  send();
  await hear();
  console.log(seconds() - before);
} else {
  let received = 0;
  let before = 0;
  pc.onDataChannel((channel) => {
    kept.push(channel);
    before = seconds();
    if (Number(total) === 0) console.log(0);
    channel.onMessage((data) => {
      received += data.length;
      if (received >= Number(total)) console.log(seconds() - before);
    });
  });
  pc.setRemoteDescription(offer, 'offer');
  console.log(JSON.stringify(await described));
}

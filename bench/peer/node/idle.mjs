// `cargo xtask bench idle` with libdatachannel: PAIRS pairs of connections over loopback sockets, one
// channel each. Real time: says its figures as one line of JSON.
import nodeDataChannel from 'node-datachannel';
import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const pairs = Number(process.argv[2]);
const idle = 10;
/** Milliseconds after which a pair that is not open never will be. */
const patience = 20_000;
const seconds = () => {
  const used = process.cpuUsage();
  return (used.user + used.system) / 1e6;
};
const resident = () => Number(fs.readFileSync('/proc/self/statm', 'utf8').split(' ')[1]) * 4096;

// What nothing names is collected, and closed by that.
const kept = (globalThis.kept = []);
const connect = async (number) => {
  const [a, b] = ['a', 'b'].map(
    (name) =>
      new nodeDataChannel.PeerConnection(`${name}${number}`, {
        iceServers: [],
        bindAddress: '127.0.0.1',
      }),
  );
  kept.push(a, b);
  const described = (pc) =>
    new Promise((resolve) => {
      pc.onGatheringStateChange((state) => {
        if (state === 'complete') resolve(pc.localDescription().sdp);
      });
    });
  const [offer, answer] = [described(a), described(b)];
  const channel = a.createDataChannel('idle');
  kept.push(channel);
  const open = new Promise((resolve) => channel.onOpen(resolve));
  b.setRemoteDescription(await offer, 'offer');
  a.setRemoteDescription(await answer, 'answer');
  await open;
};

const opened = async (number) => {
  const late = setTimeout(() => {
    console.error(`pair ${number} did not open within ${patience / 1000} s`);
    process.exit(1);
  }, patience);
  await connect(number);
  clearTimeout(late);
};

await opened(0);
await sleep(1000);
const [memory, cpu] = [resident(), seconds()];
for (let number = 1; number <= pairs; number += 1) await opened(number);
const setup = ((seconds() - cpu) * 1000) / pairs;
await sleep(5000);
const before = seconds();
await sleep(idle * 1000);
const spent = seconds() - before;
console.log(
  JSON.stringify({
    kib: (resident() - memory) / 1024 / (2 * pairs),
    setup,
    idle: (spent * 1e6) / (2 * pairs) / idle,
  }),
);
process.exit(0);

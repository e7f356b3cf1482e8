// From a correspondent at the rendezvous to a data channel whose other end has the link too.
import type { Correspondent } from './rendezvous';
import { Exchange, WrongLink, type Link, type Seal } from './seal';

const PATIENCE = 45_000;

interface Signal {
  description?: RTCSessionDescriptionInit;
  candidate?: RTCIceCandidateInit | null;
}

export interface Paired {
  connection: RTCPeerConnection;
  channel: RTCDataChannel;
}

export async function asGuest(host: Correspondent, iceServers: RTCIceServer[], link: Link): Promise<Paired> {
  const exchange = new Exchange('guest', link);
  host.send({ version: 1, by: 'link', share: exchange.share() });
  const answer = (await host.receive()) as { share?: string } | undefined;
  if (!answer?.share) throw new Error('The other side left.');
  const seal = await exchange.finish(answer.share);
  const connection = new RTCPeerConnection({ iceServers });
  const channel = new Promise<RTCDataChannel>((resolve) => (connection.ondatachannel = (event) => resolve(event.channel)));
  return connect(connection, channel, host, seal);
}

export async function asHost(guest: Correspondent, iceServers: RTCIceServer[], link: Link): Promise<Paired> {
  const hello = (await guest.receive()) as { version?: number; by?: string; share?: string } | undefined;
  if (!hello) throw new Error('The other side left.');
  const exchange = new Exchange('host', link);
  guest.send({ share: exchange.share() });
  // Codes of words are for programs: a browser gives out links only.
  if (hello.version !== 1 || hello.by !== 'link' || !hello.share) {
    guest.send({ wrong: true });
    throw new WrongLink();
  }
  const seal = await exchange.finish(hello.share);
  const connection = new RTCPeerConnection({ iceServers });
  const channel = connection.createDataChannel('transfer');
  return connect(connection, Promise.resolve(channel), guest, seal, true);
}

async function connect(connection: RTCPeerConnection, channel: Promise<RTCDataChannel>, peer: Correspondent, seal: Seal, offers = false): Promise<Paired> {
  // Sealed messages are numbered, so they leave in the order in which they were made.
  let last = Promise.resolve();
  const say = (signal: Signal) => {
    last = last.then(async () => peer.send({ sealed: await seal.seal(signal) }));
  };
  const describe = async () => {
    await connection.setLocalDescription();
    const { type, sdp } = connection.localDescription!;
    say({ description: { type, sdp } });
  };
  connection.onicecandidate = ({ candidate }) => say({ candidate: candidate?.toJSON() ?? null });
  const listen = async () => {
    for (;;) {
      const message = (await peer.receive()) as { sealed?: string; wrong?: boolean } | undefined;
      if (!message) return;
      if (message.wrong) throw new WrongLink();
      const signal = await seal.open(message.sealed ?? '').catch((error: unknown) => {
        peer.send({ wrong: true });
        throw error;
      }) as Signal;
      if (signal.description) {
        await connection.setRemoteDescription(signal.description);
        if (signal.description.type === 'offer') await describe();
      } else if (signal.candidate) {
        await connection.addIceCandidate(signal.candidate).catch(() => undefined);
      }
    }
  };
  let timer: ReturnType<typeof setTimeout> | undefined;
  const failed = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('The other side does not answer.')), PATIENCE);
    connection.onconnectionstatechange = () => {
      if (connection.connectionState === 'failed') reject(new Error('No way was found between the two sides.'));
    };
    listen().catch(reject);
  });
  const opened = async () => {
    if (offers) await describe();
    const open = await channel;
    open.binaryType = 'arraybuffer';
    if (open.readyState !== 'open') await new Promise<void>((resolve) => (open.onopen = () => resolve()));
    return { connection, channel: open };
  };
  try {
    return await Promise.race([opened(), failed]);
  } catch (error) {
    connection.close();
    throw error;
  } finally {
    clearTimeout(timer);
    peer.leave();
  }
}

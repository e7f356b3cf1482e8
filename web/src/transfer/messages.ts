// What is said on the channel: the table is in crates/cli/README.md.
import { Queue } from './rendezvous';

export interface Entry {
  path: string;
  size?: number;
  directory?: boolean;
  executable?: boolean;
}

export type Message =
  | { type: 'offer'; version: number; entries: number; bytes: number | null }
  | { type: 'entries'; entries: Entry[] }
  | { type: 'have'; entry: number; bytes: number; digest: string }
  | { type: 'accept' }
  | { type: 'decline'; reason: string }
  | { type: 'begin'; entry: number; offset: number }
  | { type: 'end'; entry: number; bytes: number; digest: string }
  | { type: 'unreadable'; entry: number; reason: string }
  | { type: 'progress'; bytes: number }
  | { type: 'verified'; entry: number }
  | { type: 'done' }
  | { type: 'failed'; reason: string };

export const MESSAGE = 64 << 10;
export const MAX_ENTRIES = 10_000;
const HIGH = 1 << 20;

export class Lost extends Error {
  constructor() {
    super('The connection was lost.');
  }
}

/** A channel with its messages in a row, and back-pressure. */
export class Conversation {
  private inbox = new Queue<Message | ArrayBuffer>();

  constructor(readonly channel: RTCDataChannel, connection: RTCPeerConnection) {
    channel.onmessage = ({ data }) => this.inbox.push(typeof data === 'string' ? (JSON.parse(data) as Message) : (data as ArrayBuffer));
    channel.onclose = channel.onerror = () => this.inbox.close();
    let gone: ReturnType<typeof setTimeout> | undefined;
    connection.onconnectionstatechange = () => {
      clearTimeout(gone);
      const state = connection.connectionState;
      if (state === 'failed' || state === 'closed') this.close(connection);
      if (state === 'disconnected') gone = setTimeout(() => this.close(connection), 12_000);
    };
  }

  private close(connection: RTCPeerConnection): void {
    this.inbox.close();
    connection.close();
  }

  async receive(): Promise<Message | ArrayBuffer> {
    const message = await this.inbox.next();
    if (message === undefined) throw new Lost();
    return message;
  }

  say(message: Message): void {
    if (this.channel.readyState !== 'open') throw new Lost();
    this.channel.send(JSON.stringify(message));
  }

  async data(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    if (this.channel.readyState !== 'open') throw new Lost();
    this.channel.send(bytes);
    if (this.channel.bufferedAmount < HIGH) return;
    this.channel.bufferedAmountLowThreshold = HIGH / 2;
    await new Promise<void>((resolve) => {
      const go = () => {
        this.channel.removeEventListener('bufferedamountlow', go);
        this.channel.removeEventListener('close', go);
        resolve();
      };
      this.channel.addEventListener('bufferedamountlow', go);
      this.channel.addEventListener('close', go);
    });
  }

  /** Waits until everything has left. */
  async drained(): Promise<void> {
    while (this.channel.bufferedAmount > 0 && this.channel.readyState === 'open') {
      this.channel.bufferedAmountLowThreshold = 0;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

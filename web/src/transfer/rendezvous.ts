// The WebSocket by which two ends that share a link find each other. The server reads nothing of what passes.

export class Refused extends Error {
  constructor(readonly code: string, message: string) {
    super(message);
  }
}

/** One peer at the rendezvous. */
export interface Correspondent {
  send(message: unknown): void;
  /** The next message; undefined when the peer or the server is gone. */
  receive(): Promise<unknown>;
  leave(): void;
}

/** Values that come before somebody waits for them, and somebody who waits before they come. */
export class Queue<T> {
  private values: T[] = [];
  private waiting: ((value: T | undefined) => void)[] = [];
  private closed = false;

  push(value: T): void {
    const next = this.waiting.shift();
    if (next) next(value);
    else if (!this.closed) this.values.push(value);
  }

  close(): void {
    this.closed = true;
    for (const next of this.waiting.splice(0)) next(undefined);
  }

  next(): Promise<T | undefined> {
    if (this.values.length > 0) return Promise.resolve(this.values.shift());
    if (this.closed) return Promise.resolve(undefined);
    return new Promise((resolve) => this.waiting.push(resolve));
  }
}

interface FromServer {
  type: 'slot' | 'joined' | 'guest' | 'message' | 'left' | 'error';
  slot?: string;
  ice_servers?: RTCIceServer[];
  guest?: number;
  message?: unknown;
  code?: string;
}

function open(query: string): Promise<{ socket: WebSocket; welcome: FromServer }> {
  const address = new URL(`/api/rendezvous?${query}`, location.href);
  address.protocol = address.protocol.replace('http', 'ws');
  const socket = new WebSocket(address);
  return new Promise((resolve, reject) => {
    socket.onerror = socket.onclose = () => reject(new Refused('unreachable', 'The server cannot be reached.'));
    socket.onmessage = ({ data }) => {
      const welcome = JSON.parse(data as string) as FromServer;
      if (welcome.type === 'error') reject(new Refused(welcome.code ?? '', String(welcome.message)));
      else resolve({ socket, welcome });
    };
  });
}

/** Joins the slot of a link. */
export async function join(slot: string): Promise<{ host: Correspondent; iceServers: RTCIceServer[] }> {
  const { socket, welcome } = await open(`slot=${encodeURIComponent(slot)}`);
  const inbox = new Queue<unknown>();
  socket.onmessage = ({ data }) => {
    const said = JSON.parse(data as string) as FromServer;
    if (said.type === 'message') inbox.push(said.message);
    else if (said.type === 'left') inbox.close();
  };
  socket.onclose = socket.onerror = () => inbox.close();
  const host = {
    send: (message: unknown) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify({ message })),
    receive: () => inbox.next(),
    leave: () => socket.close(),
  };
  return { host, iceServers: welcome.ice_servers ?? [] };
}

/** A slot that this page holds, for as long as it is open. */
export class Host {
  private guests = new Map<number, Queue<unknown>>();
  private arrivals = new Queue<Correspondent>();

  private constructor(private socket: WebSocket, readonly slot: string, readonly iceServers: RTCIceServer[]) {
    socket.onmessage = ({ data }) => this.hear(JSON.parse(data as string) as FromServer);
    socket.onclose = socket.onerror = () => {
      for (const inbox of this.guests.values()) inbox.close();
      this.arrivals.close();
    };
  }

  /** Takes a slot: a free one, or the one that was held before with the same key. */
  static async open(key: string, slot?: string): Promise<Host> {
    const { socket, welcome } = await open(slot ? `host=${key}&slot=${slot}` : `host=${key}`);
    return new Host(socket, welcome.slot ?? '', welcome.ice_servers ?? []);
  }

  /** The next guest; undefined when the server is gone. */
  next(): Promise<Correspondent | undefined> {
    return this.arrivals.next();
  }

  close(): void {
    this.socket.close();
  }

  private hear(said: FromServer): void {
    const guest = said.guest ?? 0;
    if (said.type === 'message') this.guests.get(guest)?.push(said.message);
    if (said.type === 'left') this.guests.get(guest)?.close();
    if (said.type !== 'guest') return;
    const inbox = new Queue<unknown>();
    this.guests.set(guest, inbox);
    const say = (what: object) => this.socket.readyState === WebSocket.OPEN && this.socket.send(JSON.stringify(what));
    this.arrivals.push({
      send: (message) => say({ to: guest, message }),
      receive: () => inbox.next(),
      leave: () => {
        this.guests.delete(guest);
        say({ drop: guest });
      },
    });
  }
}

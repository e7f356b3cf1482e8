// Who is shown as being in the meeting. What the SDK's room holds decides: after a reconnection it may tell late that somebody left who is
// back already, and not at all that somebody came.
import { batch, signal } from '@preact/signals';
import type { Participant } from 'livekit-client';
import { Peer } from './peer';

export class Roster {
  /** Everybody but oneself, in the order in which they came. */
  readonly others = signal<Peer[]>([]);
  private readonly peers = new Map<string, Peer>();

  /**
   * @param there The participants that the room holds, by identity.
   * @param met Hears of each participant that is shown from now on.
   */
  constructor(private readonly there: ReadonlyMap<string, Participant>, private readonly met: (peer: Peer) => void) {}

  get(identity: string): Peer | undefined {
    return this.peers.get(identity);
  }

  /** Somebody came, or does something: reads them anew. */
  refresh(participant: Participant): Peer | undefined {
    const known = this.peers.get(participant.identity);
    if (this.there.get(participant.identity) !== participant || known?.participant === participant) {
      known?.refresh();
      return known;
    }
    const peer = new Peer(participant);
    this.peers.set(peer.identity, peer);
    this.others.value = [...this.others.value.filter((other) => other !== known), peer];
    this.met(peer);
    return peer;
  }

  /** Somebody left: false if they are back. */
  leave(participant: Participant): boolean {
    const back = this.there.get(participant.identity);
    if (back && back !== participant) {
      this.refresh(back);
      return false;
    }
    this.peers.delete(participant.identity);
    this.others.value = this.others.value.filter((peer) => peer.identity !== participant.identity);
    return true;
  }

  /** Shows whoever is there, and nobody else. */
  sync(): void {
    batch(() => {
      for (const { participant } of this.others.value) if (!this.there.has(participant.identity)) this.leave(participant);
      for (const participant of this.there.values()) this.refresh(participant);
    });
  }
}

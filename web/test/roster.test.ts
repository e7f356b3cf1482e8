import type { Participant } from 'livekit-client';
import { describe, expect, it } from 'vitest';
import { Roster } from '../src/meeting/roster';

function participant(identity: string, name = identity): Participant {
  return { identity, name, isLocal: false, attributes: {}, trackPublications: new Map(), connectionQuality: 'unknown', getTrackPublication: () => undefined } as unknown as Participant;
}

function meeting(...participants: Participant[]) {
  const there = new Map(participants.map((participant) => [participant.identity, participant]));
  const met: string[] = [];
  const roster = new Roster(there, (peer) => met.push(peer.name.value));
  return { there, met, roster, shown: () => roster.others.value.map((peer) => peer.name.value) };
}

describe('roster', () => {
  it('shows who comes, in that order, and not who leaves', () => {
    const [ada, bob] = [participant('ada'), participant('bob')];
    const { there, met, roster, shown } = meeting(ada, bob);
    for (const participant of [ada, bob, ada]) roster.refresh(participant);
    expect(shown()).toEqual(['ada', 'bob']);
    expect(met).toEqual(['ada', 'bob']);
    there.delete('ada');
    expect(roster.leave(ada)).toBe(true);
    expect(shown()).toEqual(['bob']);
    expect(roster.get('ada')).toBeUndefined();
  });

  it('shows who is back, though it is told later that they left', () => {
    const before = participant('ada', 'Ada before');
    const { there, roster, shown } = meeting(before);
    roster.refresh(before);
    there.set('ada', participant('ada', 'Ada again'));
    expect(roster.leave(before)).toBe(false);
    expect(shown()).toEqual(['Ada again']);
    // And in the other order.
    expect(roster.leave(before)).toBe(false);
    expect(shown()).toEqual(['Ada again']);
  });

  it('shows who does something, though nobody told that they came', () => {
    const ada = participant('ada');
    const { there, roster, shown } = meeting(ada);
    roster.refresh(ada);
    expect(shown()).toEqual(['ada']);
    // What is said late of somebody who has left brings nobody back.
    there.delete('ada');
    roster.leave(ada);
    expect(roster.refresh(ada)).toBeUndefined();
    expect(shown()).toEqual([]);
  });

  it('shows after a reconnection whoever is there', () => {
    const [ada, bob, eve] = [participant('ada'), participant('bob'), participant('eve')];
    const { there, roster, shown } = meeting(ada, bob);
    roster.sync();
    there.delete('ada');
    there.set('bob', participant('bob', 'Bob again'));
    there.set('eve', eve);
    roster.sync();
    expect(shown()).toEqual(['Bob again', 'eve']);
    expect(roster.get('ada')).toBeUndefined();
  });
});

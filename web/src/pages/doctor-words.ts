// What the tests of the connection found, in words. Pure.
import type { Severity } from '../meeting/diagnosis';
import { list } from '../lib/words';

export interface Finding {
  severity: Severity;
  /** A number or a name for the right side. */
  fact: string;
  words: string;
  /** Single facts, for those who know. */
  details?: string[];
}

export interface Gathered {
  type: string;
  protocol: string;
  address: string;
  port: number;
  relayProtocol?: string | undefined;
  relatedPort?: number | null | undefined;
  tcpType?: string | null | undefined;
}

const isIpv6 = (address: string) => address.includes(':');
const isMdns = (address: string) => address.endsWith('.local');

/** One candidate on one line. Some browsers write IPv6 addresses in brackets already. */
export function describe(candidate: Gathered): string {
  const address = isIpv6(candidate.address) ? `[${candidate.address.replace(/[[\]]/g, '')}]` : candidate.address;
  const via = candidate.relayProtocol ? ` via ${candidate.relayProtocol}` : '';
  return `${candidate.type}${via} ${candidate.protocol} ${address}:${candidate.port}`;
}

/** What the browser's own addresses tell. */
export function explainHosts(gathered: Gathered[]): Finding {
  const hosts = gathered.filter((candidate) => candidate.type === 'host' && candidate.protocol === 'udp');
  const details = gathered.filter((candidate) => candidate.type === 'host').map(describe);
  if (hosts.length === 0) {
    return { severity: 'bad', fact: 'none', details, words: 'The browser offers no address of its own for UDP. A policy, an extension or a VPN that hides addresses may forbid it.' };
  }
  if (hosts.every((host) => isMdns(host.address))) {
    return {
      severity: 'note', fact: 'hidden', details,
      words: 'The browser hides its own addresses behind names that only the local network can resolve (mDNS), until the camera or the microphone is allowed. Connections to the server work all the same.',
    };
  }
  const kinds = [hosts.some((host) => !isIpv6(host.address) && !isMdns(host.address)) && 'IPv4', hosts.some((host) => isIpv6(host.address)) && 'IPv6'].filter((kind) => !!kind);
  return { severity: 'good', fact: kinds.join(' and '), details, words: `The browser offers its own ${list(kinds as string[])} ${hosts.length === 1 ? 'address' : 'addresses'}.` };
}

export function explainIpv6(gathered: Gathered[], path: string | undefined): Finding {
  const global = gathered.filter((candidate) => isIpv6(candidate.address) && !/^\[?(fe80|::1)/i.test(candidate.address));
  const hidden = gathered.some((candidate) => isMdns(candidate.address));
  if (path && isIpv6(path)) return { severity: 'good', fact: 'in use', words: 'The connection to the server runs over IPv6.' };
  if (global.length > 0) return { severity: 'good', fact: 'there', words: 'This network has IPv6; the connection found IPv4 as good.' };
  if (hidden) return { severity: 'note', fact: 'unknown', words: 'The browser does not tell before a device is allowed.' };
  return { severity: 'note', fact: 'none', words: 'This network has no IPv6. Nothing is wrong: IPv4 is enough.' };
}

/** What STUN found: the public address, and what kind of NAT is in between. */
export function explainStun(gathered: Gathered[], servers: number): Finding {
  const reflexive = gathered.filter((candidate) => candidate.type === 'srflx');
  const details = reflexive.map(describe);
  if (servers === 0) return { severity: 'note', fact: 'not offered', words: 'The server names no STUN service. It is needed only between browsers, not for meetings.' };
  if (reflexive.length === 0) {
    const open = gathered.some((candidate) => candidate.type === 'host' && !isMdns(candidate.address));
    return open
      ? { severity: 'note', fact: 'no change', details, words: 'STUN sees the same address as the browser, or did not answer: there is no NAT on the way, or UDP is blocked. The next tests tell which.' }
      : { severity: 'warn', fact: 'no answer', details, words: 'STUN does not answer: UDP is probably blocked on the way to the server.' };
  }
  const byPort = new Map<number, Set<number>>();
  for (const candidate of reflexive) {
    const ports = byPort.get(candidate.relatedPort ?? 0) ?? new Set();
    byPort.set(candidate.relatedPort ?? 0, ports.add(candidate.port));
  }
  if ([...byPort.values()].some((ports) => ports.size > 1)) {
    return { severity: 'note', fact: 'address-dependent', details, words: 'The NAT uses another port for each destination. Meetings work; calls from browser to browser need a relay.' };
  }
  return { severity: 'good', fact: reflexive[0]!.address, details, words: 'UDP gets out, and STUN tells the address that the world sees.' };
}

export function explainRelay(gathered: Gathered[], offered: boolean): Finding {
  const relays = gathered.filter((candidate) => candidate.type === 'relay');
  const details = relays.map(describe);
  if (!offered) return { severity: 'note', fact: 'not offered', words: 'The server names no relay (TURN). Networks that block UDP and unknown TCP ports cannot join then.' };
  if (relays.length === 0) return { severity: 'warn', fact: 'unreachable', details, words: 'The relay did not answer by any way. It is the last resort of restrictive networks, so the direct ways must work.' };
  const ways = [...new Set(relays.map((relay) => (relay.relayProtocol ?? 'udp').toUpperCase()))];
  return { severity: 'good', fact: ways.join(', '), details, words: `The relay can be reached by ${list(ways)}, for the case that no direct way works.` };
}

/** The words at the top. */
export function verdict(checks: { name: string; severity: Severity }[], connected: boolean): { severity: Severity; title: string; text: string } {
  if (!connected) {
    return {
      severity: 'bad', title: 'Meetings will not work from here',
      text: 'No way for sound and picture to the server was found. The lines below say what was tried; another network (a phone’s hotspot) is the quickest comparison.',
    };
  }
  const bad = checks.filter((check) => check.severity === 'bad').map((check) => check.name.toLowerCase());
  const warn = checks.filter((check) => check.severity === 'warn').map((check) => check.name.toLowerCase());
  if (bad.length > 0) return { severity: 'bad', title: 'Something needs attention', text: `Look at ${list(bad)} below.` };
  if (warn.length > 0) return { severity: 'warn', title: 'Meetings work, with something to better', text: `Look at ${list(warn)} below.` };
  return { severity: 'good', title: 'Everything works', text: 'You can meet from here: sound, picture and data reach the server and come back.' };
}

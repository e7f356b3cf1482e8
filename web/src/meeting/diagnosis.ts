// Why a connection is as it is, in plain words. Pure: what the statistics say in, sentences out.
import { bitrate, list, milliseconds, percent } from '../lib/words';
import type { ConnectionReport, End } from './stats';

export type Severity = 'good' | 'note' | 'warn' | 'bad';

export interface Finding {
  severity: Severity;
  text: string;
  /** What to do about it, where there is something to do. */
  advice?: string;
}

export type PathKind = 'direct-udp' | 'direct-tcp' | 'relay-udp' | 'relay-tcp' | 'none';

export function pathKind(local: End | undefined, remote: End | undefined): PathKind {
  if (!local || !remote) return 'none';
  if (local.type === 'relay' || remote.type === 'relay') {
    return local.type === 'relay' && /tcp|tls/i.test(local.relayProtocol ?? '') ? 'relay-tcp' : 'relay-udp';
  }
  return local.protocol === 'tcp' ? 'direct-tcp' : 'direct-udp';
}

/** The path in a few words, for a heading. */
export function pathName(report: ConnectionReport): string {
  const family = report.local?.address?.includes(':') || report.remote?.address?.includes(':') ? 'IPv6' : 'IPv4';
  switch (pathKind(report.local, report.remote)) {
    case 'direct-udp': return `Direct, UDP over ${family}`;
    case 'direct-tcp': return `Direct, TCP over ${family}`;
    case 'relay-udp': return 'Relayed, UDP';
    case 'relay-tcp': return `Relayed, ${report.local?.relayProtocol?.toUpperCase() ?? 'TCP'}`;
    case 'none': return 'No path yet';
  }
}

/** What is true of a connection, worst first. Never empty. */
export function diagnose(report: ConnectionReport): Finding[] {
  const found: Finding[] = [];
  const say = (severity: Severity, text: string, advice?: string) =>
    found.push(advice === undefined ? { severity, text } : { severity, text, advice });

  const path = pathKind(report.local, report.remote);
  if (report.state === 'failed') {
    say('bad', 'The connection failed: no packets arrive any more.', 'Check that you are online. The page keeps trying by itself; if that does not help, reload it.');
  } else if (path === 'none') {
    say('warn', 'No path to the server has been found yet.', 'If this lasts, a firewall may block UDP and TCP to the server: open the connection test to see which.');
  }
  if (path === 'direct-tcp') {
    say('warn', 'Media goes over TCP, because UDP does not get through here. A lost packet then holds up everything behind it.',
      'Ask for UDP to the server to be allowed, or use another network.');
  }
  if (path === 'relay-udp') {
    say('note', 'Media takes the way round over a relay, because a direct path did not work. It adds a little delay.');
  }
  if (path === 'relay-tcp') {
    say('warn', 'Media is relayed over TCP or TLS: only web traffic gets out of this network. Calls work, but stutter where packets are lost.',
      'Ask for UDP to be allowed, or use another network.');
  }

  const { roundTrip } = report;
  if (roundTrip !== undefined && roundTrip > 300) {
    say('bad', `Each word takes long to arrive: the round trip is ${milliseconds(roundTrip)}.`,
      'Stop downloads and backups, move closer to the Wi-Fi, or turn off a VPN.');
  } else if (roundTrip !== undefined && roundTrip > 150) {
    say('warn', `The round trip of ${milliseconds(roundTrip)} is noticeable in a conversation.`, 'A VPN or a far server adds delay.');
  }

  const lossy = (share: number, from: string, advice: string) => {
    if (share > 0.08) say('bad', `${percent(share)} of the packets ${from} are lost: expect gaps and frozen pictures.`, advice);
    else if (share > 0.02) say('warn', `${percent(share)} of the packets ${from} are lost. Most are sent again in time.`, advice);
  };
  lossy(report.receivedLoss, 'on the way to you', 'A cable instead of Wi-Fi helps most. Closing other downloads helps too.');
  lossy(report.sentLoss, 'from you to the server', 'A cable instead of Wi-Fi helps most. Stopping uploads and backups helps too.');

  const cameras = report.sent.filter((stream) => stream.kind === 'video');
  const cpu = cameras.find((stream) => stream.limitation === 'cpu');
  const narrow = cameras.find((stream) => stream.limitation === 'bandwidth');
  if (cpu) {
    say('warn', `Your computer is too busy to encode more than ${cpu.height ? `${cpu.height}p` : 'a small picture'}.`,
      'Close other programs and tabs, or plug the charger in.');
  }
  if (narrow) {
    const room = report.available ? ` (about ${bitrate(report.available)})` : '';
    say('warn', `Your connection has too little room upwards${room} for a better picture of you.`, 'Stop uploads, or turn your camera off to keep the sound clear.');
  }

  const frozen = report.received.filter((stream) => stream.kind === 'video' && stream.freezes > 0).length;
  if (frozen > 0) say('warn', `${frozen === 1 ? 'A picture' : `${frozen} pictures`} froze in the last seconds.`);
  const gaps = Math.max(0, ...report.received.filter((stream) => stream.kind === 'audio').map((stream) => stream.concealed));
  if (gaps > 0.05) say('warn', `${percent(gaps)} of the sound did not arrive in time and was made up.`);
  const jitter = Math.max(0, ...report.received.map((stream) => stream.jitter));
  if (jitter > 40) say('warn', `Packets arrive unevenly (a jitter of ${milliseconds(jitter)}), so sound waits longer before it is played.`, 'Wi-Fi shared by many does this: a cable helps.');

  if (!found.some((finding) => finding.severity === 'warn' || finding.severity === 'bad')) {
    const facts = [];
    if (path === 'direct-udp') facts.push('packets take the direct way over UDP');
    if (roundTrip !== undefined) facts.push(`the round trip is ${milliseconds(roundTrip)}`);
    if (report.received.length + report.sent.length > 0) facts.push('nothing noticeable is lost');
    say('good', facts.length > 0 ? `All is well: ${list(facts)}.` : 'All is well.');
  }
  const order: Severity[] = ['bad', 'warn', 'note', 'good'];
  return found.sort((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity));
}

import { describe, expect, it } from 'vitest';
import { diagnose, pathKind, pathName } from '../src/meeting/diagnosis';
import { summarise, type ConnectionReport, type Report } from '../src/meeting/stats';
import { ApiError, explainDevice, explainEnd, explainJoin } from '../src/lib/errors';

const end = (type: string, protocol = 'udp', extra = {}) => ({ type, protocol, address: '192.0.2.1', port: 1, ...extra });

function report(change: Partial<ConnectionReport> = {}): ConnectionReport {
  return {
    id: 'x', state: 'connected', local: end('host'), remote: end('host'), roundTrip: 20, sentBitrate: 1e6, receivedBitrate: 1e6,
    sentLoss: 0, receivedLoss: 0, sent: [], received: [], ...change,
  };
}

const sent = (change = {}) => ({
  kind: 'video' as const, mid: '0', trackId: 't', codec: 'VP8', bitrate: 1e6, width: 1280, height: 720, fps: 30, layers: 3,
  layersPossible: 3, limitation: 'none', encoder: '', loss: 0, screen: false, ...change,
});

describe('diagnose', () => {
  it('praises a good connection, once', () => {
    const found = diagnose(report({ sent: [sent()] }));
    expect(found).toHaveLength(1);
    expect(found[0]!.severity).toBe('good');
    expect(found[0]!.text).toBe('All is well: packets take the direct way over UDP, the round trip is 20 ms and nothing noticeable is lost.');
  });

  it('names the path', () => {
    expect(pathKind(end('relay', 'udp', { relayProtocol: 'tls' }), end('host'))).toBe('relay-tcp');
    expect(pathKind(end('relay', 'udp', { relayProtocol: 'udp' }), end('host'))).toBe('relay-udp');
    expect(pathKind(end('host', 'tcp'), end('host', 'tcp'))).toBe('direct-tcp');
    expect(pathKind(undefined, end('host'))).toBe('none');
    expect(pathName(report({ local: { ...end('host'), address: 'fd00::1' } }))).toBe('Direct, UDP over IPv6');
  });

  it('says that UDP is blocked where TCP is used, and what to do', () => {
    const [first] = diagnose(report({ local: end('host', 'tcp') }));
    expect(first!.severity).toBe('warn');
    expect(first!.text).toContain('UDP does not get through');
    expect(first!.advice).toContain('UDP');
  });

  it('puts the worst first', () => {
    const found = diagnose(report({ local: end('relay'), receivedLoss: 0.12, roundTrip: 200 }));
    expect(found.map((finding) => finding.severity)).toEqual(['bad', 'warn', 'note']);
    expect(found[0]!.text).toContain('12 %');
  });

  it('tells a slow computer from a narrow uplink', () => {
    expect(diagnose(report({ sent: [sent({ limitation: 'cpu', height: 360 })] }))[0]!.text).toContain('too busy to encode more than 360p');
    const [narrow] = diagnose(report({ available: 300_000, sent: [sent({ limitation: 'bandwidth' })] }));
    expect(narrow!.text).toContain('300 kbit/s');
  });

  it('speaks of a failed connection first', () => {
    expect(diagnose(report({ state: 'failed', local: undefined, remote: undefined }))[0]!.severity).toBe('bad');
  });
});

describe('summarise', () => {
  const at = (time: number, factor: number): Report => new Map(Object.entries({
    T: { id: 'T', type: 'transport', timestamp: time, selectedCandidatePairId: 'P', tlsVersion: 'FEFC', srtpCipher: 'AEAD_AES_128_GCM', bytesSent: 125_000 * factor, bytesReceived: 0 },
    P: { id: 'P', type: 'candidate-pair', timestamp: time, localCandidateId: 'L', remoteCandidateId: 'R', currentRoundTripTime: 0.025, availableOutgoingBitrate: 2e6 },
    L: { id: 'L', type: 'local-candidate', candidateType: 'srflx', protocol: 'udp', address: '192.0.2.7', port: 5 },
    R: { id: 'R', type: 'remote-candidate', candidateType: 'host', protocol: 'udp', address: '192.0.2.1', port: 7882 },
    C: { id: 'C', type: 'codec', mimeType: 'video/VP8' },
    S: { id: 'S', type: 'media-source', trackIdentifier: 'camera' },
    q: { id: 'q', type: 'outbound-rtp', kind: 'video', timestamp: time, mediaSourceId: 'S', codecId: 'C', bytesSent: 10_000 * factor, packetsSent: 10 * factor, frameWidth: 320, frameHeight: 180, framesPerSecond: 15, remoteId: 'Rq' },
    h: { id: 'h', type: 'outbound-rtp', kind: 'video', timestamp: time, mediaSourceId: 'S', codecId: 'C', bytesSent: 30_000 * factor, packetsSent: 30 * factor, frameWidth: 640, frameHeight: 360, framesPerSecond: 30, qualityLimitationReason: 'cpu' },
    Rq: { id: 'Rq', type: 'remote-inbound-rtp', fractionLost: 0.1 },
    I: { id: 'I', type: 'inbound-rtp', kind: 'audio', timestamp: time, trackIdentifier: 'voice', packetsLost: 5 * factor, packetsReceived: 45 * factor, bytesReceived: 5000 * factor, jitter: 0.003, jitterBufferDelay: 4.8 * factor, jitterBufferEmittedCount: 48 * factor, concealedSamples: 100 * factor, silentConcealedSamples: 0, totalSamplesReceived: 1000 * factor },
  })) as Report;

  it('makes rates of two samples and joins the layers of one camera', () => {
    const sum = summarise('p', 'connected', at(2000, 2), at(1000, 1));
    expect(sum.local).toMatchObject({ type: 'srflx', port: 5 });
    expect(sum).toMatchObject({ roundTrip: 25, dtls: '1.3', sentBitrate: 1e6, available: 2e6 });
    expect(sum.sent).toHaveLength(1);
    expect(sum.sent[0]).toMatchObject({ codec: 'VP8', bitrate: 320_000, width: 640, height: 360, layers: 2, limitation: 'cpu', trackId: 'camera' });
    expect(sum.sentLoss).toBeCloseTo(0.025);
    expect(sum.received[0]).toMatchObject({ trackId: 'voice', loss: 0.1, jitter: 3, concealed: 0.1, bitrate: 40_000 });
    expect(sum.received[0]!.delay).toBeCloseTo(100);
  });

  it('has no rates from one sample', () => {
    const sum = summarise('p', 'connected', at(1000, 1));
    expect(sum.sentBitrate).toBe(0);
    expect(sum.receivedLoss).toBe(0);
  });

  it('survives an empty report', () => {
    expect(summarise('p', 'new', new Map())).toMatchObject({ sentBitrate: 0, sent: [], received: [] });
  });
});

describe('errors', () => {
  const named = (name: string, more = {}) => Object.assign(new Error('x'), { name }, more);

  it('say what to do about devices', () => {
    expect(explainDevice(named('NotAllowedError'), 'camera').advice).toContain('address bar');
    expect(explainDevice(named('NotFoundError'), 'microphone').title).toBe('No microphone was found');
    expect(explainDevice(named('NotReadableError'), 'camera').advice).toContain('other programs');
  });

  it('tell an unreachable server from one that refuses and from blocked media', () => {
    expect(explainJoin(named('TypeError')).title).toBe('The server cannot be reached');
    expect(explainJoin(new ApiError(403, 'join_closed', '')).retry).toBe(false);
    expect(explainJoin(new ApiError(503, '', '')).title).toBe('The server has a problem');
    expect(explainJoin(named('ConnectionError', { reasonName: 'NotAllowed', status: 401 })).advice).toContain('clock');
    expect(explainJoin(named('ConnectionError', { reasonName: 'InternalError', message: 'could not establish pc connection' })).advice).toContain('UDP');
  });

  it('say nothing of a chosen end', () => {
    expect(explainEnd('CLIENT_INITIATED')).toBeUndefined();
    expect(explainEnd('DUPLICATE_IDENTITY')!.title).toContain('somewhere else');
    expect(explainEnd('DUPLICATE_IDENTITY')!.comeBack).toBeUndefined();
    expect(explainEnd('PARTICIPANT_REMOVED')!.comeBack).toBeUndefined();
    expect(explainEnd('SERVER_SHUTDOWN')!.comeBack).toBe(true);
    expect(explainEnd(undefined)).toMatchObject({ title: 'The connection was lost', comeBack: true });
  });
});

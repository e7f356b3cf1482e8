// From the browser's statistics (W3C webrtc-stats) to what a person wants to know of a connection.
// Pure: reports in, numbers out. Rates come from two samples.

export type Report = Map<string, Record<string, any>>;

export interface End {
  type: string;
  protocol: string;
  address: string;
  port: number;
  /** How the relay itself is reached, for a relayed candidate: udp, tcp or tls. */
  relayProtocol?: string | undefined;
}

export interface SentStream {
  kind: 'audio' | 'video';
  mid: string;
  trackId: string;
  codec: string;
  /** Bits per second over all layers. */
  bitrate: number;
  width: number;
  height: number;
  fps: number;
  /** Layers on the wire now, and those there could be. */
  layers: number;
  layersPossible: number;
  /** What holds the encoder back: none, cpu, bandwidth or other. */
  limitation: string;
  encoder: string;
  /** Share of packets that the far end says it lost, 0 to 1. */
  loss: number;
  screen: boolean;
}

export interface ReceivedStream {
  kind: 'audio' | 'video';
  trackId: string;
  codec: string;
  bitrate: number;
  width: number;
  height: number;
  fps: number;
  loss: number;
  /** Milliseconds. */
  jitter: number;
  /** Milliseconds that media waits to be played. */
  delay: number;
  /** Freezes since the previous sample. */
  freezes: number;
  /** Share of the sound since the previous sample that was made up, 0 to 1. */
  concealed: number;
  decoder: string;
}

export interface ConnectionReport {
  id: string;
  state: string;
  local?: End | undefined;
  remote?: End | undefined;
  /** Milliseconds. */
  roundTrip?: number | undefined;
  /** Bits per second that the browser believes it can send. */
  available?: number | undefined;
  dtls?: string | undefined;
  cipher?: string | undefined;
  group?: string | undefined;
  sentBitrate: number;
  receivedBitrate: number;
  /** Shares, 0 to 1, over all streams since the previous sample. */
  sentLoss: number;
  receivedLoss: number;
  sent: SentStream[];
  received: ReceivedStream[];
}

const DTLS: Record<string, string> = { FEFF: '1.0', FEFD: '1.2', FEFC: '1.3' };

function end(candidate: Record<string, any> | undefined): End | undefined {
  if (!candidate) return undefined;
  return {
    type: candidate.candidateType ?? '',
    protocol: candidate.protocol ?? '',
    address: candidate.address ?? candidate.ip ?? '',
    port: candidate.port ?? 0,
    relayProtocol: candidate.relayProtocol,
  };
}

const codecName = (codec: Record<string, any> | undefined): string => (codec?.mimeType ?? '').replace(/^\w+\//, '');

const share = (part: number, whole: number): number => (whole > 0 ? Math.min(1, Math.max(0, part / whole)) : 0);

/** Sums a sample up, beside the previous sample of the same connection. */
export function summarise(id: string, state: string, report: Report, previous?: Report): ConnectionReport {
  const all = [...report.values()];
  const transport = all.find((entry) => entry.type === 'transport');
  const pair =
    report.get(transport?.selectedCandidatePairId) ??
    all.find((entry) => entry.type === 'candidate-pair' && (entry.selected || (entry.nominated && entry.state === 'succeeded')));

  const before = (entry: Record<string, any>) => previous?.get(entry.id);
  const change = (entry: Record<string, any> | undefined, field: string): number => {
    const old = entry && before(entry)?.[field];
    return entry && typeof entry[field] === 'number' && typeof old === 'number' ? entry[field] - old : 0;
  };
  const rate = (entry: Record<string, any> | undefined, field: string): number => {
    const old = entry && before(entry);
    const seconds = old ? (entry.timestamp - old.timestamp) / 1000 : 0;
    return seconds > 0 ? Math.max(0, (change(entry, field) * 8) / seconds) : 0;
  };

  const sent = new Map<string, SentStream>();
  let lost = 0;
  let sentPackets = 0;
  for (const entry of all) {
    if (entry.type !== 'outbound-rtp') continue;
    const source = report.get(entry.mediaSourceId);
    const key = source?.trackIdentifier ?? entry.mid ?? entry.id;
    const remote = report.get(entry.remoteId);
    const packets = change(entry, 'packetsSent');
    sentPackets += packets;
    const fraction = remote?.fractionLost ?? 0;
    lost += fraction * packets;
    const stream = sent.get(key) ?? {
      kind: entry.kind,
      mid: entry.mid ?? '',
      trackId: source?.trackIdentifier ?? '',
      codec: codecName(report.get(entry.codecId)),
      bitrate: 0, width: 0, height: 0, fps: 0, layers: 0, layersPossible: 0,
      limitation: 'none',
      encoder: '',
      loss: 0,
      screen: entry.contentType === 'screenshare',
    };
    const bitrate = rate(entry, 'bytesSent');
    stream.bitrate += bitrate;
    stream.layersPossible += 1;
    if (entry.active !== false && bitrate > 0) stream.layers += 1;
    if (bitrate > 0 && (entry.frameHeight ?? 0) >= stream.height) {
      stream.width = entry.frameWidth ?? 0;
      stream.height = entry.frameHeight ?? 0;
      stream.fps = entry.framesPerSecond ?? 0;
      stream.encoder = entry.encoderImplementation ?? '';
    }
    if (entry.qualityLimitationReason && entry.qualityLimitationReason !== 'none' && entry.active !== false) {
      stream.limitation = entry.qualityLimitationReason;
    }
    stream.loss = Math.max(stream.loss, fraction);
    sent.set(key, stream);
  }

  const received: ReceivedStream[] = [];
  let missing = 0;
  let expected = 0;
  for (const entry of all) {
    if (entry.type !== 'inbound-rtp') continue;
    const lostNow = Math.max(0, change(entry, 'packetsLost'));
    const arrived = change(entry, 'packetsReceived');
    missing += lostNow;
    expected += lostNow + arrived;
    const emitted = change(entry, 'jitterBufferEmittedCount');
    received.push({
      kind: entry.kind,
      trackId: entry.trackIdentifier ?? '',
      codec: codecName(report.get(entry.codecId)),
      bitrate: rate(entry, 'bytesReceived'),
      width: entry.frameWidth ?? 0,
      height: entry.frameHeight ?? 0,
      fps: entry.framesPerSecond ?? 0,
      loss: share(lostNow, lostNow + arrived),
      jitter: (entry.jitter ?? 0) * 1000,
      delay: emitted > 0 ? (change(entry, 'jitterBufferDelay') / emitted) * 1000 : 0,
      freezes: Math.max(0, change(entry, 'freezeCount')),
      concealed: share(
        change(entry, 'concealedSamples') - change(entry, 'silentConcealedSamples'),
        change(entry, 'totalSamplesReceived'),
      ),
      decoder: entry.decoderImplementation ?? '',
    });
  }

  return {
    id,
    state,
    local: end(report.get(pair?.localCandidateId)),
    remote: end(report.get(pair?.remoteCandidateId)),
    roundTrip: typeof pair?.currentRoundTripTime === 'number' ? pair.currentRoundTripTime * 1000 : undefined,
    available: pair?.availableOutgoingBitrate,
    dtls: transport?.tlsVersion ? (DTLS[transport.tlsVersion] ?? transport.tlsVersion) : undefined,
    cipher: transport?.srtpCipher,
    group: transport?.tlsGroup,
    sentBitrate: rate(transport ?? pair, 'bytesSent'),
    receivedBitrate: rate(transport ?? pair, 'bytesReceived'),
    sentLoss: share(lost, sentPackets),
    receivedLoss: share(missing, expected),
    sent: [...sent.values()],
    received,
  };
}

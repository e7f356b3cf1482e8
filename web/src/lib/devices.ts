// Cameras, microphones and speakers: which there are, which is chosen, and the tracks of the lobby.
import { signal } from '@preact/signals';
import { createLocalAudioTrack, createLocalVideoTrack, VideoPresets, type LocalAudioTrack, type LocalVideoTrack } from 'livekit-client';
import { explainDevice, type Explanation } from './errors';
import { cameraWanted, chosen, microphoneWanted } from './storage';

export interface Device {
  id: string;
  label: string;
}

export const cameras = signal<Device[]>([]);
export const microphones = signal<Device[]>([]);
export const speakers = signal<Device[]>([]);

export const cameraTrack = signal<LocalVideoTrack | undefined>(undefined);
export const microphoneTrack = signal<LocalAudioTrack | undefined>(undefined);
export const cameraProblem = signal<Explanation | undefined>(undefined);
export const microphoneProblem = signal<Explanation | undefined>(undefined);
/** The browser is asking the user. */
export const asking = signal(false);

export async function listDevices(): Promise<void> {
  const all = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
  const of = (kind: MediaDeviceKind, word: string) =>
    all
      .filter((device) => device.kind === kind && device.deviceId !== '')
      .map((device, index) => ({ id: device.deviceId, label: device.label.replace(/\s*\([0-9a-f]{4}:[0-9a-f]{4}\)$/, '') || `${word} ${index + 1}` }));
  cameras.value = of('videoinput', 'Camera');
  microphones.value = of('audioinput', 'Microphone');
  speakers.value = of('audiooutput', 'Speaker');
}

navigator.mediaDevices?.addEventListener('devicechange', () => void listDevices());

export function cameraOptions() {
  return { resolution: VideoPresets.h720.resolution, ...(chosen.camera.value ? { deviceId: chosen.camera.value } : {}) };
}

export function microphoneOptions() {
  return {
    echoCancellation: true,
    noiseSuppression: true,
    autoGainControl: true,
    ...(chosen.microphone.value ? { deviceId: chosen.microphone.value } : {}),
  };
}

async function openCamera(): Promise<void> {
  cameraTrack.value?.stop();
  cameraTrack.value = undefined;
  try {
    cameraTrack.value = await createLocalVideoTrack(cameraOptions());
    cameraProblem.value = undefined;
  } catch (error) {
    cameraProblem.value = explainDevice(error, 'camera');
  }
}

async function openMicrophone(): Promise<void> {
  microphoneTrack.value?.stop();
  microphoneTrack.value = undefined;
  try {
    microphoneTrack.value = await createLocalAudioTrack(microphoneOptions());
    microphoneProblem.value = undefined;
  } catch (error) {
    microphoneProblem.value = explainDevice(error, 'microphone');
  }
}

// One at a time: two prompts at once confuse people and some browsers.
let turn: Promise<void> = Promise.resolve();

/** Opens and closes the lobby's devices so that they are as wanted. */
export function prepare(again: { camera?: boolean; microphone?: boolean } = {}): Promise<void> {
  turn = turn.then(async () => {
    asking.value = true;
    if (microphoneWanted.value && (again.microphone || (!microphoneTrack.value && !microphoneProblem.value))) await openMicrophone();
    if (cameraWanted.value && (again.camera || (!cameraTrack.value && !cameraProblem.value))) await openCamera();
    if (!microphoneWanted.value) release('microphone');
    if (!cameraWanted.value) release('camera');
    asking.value = false;
    await listDevices();
  });
  return turn;
}

export function release(what: 'camera' | 'microphone'): void {
  const track = what === 'camera' ? cameraTrack : microphoneTrack;
  track.value?.stop();
  track.value = undefined;
}

/** Hands the lobby's tracks over to the meeting, which stops them. */
export function take(): { camera: LocalVideoTrack | undefined; microphone: LocalAudioTrack | undefined } {
  const taken = { camera: cameraTrack.value, microphone: microphoneTrack.value };
  cameraTrack.value = undefined;
  microphoneTrack.value = undefined;
  return taken;
}

/** Calls back with the loudness of a track, 0 to 1, on each frame of the display, until the returned function is called. */
export function watchLevel(track: MediaStreamTrack, tell: (level: number) => void): () => void {
  const context = new AudioContext();
  const source = context.createMediaStreamSource(new MediaStream([track]));
  const analyser = context.createAnalyser();
  analyser.fftSize = 1024;
  source.connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  let frame = 0;
  let smooth = 0;
  const look = () => {
    analyser.getFloatTimeDomainData(samples);
    let sum = 0;
    for (const sample of samples) sum += sample * sample;
    const decibels = 10 * Math.log10(sum / samples.length + 1e-10);
    const level = Math.min(1, Math.max(0, (decibels + 60) / 50));
    smooth = level > smooth ? level : smooth * 0.9 + level * 0.1;
    tell(smooth);
    frame = requestAnimationFrame(look);
  };
  look();
  void context.resume().catch(() => {});
  return () => {
    cancelAnimationFrame(frame);
    source.disconnect();
    void context.close();
  };
}

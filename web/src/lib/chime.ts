// Short sounds, made here: nothing is loaded.
import { sounds } from './storage';

const NOTES = { join: [523, 784], leave: [659, 440], message: [880], hand: [587, 740] };

let context: AudioContext | undefined;

export function chime(kind: keyof typeof NOTES): void {
  if (!sounds.value) return;
  context ??= new AudioContext();
  if (context.state === 'suspended') return;
  const now = context.currentTime;
  NOTES[kind].forEach((frequency, index) => {
    const oscillator = context!.createOscillator();
    const gain = context!.createGain();
    const at = now + index * 0.11;
    oscillator.frequency.value = frequency;
    gain.gain.setValueAtTime(0, at);
    gain.gain.linearRampToValueAtTime(0.06, at + 0.015);
    gain.gain.exponentialRampToValueAtTime(0.0005, at + 0.3);
    oscillator.connect(gain).connect(context!.destination);
    oscillator.start(at);
    oscillator.stop(at + 0.32);
  });
}

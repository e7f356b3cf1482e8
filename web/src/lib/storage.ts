// What the browser remembers between visits. Private windows may refuse: then nothing is remembered.
import { effect, signal, type Signal } from '@preact/signals';

export function remembered<T>(name: string, initial: T): Signal<T> {
  let value = initial;
  try {
    const stored = localStorage.getItem(`visavis.${name}`);
    if (stored !== null) value = JSON.parse(stored) as T;
  } catch {
    // Refused or not ours: start anew.
  }
  const result = signal(value);
  let first = true;
  effect(() => {
    const text = JSON.stringify(result.value);
    if (first) {
      first = false;
      return;
    }
    try {
      localStorage.setItem(`visavis.${name}`, text);
    } catch {
      // Not remembered.
    }
  });
  return result;
}

export const displayName = remembered('name', '');
export const theme = remembered<'system' | 'dark' | 'light'>('theme', 'system');
export const sounds = remembered('sounds', true);
export const mirror = remembered('mirror', true);
export const recentRooms = remembered<string[]>('recent', []);
export const cameraWanted = remembered('camera-on', true);
export const microphoneWanted = remembered('microphone-on', true);
export const chosen = {
  camera: remembered('camera', ''),
  microphone: remembered('microphone', ''),
  speaker: remembered('speaker', ''),
};

export function rememberRoom(room: string): void {
  recentRooms.value = [room, ...recentRooms.value.filter((other) => other !== room)].slice(0, 5);
}

effect(() => {
  const root = document.documentElement;
  if (theme.value === 'system') delete root.dataset.theme;
  else root.dataset.theme = theme.value;
});

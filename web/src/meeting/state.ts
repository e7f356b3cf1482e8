// What of the meeting's page is open and how it is arranged: of this window alone.
import { signal } from '@preact/signals';
import type { View } from './arrange';

export type Panel = 'chat' | 'people' | 'connection';
export type Sheet = 'invite' | 'settings' | 'keys';

export const panel = signal<Panel | undefined>(undefined);
export const sheet = signal<Sheet | undefined>(undefined);
export const view = signal<View>('auto');
/** The tile that is kept on stage. */
export const pinned = signal<string | undefined>(undefined);
export const reactionsOpen = signal(false);
/** The space bar is held: the microphone is on only meanwhile. */
export const talking = signal(false);

export function reset(): void {
  panel.value = undefined;
  sheet.value = undefined;
  view.value = 'auto';
  pinned.value = undefined;
  reactionsOpen.value = false;
  talking.value = false;
}

export function togglePanel(which: Panel): void {
  panel.value = panel.value === which ? undefined : which;
}

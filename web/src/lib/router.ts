// Which page is shown: four addresses, no library.
import { signal } from '@preact/signals';

export const path = signal(location.pathname);

addEventListener('popstate', () => (path.value = location.pathname));

/** Goes to an address of this page without loading it anew. */
export function go(address: string, replace = false): void {
  history[replace ? 'replaceState' : 'pushState'](null, '', address);
  path.value = location.pathname;
}

/** For the click of a link within the page; new tabs and windows are left to the browser. */
export function follow(event: MouseEvent): void {
  const link = event.currentTarget as HTMLAnchorElement;
  if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(link.getAttribute('href') ?? '/');
}

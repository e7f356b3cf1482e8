// SHA-256 of what does not fit in memory at once: the browser's own digest wants all of it.
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';

export class Sha256 {
  private state = sha256.create();

  update(bytes: Uint8Array): void {
    this.state.update(bytes);
  }

  hex(): string {
    return bytesToHex(this.state.digest());
  }
}

/** The hash of a file, read a piece at a time; `progress` is told the share that is done. */
export async function hashBlob(blob: Blob, progress?: (share: number) => void): Promise<string> {
  const hash = new Sha256();
  const piece = 1 << 20;
  for (let at = 0; at < blob.size; at += piece) {
    hash.update(new Uint8Array(await blob.slice(at, at + piece).arrayBuffer()));
    progress?.(Math.min(1, (at + piece) / blob.size));
  }
  return hash.hex();
}

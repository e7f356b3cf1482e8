// SHA-256 over the SHA-256 of each piece of 1 MiB: as crates/cli/src/transfer/digest.rs.

export const PIECE = 1 << 20;

const hash = async (bytes: Uint8Array<ArrayBuffer>) => new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));

/** Takes whole pieces in a row; the last may be shorter. */
export class Digest {
  private pieces: Uint8Array<ArrayBuffer>[] = [];

  async piece(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    this.pieces.push(await hash(bytes));
  }

  async hex(): Promise<string> {
    const all = new Uint8Array(await new Blob(this.pieces).arrayBuffer());
    return [...(await hash(all))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  }

  /** The digest of so many whole pieces. */
  before(count: number): Digest {
    const before = new Digest();
    before.pieces = this.pieces.slice(0, count);
    return before;
  }
}

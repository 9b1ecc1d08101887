// Ids by which the service knows a request that is sent twice.

/** A fresh id for a request that may be sent twice; the page is always in a secure context. */
export function requestId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** The ids of what one form asks for: sent again with the same content, because no answer came, it is the
 * same request and done once. */
export class Requests {
  private last: { readonly content: string; readonly id: string } | undefined;

  idOf(content: object): string {
    const text = JSON.stringify(content);
    if (this.last?.content !== text) {
      this.last = { content: text, id: requestId() };
    }
    return this.last.id;
  }

  /** It was done: the same content is another wish from now on. */
  done(): void {
    this.last = undefined;
  }
}

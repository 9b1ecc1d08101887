// Records that may wait: they go while little else waits in the socket, so that keys go before them.

/** More than this in the socket, and they wait. */
const BACKLOG_MAX_BYTES = 32 * 1024;
/** A socket does not say when it has sent: it is asked this often. */
const LOOK_PERIOD_MS = 10;

/** What the queue needs of the connection. */
export interface UploadLine {
  /** Bytes in the socket that are not sent. */
  readonly backlog: number;
  send(bytes: Uint8Array<ArrayBuffer>): void;
}

/** Holds what the gateway has made room for, and no more: its owner keeps to that. */
export class Uploads {
  private waiting: Uint8Array<ArrayBuffer>[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly line: UploadLine) {}

  push(bytes: Uint8Array<ArrayBuffer>): void {
    this.waiting.push(bytes);
    if (this.timer === undefined) {
      this.drain();
    }
  }

  /** The connection is over. */
  clear(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.waiting = [];
  }

  private drain(): void {
    this.timer = undefined;
    let sent = 0;
    while (sent < this.waiting.length && this.line.backlog <= BACKLOG_MAX_BYTES) {
      this.line.send(this.waiting[sent]!);
      sent += 1;
    }
    this.waiting.splice(0, sent);
    if (this.waiting.length > 0) {
      this.timer = setTimeout(() => this.drain(), LOOK_PERIOD_MS);
    }
  }
}

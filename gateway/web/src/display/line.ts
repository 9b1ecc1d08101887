// The line to the gateway: dials, notices a socket that died in silence, and dials beside it, so that
// the picture is back soon after the network is.

import { Backoff } from "./backoff.js";
import { encodePing } from "./protocol.js";

/** A handshake that takes longer is given up, whatever the line is like. */
const HANDSHAKE_MAX_MS = 10_000;
/** One on a line that is known to be fast: what is lost in a break of the network is sent again sooner than
 * by the system, which waits for a second and then ever longer. */
const HANDSHAKE_MIN_MS = 300;
/** A handshake takes that many times as long as the last one did before it is begun anew. */
const HANDSHAKE_FACTOR = 4;
/** So many handshakes in a row are begun anew at that pace, each after them has more time. Chromium slows
 * down pages that dialled in vain: the tenth time in two minutes waits for a tenth of a second, and from the
 * fifteenth on each waits for seconds. */
const HANGS_EAGER_MAX = 6;
const HANDSHAKE_GROWTH = 1.4;
/** How often the round trip is measured, and silence looked at. */
const PING_INTERVAL_MS = 1000;
/** An answer that takes longer than this, or than five round trips, casts doubt on the socket. */
const DOUBT_MS = 1000;
const DOUBT_ROUND_TRIPS = 5;
/** Where the doubt was wrong, as on a line so slow that one message takes a second, the next one waits so many
 * times as long, until there is another socket. */
const PATIENCE_FACTOR = 2;
/** The same when there is a reason to ask: the network came back, or the computer woke. A line that lives
 * answers in one round trip, long before a handshake is over. */
const CHECK_MS = 60;
const CHECK_ROUND_TRIPS = 2;
/** After this much silence the person is told; a lost packet alone explains it no longer. */
const SILENCE_TOLD_MS = 3000;
/** After this much silence the socket is dead. */
const SILENCE_MAX_MS = 8000;
/** A clock that jumped by more than this between two looks: the computer slept. */
const SLEPT_MS = 4000;
/** While nobody answers, a small request asks whether somebody does: after each hundredth of the time that
 * the break has lasted, within these bounds. */
const PROBE_PART = 0.01;
const PROBE_INTERVAL_MIN_MS = 120;
const PROBE_INTERVAL_MAX_MS = 5000;
/** A probe is given up after this time. */
const PROBE_MAX_MS = 1000;

/** What the line needs, and whom it tells. */
export interface LineOutlets {
  /** Milliseconds of a monotonic clock. */
  now(): number;
  dial(): WebSocket;
  /** Whether the gateway's machine answers, over a connection of its own; false when asked to stop. */
  reach(stop: AbortSignal): Promise<boolean>;
  /** A new connection is there; what belonged to the one before is over. */
  opened(): void;
  message(data: unknown): void;
  /** Nothing was heard for a while; `message` is called when that changes. */
  silent(): void;
  /** The connection is over, or an attempt to get one was in vain. False ends the line. */
  closed(code: number, wasOpen: boolean): boolean;
  /** Once for every second of an open connection. */
  pulse(): void;
}

type Timer = ReturnType<typeof setTimeout>;

interface Attempt {
  readonly socket: WebSocket;
  readonly since: number;
}

/** One line: at most one open socket, and at most one that is being opened, perhaps beside it. */
export class Line {
  private readonly backoff = new Backoff();
  private socket: WebSocket | undefined;
  private attempt: Attempt | undefined;
  private openedAt = 0;
  private heardAt = 0;
  private proved = false;
  private toldSilent = false;
  private patience = 1;
  /** When the break began; undefined while all is well. */
  private brokenAt: number | undefined;
  private handshakeMs: number | undefined;
  private hangs = 0;
  private pingId = 0n;
  private pingSentAt: number | undefined;
  private probing: AbortController | undefined;
  private unreached = false;
  private lookedAt = Date.now();

  private redialTimer: Timer | undefined;
  private handshakeTimer: Timer | undefined;
  private doubtTimer: Timer | undefined;
  private pulseTimer: Timer | undefined;
  private probeTimer: Timer | undefined;

  /** Round trip to the gateway, in milliseconds; undefined until measured. */
  latencyMs: number | undefined;

  constructor(private readonly outlets: LineOutlets) {}

  /** Dials, in place of an attempt that is under way. */
  dial(): void {
    this.dropAttempt();
    const socket = this.outlets.dial();
    socket.binaryType = "arraybuffer";
    const attempt: Attempt = { socket, since: this.outlets.now() };
    this.attempt = attempt;
    socket.onopen = () => this.opened(attempt);
    socket.onclose = (event: CloseEvent) => {
      this.hangs = 0;
      this.inVain(event.code, this.backoff.next());
    };
    this.handshakeTimer = setTimeout(() => {
      // It has waited long enough.
      this.hangs += 1;
      this.inVain(1006, 0);
    }, this.handshakeMax());
  }

  /** There is a reason to think that the line broke, or that it could be had again: asks at once. */
  check(): void {
    if (this.socket === undefined) {
      this.hangs = 0;
      this.dial();
      return;
    }
    this.lookedAt = Date.now();
    this.ping();
    this.doubtAfter(CHECK_MS, CHECK_ROUND_TRIPS);
  }

  /** The connection is a good one: it showed a picture. */
  prove(): void {
    this.proved = true;
  }

  /** What is sent while nothing is open is lost. */
  send(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.socket?.readyState === 1) {
      this.socket.send(bytes);
    }
  }

  /** Bytes that wait to be sent. */
  get backlog(): number {
    return this.socket?.bufferedAmount ?? 0;
  }

  /** An answer came to the ping of this number. */
  pong(id: bigint): void {
    if (id === this.pingId && this.pingSentAt !== undefined) {
      this.latencyMs = this.outlets.now() - this.pingSentAt;
      this.pingSentAt = undefined;
    }
  }

  /** Closes the socket for a mistake of its other end, and dials anew. */
  break(code: number, reason: string): void {
    this.socket?.close(code, reason);
    this.lost(code);
  }

  /** Leaves everything, without waiting for a close handshake. */
  stop(): void {
    this.dropAttempt();
    this.dropSocket();
    this.endProbe();
  }

  private opened(attempt: Attempt): void {
    if (attempt !== this.attempt) {
      return;
    }
    const { socket } = attempt;
    const now = this.outlets.now();
    // A browser that slows dialling down says nothing about the line.
    const took = now - attempt.since;
    this.handshakeMs = Math.min(took, 2 * (this.handshakeMs ?? took));
    this.attempt = undefined;
    clearTimeout(this.handshakeTimer);
    clearTimeout(this.redialTimer);
    this.endProbe();
    this.dropSocket();
    this.socket = socket;
    this.openedAt = this.heardAt = now;
    this.lookedAt = Date.now();
    this.brokenAt = undefined;
    this.hangs = 0;
    this.proved = false;
    this.toldSilent = false;
    this.patience = 1;
    this.pingSentAt = undefined;
    socket.onclose = (event: CloseEvent) => this.lost(event.code);
    socket.onmessage = (event: MessageEvent) => this.heard(socket, event.data);
    this.outlets.opened();
    this.ping();
    this.pulseTimer = setTimeout(() => this.pulse(), PING_INTERVAL_MS);
  }

  private heard(socket: WebSocket, data: unknown): void {
    if (socket !== this.socket) {
      return;
    }
    this.heardAt = this.outlets.now();
    this.toldSilent = false;
    clearTimeout(this.doubtTimer);
    this.doubtTimer = undefined;
    if (this.attempt !== undefined || this.redialTimer !== undefined) {
      // It lives after all.
      this.patience *= PATIENCE_FACTOR;
      this.dropAttempt();
      this.endProbe();
    }
    this.brokenAt = undefined;
    this.outlets.message(data);
  }

  /** The open socket is over. */
  private lost(code: number): void {
    if (this.proved) {
      this.backoff.lived(this.outlets.now() - this.openedAt);
    }
    this.dropSocket();
    this.brokenAt ??= this.outlets.now();
    if (!this.outlets.closed(code, true)) {
      this.stop();
    } else if (this.attempt === undefined && this.redialTimer === undefined) {
      this.dialAfter(this.backoff.next());
    }
  }

  /** An attempt came to nothing; there is to be another one after so many milliseconds. */
  private inVain(code: number, wait: number): void {
    this.dropAttempt();
    this.brokenAt ??= this.outlets.now();
    if (!this.outlets.closed(code, false)) {
      this.stop();
      return;
    }
    this.dialAfter(wait);
    if (this.probing === undefined) {
      void this.probe();
    }
  }

  private dialAfter(wait: number): void {
    this.redialTimer = setTimeout(() => this.dial(), wait);
  }

  private handshakeMax(): number {
    if (this.handshakeMs === undefined) {
      return HANDSHAKE_MAX_MS;
    }
    const usual = Math.max(HANDSHAKE_MIN_MS, HANDSHAKE_FACTOR * this.handshakeMs);
    const late = Math.max(0, this.hangs - HANGS_EAGER_MAX);
    return Math.min(HANDSHAKE_MAX_MS, usual * HANDSHAKE_GROWTH ** Math.min(late, 16));
  }

  /** Every second: measures, and notices a socket that died in silence. */
  private pulse(): void {
    const now = this.outlets.now();
    const today = Date.now();
    const slept = today - this.lookedAt > SLEPT_MS;
    this.lookedAt = today;
    const silence = now - this.heardAt;
    this.pulseTimer = setTimeout(() => this.pulse(), PING_INTERVAL_MS);
    if (slept) {
      // Nothing was asked meanwhile, so silence says nothing.
      this.heardAt = now;
      this.check();
    } else if (silence > SILENCE_MAX_MS) {
      this.lost(1006);
      return;
    } else {
      if (silence > SILENCE_TOLD_MS && !this.toldSilent) {
        this.toldSilent = true;
        this.outlets.silent();
      }
      this.ping();
      if (this.doubtTimer === undefined && this.attempt === undefined) {
        this.doubtAfter(this.patience * DOUBT_MS, DOUBT_ROUND_TRIPS);
      }
    }
    this.outlets.pulse();
  }

  private ping(): void {
    this.pingId += 1n;
    this.pingSentAt = this.outlets.now();
    this.send(encodePing(this.pingId));
  }

  /** Dials beside the open socket when nothing comes over it in time. */
  private doubtAfter(milliseconds: number, roundTrips: number): void {
    clearTimeout(this.doubtTimer);
    const wait = Math.min(Math.max(milliseconds, roundTrips * (this.latencyMs ?? 0)), SILENCE_MAX_MS);
    this.doubtTimer = setTimeout(() => {
      this.doubtTimer = undefined;
      this.brokenAt ??= this.outlets.now();
      if (this.attempt === undefined && this.redialTimer === undefined) {
        this.dial();
      }
    }, wait);
  }

  /** While dialling is in vain: asks often, in a small way, and dials as soon as somebody answers. */
  private async probe(): Promise<void> {
    const probing = new AbortController();
    this.probing = probing;
    this.unreached = false;
    while (this.probing === probing) {
      const begun = this.outlets.now();
      const giveUp = new AbortController();
      const timer = setTimeout(() => giveUp.abort(), PROBE_MAX_MS);
      const end = () => giveUp.abort();
      probing.signal.addEventListener("abort", end);
      const reached = await this.outlets.reach(giveUp.signal);
      clearTimeout(timer);
      probing.signal.removeEventListener("abort", end);
      if (this.probing !== probing) {
        return;
      }
      if (reached && this.unreached) {
        // It is there again: an attempt that hangs since before would notice that late.
        this.unreached = false;
        this.hangs = 0;
        this.dial();
      }
      this.unreached ||= !reached;
      const now = this.outlets.now();
      const pause = probeInterval(now - (this.brokenAt ?? now)) - (now - begun);
      await new Promise<void>((resolve) => {
        this.probeTimer = setTimeout(resolve, Math.max(pause, 20));
      });
    }
  }

  private endProbe(): void {
    this.probing?.abort();
    this.probing = undefined;
    clearTimeout(this.probeTimer);
  }

  private dropAttempt(): void {
    clearTimeout(this.redialTimer);
    clearTimeout(this.handshakeTimer);
    this.redialTimer = undefined;
    const attempt = this.attempt;
    this.attempt = undefined;
    if (attempt !== undefined) {
      leave(attempt.socket);
    }
  }

  private dropSocket(): void {
    clearTimeout(this.doubtTimer);
    clearTimeout(this.pulseTimer);
    this.doubtTimer = undefined;
    const { socket } = this;
    this.socket = undefined;
    if (socket !== undefined) {
      leave(socket);
    }
  }
}

/** How long after the beginning of one probe the next one comes, in a break that has lasted so long. */
function probeInterval(brokenMs: number): number {
  return Math.min(PROBE_INTERVAL_MAX_MS, Math.max(PROBE_INTERVAL_MIN_MS, PROBE_PART * brokenMs));
}

function leave(socket: WebSocket): void {
  socket.onopen = socket.onmessage = socket.onclose = null;
  if (socket.readyState === 0 || socket.readyState === 1) {
    socket.close();
  }
}

// The display client's core: owns the WebSocket, decides when to dial, feeds the frames.
// Runs in a worker, or on the page where a worker cannot draw.

import { Backoff } from "./backoff.js";
import { FramePipeline } from "./frames.js";
import type { DisplayState, EndReason, EngineCommand, EngineEvent } from "./messages.js";
import type { Painter, Picture, Surface } from "./painter.js";
import { PieceAssembler } from "./pieces.js";
import {
  type Abilities,
  BrowserType,
  decodeMessage,
  encodeAck,
  encodeHello,
  encodePing,
  encodeRefresh,
  encodeWindow,
  type GatewayRecord,
  ProtocolError,
  Status,
  SUBPROTOCOL,
  VERSION,
  type WindowSize,
} from "./protocol.js";
import { WindowFollower } from "./window.js";

/** A handshake that takes longer is given up. */
const DIAL_TIMEOUT_MS = 10_000;
/** How often the round trip is measured. */
const PING_INTERVAL_MS = 2000;
/** Silence after which the connection counts as dead: three pings and their answers. */
const SILENCE_MAX_MS = 8000;
/** Pointer moves are dropped while more than this waits to be sent. */
const SEND_BACKLOG_MAX_BYTES = 32 * 1024;
/** When the gateway says "connected" and no picture comes, the veil goes after this time. */
const PICTURE_WAIT_MS = 1000;
/** At most one request for the whole picture in this time. */
const REFRESH_INTERVAL_MS = 1000;
/** Close code for a message that does not follow the document; 1002 is not ours to send. */
const CLOSE_PROTOCOL = 4000;

/** Until the guest says otherwise. */
const NO_ABILITIES: Abilities = {
  takesClipboard: false,
  givesClipboard: false,
  followsWindow: false,
};

/** Close codes after which the display does not dial again. */
const FINAL_CODES: Readonly<Record<number, EndReason | undefined>> = {
  1000: "finished",
  4001: "signedOut",
  4002: "takenOver",
  4003: "notYours",
};

/** What the engine needs of the world around it. */
export interface Surroundings {
  dial(url: string, subprotocol: string): WebSocket;
  paint(surface: Surface): Painter;
  decode(mime: string, bytes: Uint8Array): Promise<Picture>;
  decodesWebp(): Promise<boolean>;
  /** Milliseconds of a monotonic clock. */
  now(): number;
  emit(event: EngineEvent): void;
}

interface Connection {
  readonly socket: WebSocket;
  readonly frames: FramePipeline;
  /** What the guest copied, as far as it came. */
  readonly copied: PieceAssembler;
  /** undefined until open. */
  openedAt: number | undefined;
  heardAt: number;
  /** The last status record of this connection. */
  status: number | undefined;
  pictureSeen: boolean;
}

type Timer = ReturnType<typeof setTimeout>;

/** One display: start it once, then send it commands. */
export class Engine {
  private readonly backoff = new Backoff();
  private connection: Connection | undefined;
  private painter: Painter | undefined;
  private url = "";
  private readonly window = new WindowFollower((size) => this.send(encodeWindow(size), false));
  private webp = false;
  private state: DisplayState | undefined;
  private everConnected = false;
  private failedAttempts = 0;
  private frameCount = 0;
  private endText = "";
  private refreshedAt = Number.NEGATIVE_INFINITY;

  private redialTimer: Timer | undefined;
  private dialTimer: Timer | undefined;
  private pictureTimer: Timer | undefined;
  private pulseTimer: Timer | undefined;

  private pingId = 0n;
  private pingSentAt: number | undefined;
  private latencyMs: number | undefined;
  private bytesSincePulse = 0;
  private framesSincePulse = 0;
  private pulsedAt = 0;

  constructor(private readonly world: Surroundings) {}

  /** Takes one command of the page. */
  command(command: EngineCommand): void {
    switch (command.type) {
      case "start":
        void this.start(command.surface, command.url, command.window);
        return;
      case "send":
        this.send(command.bytes, command.droppable);
        return;
      case "retry":
        this.retry();
        return;
      case "takeBack":
        if (this.state === "ended") {
          this.setState(this.everConnected ? "lost" : "connecting");
          this.dial();
        }
        return;
      case "window":
        this.window.resize(command.window);
        return;
      case "stop":
        this.end();
    }
  }

  private async start(surface: Surface, url: string, window: WindowSize): Promise<void> {
    this.painter = this.world.paint(surface);
    this.url = url;
    this.window.resize(window);
    this.setState("connecting");
    this.webp = await this.world.decodesWebp();
    this.dial();
  }

  private dial(): void {
    this.clearTimers();
    const painter = this.painter;
    if (painter === undefined || this.state === "ended") {
      return;
    }
    const socket = this.world.dial(this.url, SUBPROTOCOL);
    socket.binaryType = "arraybuffer";
    const connection: Connection = {
      socket,
      frames: new FramePipeline(painter, {
        now: () => this.world.now(),
        decode: (mime, bytes) => this.world.decode(mime, bytes),
        presented: (sequence, micros) => this.presented(connection, sequence, micros),
        resized: (width, height) => this.world.emit({ type: "size", width, height }),
        spoiled: () => this.refresh(),
        failed: (error) => this.fail(connection, error),
      }),
      copied: new PieceAssembler(),
      openedAt: undefined,
      heardAt: this.world.now(),
      status: undefined,
      pictureSeen: false,
    };
    this.connection = connection;
    socket.onopen = () => this.opened(connection);
    socket.onmessage = (event: MessageEvent) => this.received(connection, event.data);
    socket.onclose = (event: CloseEvent) => this.closed(connection, event.code);
    this.dialTimer = setTimeout(() => this.closed(connection, 1006), DIAL_TIMEOUT_MS);
  }

  private opened(connection: Connection): void {
    if (connection !== this.connection) {
      return;
    }
    clearTimeout(this.dialTimer);
    const now = this.world.now();
    connection.openedAt = now;
    connection.heardAt = now;
    connection.socket.send(encodeHello(this.webp, this.window.now));
    this.pulsedAt = now;
    this.bytesSincePulse = 0;
    this.framesSincePulse = 0;
    this.pingSentAt = undefined;
    this.ping(now);
    this.pulseTimer = setTimeout(() => this.pulse(connection), PING_INTERVAL_MS);
  }

  private received(connection: Connection, data: unknown): void {
    if (connection !== this.connection) {
      return;
    }
    try {
      if (!(data instanceof ArrayBuffer)) {
        throw new ProtocolError("a text message came");
      }
      connection.heardAt = this.world.now();
      this.bytesSincePulse += data.byteLength;
      for (const record of decodeMessage(data)) {
        this.take(connection, record);
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) {
        throw error;
      }
      this.fail(connection, error);
    }
  }

  private take(connection: Connection, record: GatewayRecord): void {
    if (record.view !== 0) {
      return;
    }
    switch (record.type) {
      case "hello":
        if (record.version !== VERSION) {
          throw new ProtocolError(`version ${record.version} of the display protocol is unknown`);
        }
        this.world.emit({ type: "mayInput", mayInput: record.mayInput });
        this.takeAbilities(NO_ABILITIES);
        return;
      case "size":
      case "fill":
      case "copy":
      case "raw":
      case "image":
        connection.frames.add(record);
        return;
      case "frameEnd":
        connection.frames.end(record.sequence);
        return;
      case "status":
        this.takeStatus(connection, record.state, record.text);
        return;
      case "pong":
        this.takePong(record.id);
        return;
      case "cursor":
        this.world.emit({ type: "cursor", shape: record.shape });
        return;
      case "cursorPosition":
        this.world.emit({ type: "cursorPosition", x: record.x, y: record.y });
        return;
      case "pointerMode":
        this.world.emit({ type: "pointerMode", relative: record.relative });
        return;
      case "lockKeys": {
        const { scroll, number, caps } = record;
        this.world.emit({ type: "lockKeys", scroll, number, caps });
        return;
      }
      case "abilities":
        this.takeAbilities(record.abilities);
        return;
      case "clipboard": {
        const piece = connection.copied.add(record);
        if (piece !== undefined) {
          this.world.emit({ type: "clipboard", piece });
        } else if (record.more) {
          this.world.emit({ type: "clipboardComing" });
        }
      }
    }
  }

  private takeAbilities(abilities: Abilities): void {
    this.window.setFollows(abilities.followsWindow);
    this.world.emit({ type: "abilities", abilities });
  }

  private takeStatus(connection: Connection, status: number, text: string): void {
    connection.status = status;
    this.endText = status === Status.ended ? text : "";
    this.world.emit({ type: "status", status, text });
    clearTimeout(this.pictureTimer);
    if (status === Status.connecting) {
      connection.pictureSeen = false;
      this.setState(this.everConnected ? "lost" : "connecting");
    } else if (status === Status.connected || status === Status.paused) {
      if (connection.pictureSeen) {
        this.setConnected();
      } else {
        this.pictureTimer = setTimeout(() => this.setConnected(), PICTURE_WAIT_MS);
      }
    }
  }

  private presented(connection: Connection, sequence: number, drawMicros: number): void {
    if (connection !== this.connection) {
      return;
    }
    connection.socket.send(encodeAck(sequence, drawMicros));
    connection.pictureSeen = true;
    this.frameCount += 1;
    this.framesSincePulse += 1;
    this.world.emit({ type: "frame", count: this.frameCount });
    if (connection.status !== Status.connecting) {
      this.setConnected();
    }
  }

  private setConnected(): void {
    clearTimeout(this.pictureTimer);
    this.everConnected = true;
    this.failedAttempts = 0;
    this.setState("connected");
  }

  private closed(connection: Connection, code: number): void {
    if (connection !== this.connection) {
      return;
    }
    const { openedAt } = connection;
    this.drop();
    const reason = FINAL_CODES[code];
    if (reason !== undefined) {
      this.setState("ended");
      this.world.emit({ type: "ended", reason, text: this.endText });
      return;
    }
    if (openedAt !== undefined && connection.pictureSeen) {
      this.backoff.lived(this.world.now() - openedAt);
    }
    if (!connection.pictureSeen) {
      this.failedAttempts += 1;
      this.world.emit({ type: "attemptFailed", count: this.failedAttempts });
    }
    this.setState(this.everConnected ? "lost" : "connecting");
    this.redialTimer = setTimeout(() => this.dial(), this.backoff.next());
  }

  /** Breaks a connection whose other end made a mistake; dialling again gives a clean start. */
  private fail(connection: Connection, error: ProtocolError): void {
    if (connection !== this.connection) {
      return;
    }
    console.error(`display protocol: ${error.message}`);
    connection.socket.close(CLOSE_PROTOCOL, "protocol error");
    this.closed(connection, CLOSE_PROTOCOL);
  }

  private retry(): void {
    if (this.redialTimer !== undefined) {
      this.dial();
    } else if (this.connection?.openedAt === undefined && this.connection !== undefined) {
      // A handshake begun before the network came back may hang: begin another.
      this.drop();
      this.dial();
    }
  }

  private end(): void {
    this.drop();
    this.state = "ended";
  }

  /** Leaves the connection, if there is one, without waiting for its close handshake. */
  private drop(): void {
    this.clearTimers();
    const connection = this.connection;
    this.connection = undefined;
    if (connection === undefined) {
      return;
    }
    const { socket } = connection;
    socket.onopen = socket.onmessage = socket.onclose = null;
    if (socket.readyState === 0 || socket.readyState === 1) {
      socket.close();
    }
    connection.frames.stop();
  }

  private send(bytes: Uint8Array<ArrayBuffer>, droppable: boolean): void {
    const socket = this.connection?.socket;
    // What is typed while disconnected is not kept: it would arrive at another moment's screen.
    if (socket === undefined || this.connection?.openedAt === undefined || socket.readyState !== 1) {
      return;
    }
    const stale = droppable && isMove(bytes) && socket.bufferedAmount > SEND_BACKLOG_MAX_BYTES;
    if (!stale) {
      socket.send(bytes);
    }
  }

  private refresh(): void {
    const now = this.world.now();
    if (now - this.refreshedAt >= REFRESH_INTERVAL_MS) {
      this.refreshedAt = now;
      this.send(encodeRefresh(), false);
    }
  }

  /** Every two seconds: measure, and notice a connection that died in silence. */
  private pulse(connection: Connection): void {
    const now = this.world.now();
    if (now - connection.heardAt > SILENCE_MAX_MS) {
      this.closed(connection, 1006);
      return;
    }
    this.ping(now);
    const seconds = (now - this.pulsedAt) / 1000;
    this.world.emit({
      type: "statistics",
      statistics: {
        latencyMs: this.latencyMs,
        bytesPerSecond: this.bytesSincePulse / seconds,
        framesPerSecond: this.framesSincePulse / seconds,
      },
    });
    this.bytesSincePulse = 0;
    this.framesSincePulse = 0;
    this.pulsedAt = now;
    this.pulseTimer = setTimeout(() => this.pulse(connection), PING_INTERVAL_MS);
  }

  private ping(now: number): void {
    this.pingId += 1n;
    this.pingSentAt = now;
    this.send(encodePing(this.pingId), false);
  }

  private takePong(id: bigint): void {
    if (id === this.pingId && this.pingSentAt !== undefined) {
      this.latencyMs = this.world.now() - this.pingSentAt;
      this.pingSentAt = undefined;
    }
  }

  private setState(state: DisplayState): void {
    if (state !== this.state) {
      this.state = state;
      this.world.emit({ type: "state", state });
    }
  }

  private clearTimers(): void {
    clearTimeout(this.redialTimer);
    clearTimeout(this.dialTimer);
    clearTimeout(this.pictureTimer);
    clearTimeout(this.pulseTimer);
    this.redialTimer = undefined;
  }
}

function isMove(bytes: Uint8Array): boolean {
  return bytes[0] === BrowserType.pointer || bytes[0] === BrowserType.pointerDelta;
}

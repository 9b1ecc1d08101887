// The display client's core: takes what comes over the line, feeds the frames, tells the page.
// Runs in a worker, or on the page where a worker cannot draw.

import { MonitorCanvases } from "./canvases.js";
import { Drawing } from "./drawing.js";
import { Line } from "./line.js";
import type { DisplayState, EndReason, EngineCommand, EngineEvent } from "./messages.js";
import { Meter } from "./meter.js";
import { encodeWindows } from "./monitors.js";
import type { Painter, Surface } from "./painter.js";
import type { Picture } from "./pictures.js";
import { PieceAssembler } from "./pieces.js";
import {
  type Abilities,
  BrowserType,
  decodeMessage,
  encodeAck,
  encodeCannotDecode,
  encodeHello,
  encodeRefresh,
  encodeReleaseAll,
  encodeWindow,
  type GatewayRecord,
  ProtocolError,
  type Skills,
  Status,
  SUBPROTOCOL,
  VERSION,
  type WindowSize,
} from "./protocol.js";
import { Uploads } from "./uploads.js";
import type { VideoOutlets } from "./video.js";
import { WindowFollower } from "./window.js";

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
  takesFiles: false,
  hasSound: false,
  takesMicrophone: false,
};

/** Close codes after which the display does not dial again. */
const FINAL_CODES: Readonly<Record<number, EndReason | undefined>> = {
  1000: "finished",
  4001: "signedOut",
  4002: "takenOver",
  4003: "notYours",
  4004: "letGo",
};

/** What the engine needs of the world around it. */
export interface Surroundings {
  dial(url: string, subprotocol: string): WebSocket;
  /** Whether the gateway's machine answers at all. */
  reach(stop: AbortSignal): Promise<boolean>;
  paint(surface: Surface, tileCacheBytes: number): Painter;
  decode(mime: string, bytes: Uint8Array): Promise<Picture>;
  newVideoDecoder: VideoOutlets["newDecoder"];
  newVideoChunk: VideoOutlets["newChunk"];
  /** What this browser can do, which takes a moment to find out. */
  skills(): Promise<Skills>;
  /** Milliseconds of a monotonic clock. */
  now(): number;
  emit(event: EngineEvent): void;
}

/** What belongs to one socket. */
interface Connection {
  readonly drawing: Drawing;
  /** What the guest copied, as far as it came. */
  readonly copied: PieceAssembler;
  /** The last status record of this connection. */
  status: number | undefined;
  pictureSeen: boolean;
}

type Timer = ReturnType<typeof setTimeout>;

/** One display: start it once, then send it commands. */
export class Engine {
  private readonly line: Line;
  private connection: Connection | undefined;
  private painter: Painter | undefined;
  private canvases: MonitorCanvases | undefined;
  private url = "";
  private readonly window = new WindowFollower(
    ([first, ...others]) =>
      this.line.send(others.length === 0 ? encodeWindow(first) : encodeWindows([first, ...others])),
  );
  private skills: Skills = { webp: false, h264: false, opus: false, tileCacheBytes: 0 };
  private state: DisplayState | undefined;
  private everConnected = false;
  private failedAttempts = 0;
  private frameCount = 0;
  private endText = "";
  private refreshedAt = Number.NEGATIVE_INFINITY;
  private pictureTimer: Timer | undefined;
  private readonly meter: Meter;
  private readonly uploads: Uploads;

  constructor(private readonly world: Surroundings) {
    this.meter = new Meter(() => world.now());
    this.line = new Line({
      now: () => world.now(),
      dial: () => world.dial(this.url, SUBPROTOCOL),
      reach: (stop) => world.reach(stop),
      opened: () => this.opened(),
      message: (data) => this.received(data),
      silent: () => this.fellSilent(),
      closed: (code, wasOpen) => this.closed(code, wasOpen),
      pulse: () => this.tellStatistics(),
    });
    this.uploads = new Uploads(this.line);
  }

  /** Takes one command of the page. */
  command(command: EngineCommand): void {
    switch (command.type) {
      case "start":
        void this.start(command.surface, command.url, command.window);
        return;
      case "send":
        this.send(command.bytes, command.droppable);
        return;
      case "upload":
        this.uploads.push(command.bytes);
        return;
      case "retry":
        if (this.painter !== undefined && this.state !== "ended") {
          this.line.check();
        }
        return;
      case "takeBack":
        if (this.state === "ended") {
          this.away();
          this.line.dial();
        }
        return;
      case "window":
        this.window.resize(command.window);
        return;
      case "openMonitor":
        this.canvases?.open(command.monitor, command.surface);
        return;
      case "closeMonitor":
        this.canvases?.close(command.monitor);
        return;
      case "windows":
        this.window.others(command.windows);
        return;
      case "stop":
        this.end();
    }
  }

  private async start(surface: Surface, url: string, window: WindowSize): Promise<void> {
    this.url = url;
    this.window.resize(window);
    this.setState("connecting");
    this.skills = await this.world.skills();
    if (this.state === "connecting") {
      const painter = this.world.paint(surface, this.skills.tileCacheBytes);
      this.painter = painter;
      this.canvases = new MonitorCanvases(surface, {
        split: (parts) => painter.split(parts),
        changed: (most, shown) => this.world.emit({ type: "monitors", most, shown }),
        sized: (width, height) => this.world.emit({ type: "size", width, height }),
      });
      this.line.dial();
    }
  }

  /** A socket is open: what came over the one before is void, what it drew stays until there is more. */
  private opened(): void {
    const { painter } = this;
    if (painter === undefined) {
      return;
    }
    this.dropConnection();
    if (this.state === "connected") {
      this.away();
    }
    this.canvases?.forget();
    const connection: Connection = {
      drawing: new Drawing(painter, this.world, {
        presented: (sequence, micros) => this.presented(connection, sequence, micros),
        resized: (width, height) => this.resized(width, height),
        spoiled: () => this.refresh(),
        failed: (error) => this.fail(connection, error),
        cannotDecode: (region, what) => this.line.send(encodeCannotDecode(region, what)),
      }),
      copied: new PieceAssembler(),
      status: undefined,
      pictureSeen: false,
    };
    this.connection = connection;
    this.meter.begin();
    this.line.send(encodeHello(this.skills, this.window.ofHello));
  }

  private received(data: unknown): void {
    const { connection } = this;
    if (connection === undefined) {
      return;
    }
    try {
      if (!(data instanceof ArrayBuffer)) {
        throw new ProtocolError("a text message came");
      }
      this.meter.bytes(data.byteLength);
      for (const record of decodeMessage(data)) {
        this.take(connection, record);
      }
      if (this.state === "lost" && connection.pictureSeen && connection.status !== Status.connecting) {
        // It was only silent for a while.
        this.setConnected();
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) {
        throw error;
      }
      this.fail(connection, error);
    }
  }

  private take(connection: Connection, record: GatewayRecord): void {
    if (record.view !== 0 || connection !== this.connection) {
      return;
    }
    this.meter.record(record);
    if (connection.drawing.take(record)) {
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
      case "sharing":
        this.world.emit({ type: "sharing", news: record.news });
        return;
      case "monitors":
        this.canvases?.tell(record.monitors);
        return;
      case "status":
        this.takeStatus(connection, record.state, record.text);
        return;
      case "pong":
        this.line.pong(record.id);
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
      case "lockKeys":
        this.world.emit({ type: "lockKeys", caps: record.caps, number: record.number });
        return;
      case "fetched":
        this.world.emit({ type: "fetched" });
        return;
      case "abilities":
        this.takeAbilities(record.abilities);
        return;
      case "media":
        // A copy: the message is larger and goes to nobody else.
        this.world.emit({ type: "media", kind: record.kind, bytes: record.bytes.slice() });
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
    this.painter?.present();
    this.line.send(encodeAck(sequence, drawMicros));
    connection.pictureSeen = true;
    this.line.prove();
    this.frameCount += 1;
    this.meter.frame(drawMicros);
    this.world.emit({ type: "frame", count: this.frameCount });
    if (connection.status !== Status.connecting) {
      this.setConnected();
    }
  }

  private resized(width: number, height: number): void {
    this.meter.size(width, height);
    this.canvases?.resized(width, height);
  }

  private setConnected(): void {
    clearTimeout(this.pictureTimer);
    this.everConnected = true;
    this.failedAttempts = 0;
    this.setState("connected");
  }

  /** The picture, if there ever was one, is not to be trusted any more. */
  private away(): void {
    this.setState(this.everConnected ? "lost" : "connecting");
  }

  /** The page forgets what the person holds; so does the gateway, should it hear this. */
  private fellSilent(): void {
    this.line.send(encodeReleaseAll());
    this.away();
  }

  /** A connection is over, or an attempt was in vain; false when there shall be no other. */
  private closed(code: number, wasOpen: boolean): boolean {
    const pictureSeen = this.connection?.pictureSeen === true;
    if (wasOpen) {
      this.dropConnection();
    }
    const reason = FINAL_CODES[code];
    if (reason !== undefined) {
      this.setState("ended");
      this.world.emit({ type: "ended", reason, text: this.endText });
      return false;
    }
    if (!pictureSeen) {
      this.failedAttempts += 1;
      this.world.emit({ type: "attemptFailed", count: this.failedAttempts });
    }
    if (wasOpen || this.connection === undefined) {
      this.away();
    }
    return true;
  }

  /** Breaks a connection whose other end made a mistake; dialling again gives a clean start. */
  private fail(connection: Connection, error: ProtocolError): void {
    if (connection !== this.connection) {
      return;
    }
    console.error(`display protocol: ${error.message}`);
    this.line.break(CLOSE_PROTOCOL, "protocol error");
  }

  private end(): void {
    this.line.stop();
    this.dropConnection();
    this.state = "ended";
  }

  private dropConnection(): void {
    clearTimeout(this.pictureTimer);
    const { connection } = this;
    this.connection = undefined;
    connection?.drawing.stop();
    this.uploads.clear();
    if (connection !== undefined) {
      this.world.emit({ type: "abilities", abilities: NO_ABILITIES });
    }
  }

  private send(bytes: Uint8Array<ArrayBuffer>, droppable: boolean): void {
    // What is typed while disconnected is not kept: it would arrive at another moment's screen.
    const stale = droppable && isMove(bytes) && this.line.backlog > SEND_BACKLOG_MAX_BYTES;
    if (!stale) {
      this.line.send(bytes);
    }
  }

  private refresh(): void {
    const now = this.world.now();
    if (now - this.refreshedAt >= REFRESH_INTERVAL_MS) {
      this.refreshedAt = now;
      this.line.send(encodeRefresh());
    }
  }

  private tellStatistics(): void {
    this.world.emit({ type: "statistics", statistics: this.meter.read(this.line.latencyMs) });
  }

  private setState(state: DisplayState): void {
    if (state !== this.state) {
      this.state = state;
      this.world.emit({ type: "state", state });
    }
  }
}

function isMove(bytes: Uint8Array): boolean {
  return bytes[0] === BrowserType.pointer || bytes[0] === BrowserType.pointerDelta;
}

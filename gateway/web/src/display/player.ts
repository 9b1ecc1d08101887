// Plays a recording through the same frames and painter as a live display, without a socket.

import { Drawing, type DrawingWorld } from "./drawing.js";
import type { Surroundings } from "./engine.js";
import type { Painter, Surface } from "./painter.js";
import { decodeMessage, type GatewayRecord, ProtocolError, Status } from "./protocol.js";
import type { Recording } from "./recording.js";

/** Frames that are on their way to the canvas; more would only fill the memory. */
const FRAMES_AHEAD_MAX = 4;
/** How often the place in the recording is told. */
const TELL_MS = 100;

/** What a player is given: the parts of the engine's surroundings that it needs. */
export type PlayerWorld = DrawingWorld & Pick<Surroundings, "paint">;

/** What the page hears. */
export interface PlayerOutlets {
  /** Where it is, in milliseconds, and whether it goes on. */
  place(milliseconds: number, playing: boolean): void;
  /** What the gateway said of the desktop; empty when there is nothing to say. */
  status(text: string): void;
  failed(error: Error): void;
}

/** One recording on one canvas. */
export class Player {
  private readonly painter: Painter;
  private drawing: Drawing | undefined;
  /** The message that comes next. */
  private next = 0;
  /** Frames that ended and are not on the canvas yet. */
  private ahead = 0;
  private place = 0;
  private speed = 1;
  private playing = false;
  /** Everything up to here is drawn as fast as it goes. */
  private hurryTo = 0;
  /** Goes up with every start over: what was begun before it is void. */
  private turn = 0;
  private lookedAt = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private feeding = false;

  constructor(
    surface: Surface,
    private readonly recording: Recording,
    private readonly world: PlayerWorld,
    private readonly outlets: PlayerOutlets,
  ) {
    this.painter = world.paint(surface, 0);
    this.startOver(0);
  }

  play(): void {
    if (this.place >= this.recording.duration) {
      this.seek(0);
    }
    this.playing = true;
    this.lookedAt = this.world.now();
    this.step();
  }

  pause(): void {
    this.playing = false;
    this.tell();
  }

  /** How many times as fast as it was. */
  setSpeed(speed: number): void {
    this.speed = Math.min(Math.max(speed, 0.1), 64);
  }

  /** Goes to this time, in milliseconds: draws what led to it, from the last point that needs nothing before. */
  seek(milliseconds: number): void {
    const wanted = Math.min(Math.max(milliseconds, 0), this.recording.duration);
    const key = this.recording.keyBefore(wanted);
    const isOnTheWay = this.recording.time(this.next - 1) <= wanted && key <= this.next;
    if (!isOnTheWay) {
      this.startOver(key);
    }
    this.place = this.hurryTo = wanted;
    this.lookedAt = this.world.now();
    this.step();
  }

  stop(): void {
    this.playing = false;
    this.turn += 1;
    clearTimeout(this.timer);
    this.drawing?.stop();
  }

  private startOver(message: number): void {
    this.drawing?.stop();
    this.turn += 1;
    this.ahead = 0;
    this.next = message;
    const { turn } = this;
    this.drawing = new Drawing(this.painter, this.world, {
      presented: () => {
        if (turn === this.turn) {
          this.ahead -= 1;
          this.step();
        }
      },
      resized: () => undefined,
      spoiled: () => undefined,
      failed: (error) => this.fail(error),
      cannotDecode: () => undefined,
    });
  }

  /** Goes on with what is due by now. */
  private step(): void {
    const now = this.world.now();
    const isHurrying = this.recording.time(this.next) <= this.hurryTo;
    const isStuck = this.ahead >= FRAMES_AHEAD_MAX;
    // Where drawing does not keep up, time waits for it.
    if (this.playing && !isHurrying && !isStuck) {
      this.place = Math.min(this.place + (now - this.lookedAt) * this.speed, this.recording.duration);
    }
    this.lookedAt = now;
    void this.feed();
    if (this.playing && this.place >= this.recording.duration && this.next >= this.recording.count) {
      this.playing = false;
    }
    this.tell();
    clearTimeout(this.timer);
    if (this.playing) {
      const wait = (this.recording.time(this.next) - this.place) / this.speed;
      this.timer = setTimeout(() => this.step(), Math.min(Math.max(wait, 4), TELL_MS));
    }
  }

  private async feed(): Promise<void> {
    if (this.feeding) {
      return;
    }
    this.feeding = true;
    try {
      while (this.ahead < FRAMES_AHEAD_MAX && this.recording.time(this.next) <= this.place) {
        const { turn } = this;
        const message = await this.recording.message(this.next);
        if (turn !== this.turn) {
          continue;
        }
        this.next += 1;
        for (const record of decodeMessage(message)) {
          this.take(record);
        }
      }
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)));
    } finally {
      this.feeding = false;
    }
  }

  private take(record: GatewayRecord): void {
    if (record.view !== 0) {
      return;
    }
    if (record.type === "status") {
      this.outlets.status(record.state === Status.connected ? "" : record.text);
      return;
    }
    if (record.type === "frameEnd") {
      // It may be drawn at once.
      this.ahead += 1;
    }
    this.drawing?.take(record);
  }

  private tell(): void {
    this.outlets.place(this.place, this.playing);
  }

  private fail(error: Error): void {
    this.stop();
    this.tell();
    this.outlets.failed(error instanceof ProtocolError ? new Error(`the recording is broken: ${error.message}`) : error);
  }
}

// Turns drawing records into frames: images are decoded side by side, everything is drawn in order,
// and a frame is drawn in one go, so that no half picture is ever presented.

import type { Painter } from "./painter.js";
import { closePicture, type Picture } from "./pictures.js";
import { ProtocolError, type GatewayRecord } from "./protocol.js";
import type { VideoRecord } from "./video.js";

/** A frame of more records than this is a fault: 8K in slivers of 33 pixels would be a million. */
const RECORDS_MAX = 2 ** 20;

/** Records that draw, and those that read what was drawn. */
const DRAWING = ["size", "fill", "copy", "raw", "image", "palette", "keep", "recall", "video"] as const;
export type DrawingRecord = Extract<GatewayRecord, { type: (typeof DRAWING)[number] }>;

/** Whether a record belongs to a frame. */
export function isDrawing(record: GatewayRecord): record is DrawingRecord {
  return (DRAWING as readonly string[]).includes(record.type);
}

interface Decoding {
  picture: Picture | VideoFrame | undefined;
  failed: boolean;
}

interface Step {
  readonly record: DrawingRecord;
  readonly decoding: Decoding | undefined;
}

interface Frame {
  steps: Step[];
  /** Images of this frame that are still being decoded. */
  undecoded: number;
  sequence: number;
  endedAt: number;
  ended: boolean;
}

/** What a frame pipeline is given. */
export interface FrameOutlets {
  now(): number;
  decode(mime: string, bytes: Uint8Array): Promise<Picture>;
  /** undefined where there is no picture to be had, of which the gateway knows. */
  decodeVideo(record: VideoRecord): Promise<VideoFrame | undefined>;
  /** The frame is on the surface; `drawMicros` counts from its frame end. */
  presented(sequence: number, drawMicros: number): void;
  /** The surface has another size now. */
  resized(width: number, height: number): void;
  /** An image of the frame could not be decoded: the picture is wrong until it is sent again. */
  spoiled(): void;
  /** The gateway said something impossible. */
  failed(error: ProtocolError): void;
}

/** The frames of one connection. */
export class FramePipeline {
  private readonly queue: Frame[] = [newFrame()];
  private stopped = false;

  constructor(
    private readonly painter: Painter,
    private readonly outlets: FrameOutlets,
  ) {}

  /** Adds a record to the frame that is being received and starts to decode its image. */
  add(record: DrawingRecord): void {
    const frame = this.receiving();
    if (frame.steps.length >= RECORDS_MAX) {
      throw new ProtocolError("a frame has too many records");
    }
    if (record.type !== "image" && record.type !== "video") {
      frame.steps.push({ record, decoding: undefined });
      return;
    }
    const decoding: Decoding = { picture: undefined, failed: false };
    frame.steps.push({ record, decoding });
    frame.undecoded += 1;
    const decoded: Promise<Picture | VideoFrame | undefined> =
      record.type === "video"
        ? this.outlets.decodeVideo(record)
        : this.outlets.decode(record.mime, record.bytes);
    decoded.then(
      (picture) => this.decoded(frame, decoding, picture),
      () => {
        decoding.failed = true;
        this.decoded(frame, decoding, undefined);
      },
    );
  }

  /** The frame is complete; it is drawn as soon as its images and the frames before it are there. */
  end(sequence: number): void {
    const frame = this.receiving();
    frame.sequence = sequence;
    frame.endedAt = this.outlets.now();
    frame.ended = true;
    this.queue.push(newFrame());
    this.drain();
  }

  /** Drops everything not drawn yet; what is on the surface stays. */
  stop(): void {
    this.stopped = true;
    for (const frame of this.queue) {
      closeAll(frame);
    }
    this.queue.length = 0;
  }

  private receiving(): Frame {
    const frame = this.queue[this.queue.length - 1];
    if (frame === undefined) {
      throw new ProtocolError("the connection is over");
    }
    return frame;
  }

  private decoded(frame: Frame, decoding: Decoding, picture: Picture | VideoFrame | undefined): void {
    if (this.stopped) {
      if (picture !== undefined) {
        closePicture(picture);
      }
      return;
    }
    decoding.picture = picture;
    frame.undecoded -= 1;
    this.drain();
  }

  private drain(): void {
    for (;;) {
      const frame = this.queue[0];
      if (this.stopped || frame === undefined || !frame.ended || frame.undecoded > 0) {
        return;
      }
      this.queue.shift();
      if (!this.draw(frame)) {
        return;
      }
      this.outlets.presented(frame.sequence, (this.outlets.now() - frame.endedAt) * 1000);
    }
  }

  private draw(frame: Frame): boolean {
    try {
      let whole = true;
      for (const step of frame.steps) {
        const drawn = this.drawStep(step);
        whole &&= drawn;
      }
      if (!whole) {
        this.outlets.spoiled();
      }
      return true;
    } catch (error) {
      if (!(error instanceof ProtocolError)) {
        throw error;
      }
      this.outlets.failed(error);
      return false;
    } finally {
      closeAll(frame);
    }
  }

  /** False when the picture is wrong there now. */
  private drawStep({ record, decoding }: Step): boolean {
    const { painter } = this;
    switch (record.type) {
      case "size":
        painter.resize(record.width, record.height);
        this.outlets.resized(record.width, record.height);
        return true;
      case "fill":
        painter.fill(record.area, record.red, record.green, record.blue);
        return true;
      case "copy":
        painter.copy(record.area, record.sourceX, record.sourceY);
        return true;
      case "raw":
        painter.raw(record.area, record.pixels);
        return true;
      case "palette":
        painter.palette(record);
        return true;
      case "keep":
        painter.keep(record.tiles);
        return true;
      case "recall":
        return painter.recall(record.tiles);
      case "image":
        if (decoding?.picture !== undefined) {
          painter.picture(record.area, decoding.picture as Picture);
        }
        return decoding?.failed !== true;
      case "video":
        if (decoding?.picture !== undefined) {
          painter.video(record.area, decoding.picture as VideoFrame);
        }
        return decoding?.failed !== true;
    }
  }
}

function newFrame(): Frame {
  return { steps: [], undecoded: 0, sequence: 0, endedAt: 0, ended: false };
}

function closeAll(frame: Frame): void {
  for (const { decoding } of frame.steps) {
    if (decoding?.picture !== undefined) {
      closePicture(decoding.picture);
      decoding.picture = undefined;
    }
  }
}

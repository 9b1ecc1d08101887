// Turns drawing records into frames: images are decoded side by side, everything is drawn in order,
// and a frame is drawn in one go, so that no half picture is ever presented.

import { closePicture, type Painter, type Picture } from "./painter.js";
import { ProtocolError, type GatewayRecord } from "./protocol.js";

/** A frame of more records than this is a fault: 8K in slivers of 33 pixels would be a million. */
const RECORDS_MAX = 2 ** 20;

type DrawingRecord = Extract<GatewayRecord, { type: "size" | "fill" | "copy" | "raw" | "image" }>;

interface Decoding {
  picture: Picture | undefined;
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
    if (record.type !== "image") {
      frame.steps.push({ record, decoding: undefined });
      return;
    }
    const decoding: Decoding = { picture: undefined, failed: false };
    frame.steps.push({ record, decoding });
    frame.undecoded += 1;
    this.outlets.decode(record.mime, record.bytes).then(
      (picture) => this.decoded(frame, decoding, picture),
      () => this.decoded(frame, decoding, undefined),
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

  private decoded(frame: Frame, decoding: Decoding, picture: Picture | undefined): void {
    if (this.stopped) {
      if (picture !== undefined) {
        closePicture(picture);
      }
      return;
    }
    decoding.picture = picture;
    decoding.failed = picture === undefined;
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
      for (const step of frame.steps) {
        this.drawStep(step);
      }
      if (frame.steps.some((step) => step.decoding?.failed === true)) {
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

  private drawStep({ record, decoding }: Step): void {
    switch (record.type) {
      case "size":
        this.painter.resize(record.width, record.height);
        this.outlets.resized(record.width, record.height);
        return;
      case "fill":
        this.painter.fill(record.area, record.red, record.green, record.blue);
        return;
      case "copy":
        this.painter.copy(record.area, record.sourceX, record.sourceY);
        return;
      case "raw":
        this.painter.raw(record.area, record.pixels);
        return;
      case "image":
        if (decoding?.picture !== undefined) {
          this.painter.picture(record.area, decoding.picture);
        }
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

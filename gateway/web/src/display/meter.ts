// Measures what comes: bytes, frames and the ways in which pictures come.

import type { Codec, Statistics } from "./messages.js";
import type { GatewayRecord } from "./protocol.js";

const BY_MIME: Readonly<Record<string, Codec>> = {
  "image/png": "png",
  "image/webp": "webp",
  "image/jpeg": "jpeg",
};

/** Counts from one reading to the next. */
export class Meter {
  private since = 0;
  private byteCount = 0;
  private frameCount = 0;
  private drawMicros = 0;
  private width = 0;
  private height = 0;
  private readonly byCodec = new Map<Codec, number>();

  constructor(private readonly now: () => number) {}

  /** A connection begins; what was counted before is not this one's. */
  begin(): void {
    this.since = this.now();
    this.byteCount = 0;
    this.frameCount = 0;
    this.drawMicros = 0;
    this.byCodec.clear();
  }

  bytes(count: number): void {
    this.byteCount += count;
  }

  frame(drawMicros: number): void {
    this.frameCount += 1;
    this.drawMicros += drawMicros;
  }

  size(width: number, height: number): void {
    this.width = width;
    this.height = height;
  }

  record(record: GatewayRecord): void {
    switch (record.type) {
      case "image":
        this.came(BY_MIME[record.mime] ?? "png", record.bytes.length);
        return;
      case "palette":
        this.came("palette", record.pixels.length);
        return;
      case "raw":
        this.came("raw", record.pixels.length);
        return;
      case "video":
        this.came("h264", record.bytes.length);
        return;
      case "recall":
        this.came("tiles", record.tiles.count);
        return;
      default:
        return;
    }
  }

  /** What was measured since the last reading. */
  read(latencyMs: number | undefined): Statistics {
    const seconds = (this.now() - this.since) / 1000;
    const codecs = Array.from(this.byCodec).sort((one, other) => other[1] - one[1]);
    const statistics: Statistics = {
      latencyMs,
      bytesPerSecond: this.byteCount / seconds,
      framesPerSecond: this.frameCount / seconds,
      codecs: codecs.map(([codec]) => codec),
      drawMs: this.frameCount === 0 ? undefined : this.drawMicros / this.frameCount / 1000,
      width: this.width,
      height: this.height,
    };
    this.begin();
    return statistics;
  }

  private came(codec: Codec, bytes: number): void {
    this.byCodec.set(codec, (this.byCodec.get(codec) ?? 0) + bytes);
  }
}

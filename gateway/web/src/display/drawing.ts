// The records that draw, of one connection or one recording: their frames, and the regions of video in them.

import type { Surroundings } from "./engine.js";
import { type FrameOutlets, FramePipeline, isDrawing } from "./frames.js";
import type { Painter } from "./painter.js";
import type { GatewayRecord } from "./protocol.js";
import { type VideoOutlets, VideoRegions } from "./video.js";

/** What drawing needs of the world around it. */
export type DrawingWorld = Pick<Surroundings, "decode" | "newVideoDecoder" | "newVideoChunk" | "now">;

/** Where it is told how drawing goes. */
export type DrawingOutlets = Pick<FrameOutlets, "presented" | "resized" | "spoiled" | "failed"> &
  Pick<VideoOutlets, "cannotDecode">;

/** What is drawn. It is used up when it is stopped. */
export class Drawing {
  private readonly frames: FramePipeline;
  private readonly video: VideoRegions;

  constructor(painter: Painter, world: DrawingWorld, outlets: DrawingOutlets) {
    this.video = new VideoRegions({
      newDecoder: (output, error) => world.newVideoDecoder(output, error),
      newChunk: (init) => world.newVideoChunk(init),
      cannotDecode: (region, what) => outlets.cannotDecode(region, what),
    });
    this.frames = new FramePipeline(painter, {
      ...outlets,
      now: () => world.now(),
      decode: (mime, bytes) => world.decode(mime, bytes),
      decodeVideo: (record) => this.video.decode(record),
    });
  }

  /** Takes a record that draws, or that ends a frame or a region of video; false for any other. */
  take(record: GatewayRecord): boolean {
    if (isDrawing(record)) {
      this.frames.add(record);
      return true;
    }
    switch (record.type) {
      case "videoEnd":
        this.video.end(record.region);
        return true;
      case "frameEnd":
        this.frames.end(record.sequence);
        return true;
      default:
        return false;
    }
  }

  /** Drops everything not drawn yet; what is on the surface stays. */
  stop(): void {
    this.frames.stop();
    this.video.stop();
  }
}

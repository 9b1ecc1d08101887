// Regions of video: one H.264 decoder each, whose pictures take their place among the other records.

import { CannotDecode, type GatewayRecord, VIDEO_REGIONS_MAX } from "./protocol.js";

/** A record with one access unit. */
export type VideoRecord = Extract<GatewayRecord, { type: "video" }>;

/** The part of a `VideoDecoder` that is used here. */
export interface Decoder {
  readonly state: CodecState;
  configure(config: VideoDecoderConfig): void;
  decode(chunk: EncodedVideoChunk): void;
  flush(): Promise<void>;
  close(): void;
}

/** What regions need of the browser. */
export interface VideoOutlets {
  newDecoder(output: (picture: VideoFrame) => void, error: (error: Error) => void): Decoder;
  newChunk(init: EncodedVideoChunkInit): EncodedVideoChunk;
  /** The gateway has to hear this of a region. */
  cannotDecode(region: number, what: number): void;
}

/** A decoder that gave no picture for this long keeps it back until it has more: useless here. */
const PICTURE_WAIT_MS = 1500;
/** Faults in a row, without one picture between them, after which no more video is asked for. */
const FAULTS_MAX = 3;
/** Where parameter sets are looked for: they are the first bytes of a key frame. */
const PARAMETERS_WITHIN_BYTES = 256;

/** The regions of one connection. */
export class VideoRegions {
  private readonly regions: (Region | undefined)[] = new Array<undefined>(VIDEO_REGIONS_MAX).fill(undefined);
  private faults = 0;
  /** H.264 does not work here, whatever the browser says. */
  private givenUp = false;

  constructor(private readonly outlets: VideoOutlets) {}

  /** The picture of an access unit; undefined where there is none to be had. */
  decode(record: VideoRecord): Promise<VideoFrame | undefined> {
    if (this.givenUp) {
      return Promise.resolve(undefined);
    }
    const region = this.regions[record.region] ?? this.open(record.region);
    return region.decode(record);
  }

  /** No more of this region comes. What it has still to decode will be decoded. */
  end(region: number): void {
    this.regions[region]?.leave();
    this.regions[region] = undefined;
  }

  /** All decoders go at once. */
  stop(): void {
    for (const region of this.regions) {
      region?.abandon();
    }
    this.regions.fill(undefined);
  }

  private open(number: number): Region {
    const region = new Region(this.outlets, {
      works: () => (this.faults = 0),
      fails: () => this.failed(number),
    });
    this.regions[number] = region;
    return region;
  }

  private failed(number: number): void {
    this.faults += 1;
    this.givenUp ||= this.faults >= FAULTS_MAX;
    this.outlets.cannotDecode(number, this.givenUp ? CannotDecode.ever : CannotDecode.untilKeyFrame);
    if (this.givenUp) {
      this.stop();
    }
  }
}

interface Verdict {
  works(): void;
  fails(): void;
}

interface Pending {
  resolve(picture: VideoFrame | undefined): void;
}

/** One region's stream. */
class Region {
  private decoder: Decoder | undefined;
  /** What the decoder is set up for. */
  private setup = "";
  /** By the time stamp, which is nothing but their number. */
  private readonly pending = new Map<number, Pending>();
  private next = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly outlets: VideoOutlets,
    private readonly verdict: Verdict,
  ) {}

  decode(record: VideoRecord): Promise<VideoFrame | undefined> {
    try {
      if (record.key) {
        this.setUp(record);
      }
      const { decoder } = this;
      if (decoder === undefined) {
        // Passed over until a key frame.
        return Promise.resolve(undefined);
      }
      const timestamp = this.next;
      this.next += 1;
      const type = record.key ? "key" : "delta";
      decoder.decode(this.outlets.newChunk({ type, timestamp, data: record.bytes }));
      return new Promise((resolve) => {
        this.pending.set(timestamp, { resolve });
        this.watch();
      });
    } catch {
      this.fail();
      return Promise.resolve(undefined);
    }
  }

  /** The decoder finishes what it has and goes. */
  leave(): void {
    const { decoder } = this;
    this.decoder = undefined;
    this.setup = "";
    if (decoder !== undefined && decoder.state === "configured") {
      const close = () => {
        if (decoder.state !== "closed") {
          decoder.close();
        }
      };
      decoder.flush().then(close, close);
    }
  }

  /** The decoder goes, and what it has not decoded is lost. */
  abandon(): void {
    const { decoder } = this;
    this.decoder = undefined;
    this.setup = "";
    clearTimeout(this.timer);
    this.timer = undefined;
    if (decoder !== undefined && decoder.state !== "closed") {
      decoder.close();
    }
    const lost = Array.from(this.pending.values());
    this.pending.clear();
    for (const { resolve } of lost) {
      resolve(undefined);
    }
  }

  private setUp(record: VideoRecord): void {
    const codec = codecOf(record.bytes);
    const setup = `${codec} ${record.codedWidth}x${record.codedHeight}`;
    if (this.decoder?.state === "configured" && this.setup === setup) {
      return;
    }
    this.leave();
    const decoder = this.outlets.newDecoder(
      (picture) => this.decoded(picture),
      () => {
        if (decoder === this.decoder) {
          this.fail();
        }
      },
    );
    decoder.configure({
      codec,
      codedWidth: record.codedWidth,
      codedHeight: record.codedHeight,
      optimizeForLatency: true,
    });
    this.decoder = decoder;
    this.setup = setup;
  }

  private decoded(picture: VideoFrame): void {
    const pending = this.pending.get(picture.timestamp);
    this.pending.delete(picture.timestamp);
    this.watch();
    if (pending === undefined) {
      picture.close();
    } else {
      this.verdict.works();
      pending.resolve(picture);
    }
  }

  /** While pictures are awaited, the next one comes within the time. */
  private watch(): void {
    clearTimeout(this.timer);
    this.timer = this.pending.size === 0 ? undefined : setTimeout(() => this.fail(), PICTURE_WAIT_MS);
  }

  private fail(): void {
    this.abandon();
    this.verdict.fails();
  }
}

/** Names the codec as RFC 6381 (3.3) does, from the sequence parameter set in front of a key frame. */
function codecOf(unit: Uint8Array): string {
  const end = Math.min(unit.length - 6, PARAMETERS_WITHIN_BYTES);
  for (let at = 0; at < end; at += 1) {
    const starts = unit[at] === 0 && unit[at + 1] === 0 && unit[at + 2] === 1;
    // H.264, 7.4.1: a sequence parameter set is type 7.
    if (starts && ((unit[at + 3] ?? 0) & 31) === 7) {
      const bytes = Array.from(unit.subarray(at + 4, at + 7));
      return `avc1.${bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
    }
  }
  throw new Error("a key frame has no parameter set");
}

/** Whether this browser decodes the H.264 that gateways send: constrained baseline, up to 1080p. */
export async function decodesH264(): Promise<boolean> {
  if (typeof VideoDecoder !== "function" || typeof EncodedVideoChunk !== "function") {
    return false;
  }
  try {
    const config: VideoDecoderConfig = { codec: "avc1.42e028", optimizeForLatency: true };
    return (await VideoDecoder.isConfigSupported(config)).supported === true;
  } catch {
    return false;
  }
}

// The guest's sound: packets put one behind the other on the time line of an audio context.

import type { MediaRecord, SoundCodec } from "./media-protocol.js";

/** Sound begins so long after it came, so that what comes a little later is still in time. */
const DELAY_SECS = 0.08;
/** More than this waits only behind a line that was stuck: it is skipped. */
const AHEAD_MAX_SECS = 0.3;
/** Packets that wait for the decoder; more come only where it is stuck. */
const DECODING_MAX = 50;
/** Between two volumes nothing clicks. */
const RAMP_SECS = 0.02;

/** What the player needs of the browser. */
export interface SoundWorld {
  /** undefined where the browser has no sound. */
  newContext(rate: number): AudioContext | undefined;
  newDecoder(init: AudioDecoderInit): AudioDecoder;
  newChunk(init: EncodedAudioChunkInit): EncodedAudioChunk;
}

type SoundRecord = MediaRecord & { readonly type: "sound" };

/** Where the next packet goes on a time line. */
export class Schedule {
  private next = 0;

  /** When a packet of this length begins to play; undefined when it is skipped. All in seconds. */
  place(now: number, length: number): number | undefined {
    if (this.next < now) {
      this.next = now + DELAY_SECS;
    } else if (this.next > now + AHEAD_MAX_SECS) {
      return undefined;
    }
    const at = this.next;
    this.next += length;
    return at;
  }
}

/** Plays the sound of one desktop. */
export class SoundPlayer {
  private context: AudioContext | undefined;
  private gain: GainNode | undefined;
  private schedule = new Schedule();
  private decoder: AudioDecoder | undefined;
  private form = "";
  private guest = { volume: 1, muted: false };
  private own = { volume: 1, muted: false };

  constructor(
    private readonly world: SoundWorld,
    /** Whether the browser plays nothing before the person has touched the page. */
    private readonly blocked: (blocked: boolean) => void,
  ) {}

  /** A packet came. */
  take(record: SoundRecord): void {
    const form = `${record.codec} ${record.channels} ${record.rate}`;
    if (form !== this.form) {
      this.setForm(form, record.codec, record.channels, record.rate);
    }
    const { context } = this;
    if (context === undefined || context.state !== "running") {
      this.wake();
      return;
    }
    if (record.codec === "pcm") {
      this.play(record.channels, record.rate, samplesOf(record));
    } else if (this.decoder !== undefined && this.decoder.decodeQueueSize < DECODING_MAX) {
      const { time, bytes } = record;
      this.decoder.decode(this.world.newChunk({ type: "key", timestamp: time * 1000, data: bytes.slice() }));
    }
  }

  /** What the guest's mixer says. */
  setGuest(volume: number, muted: boolean): void {
    this.guest = { volume, muted };
    this.applyVolume();
  }

  /** What the person chose. */
  setOwn(volume: number, muted: boolean): void {
    this.own = { volume, muted };
    this.applyVolume();
  }

  /** The person did something: now the browser lets sound through. */
  wake(): void {
    const { context } = this;
    if (context === undefined || context.state === "closed") {
      return;
    }
    if (context.state !== "running") {
      void context.resume().catch(() => undefined);
    }
    this.blocked(context.state !== "running");
  }

  /** Plays no more. */
  stop(): void {
    this.form = "";
    this.closeDecoder();
    void this.context?.close().catch(() => undefined);
    this.context = undefined;
    this.gain = undefined;
    this.blocked(false);
  }

  private setForm(form: string, codec: SoundCodec, channels: number, rate: number): void {
    this.form = form;
    this.closeDecoder();
    if (this.context?.sampleRate !== rate) {
      void this.context?.close().catch(() => undefined);
      this.openContext(rate);
    }
    this.schedule = new Schedule();
    if (codec === "opus") {
      this.openDecoder(channels, rate);
    }
  }

  private openContext(rate: number): void {
    const context = this.world.newContext(rate);
    this.context = context;
    this.gain = context?.createGain();
    if (context === undefined || this.gain === undefined) {
      return;
    }
    this.gain.connect(context.destination);
    this.applyVolume();
    context.onstatechange = () => context === this.context && this.blocked(context.state !== "running");
  }

  private openDecoder(channels: number, rate: number): void {
    const decoder = this.world.newDecoder({
      output: (data) => {
        if (decoder === this.decoder) {
          this.play(data.numberOfChannels, data.sampleRate, planesOf(data));
        }
        data.close();
      },
      error: () => {
        if (decoder === this.decoder) {
          // The next packet begins anew.
          this.decoder = undefined;
          this.form = "";
        }
      },
    });
    decoder.configure({ codec: "opus", numberOfChannels: channels, sampleRate: rate });
    this.decoder = decoder;
  }

  private closeDecoder(): void {
    const { decoder } = this;
    this.decoder = undefined;
    if (decoder !== undefined && decoder.state !== "closed") {
      decoder.close();
    }
  }

  private play(channels: number, rate: number, planes: readonly Float32Array<ArrayBuffer>[]): void {
    const { context, gain } = this;
    const length = planes[0]?.length ?? 0;
    if (context === undefined || gain === undefined || length === 0) {
      return;
    }
    const at = this.schedule.place(context.currentTime, length / rate);
    if (at === undefined) {
      return;
    }
    const buffer = context.createBuffer(channels, length, rate);
    planes.forEach((plane, channel) => buffer.copyToChannel(plane, channel));
    const source = context.createBufferSource();
    source.buffer = buffer;
    source.connect(gain);
    source.start(at);
  }

  private applyVolume(): void {
    const { context, gain, guest, own } = this;
    const volume = guest.muted || own.muted ? 0 : guest.volume * own.volume;
    if (context !== undefined && gain !== undefined) {
      gain.gain.setTargetAtTime(volume, context.currentTime, RAMP_SECS);
    }
  }
}

/** The samples of a plain packet, channel by channel; a frame that is cut short is left out. */
export function samplesOf(record: SoundRecord): Float32Array<ArrayBuffer>[] {
  const { bytes, channels } = record;
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = Math.floor(bytes.length / (2 * channels));
  return Array.from({ length: channels }, (_none, channel) =>
    Float32Array.from({ length }, (_sample, at) => data.getInt16(2 * (at * channels + channel), true) / 0x8000),
  );
}

function planesOf(data: AudioData): Float32Array<ArrayBuffer>[] {
  return Array.from({ length: data.numberOfChannels }, (_none, planeIndex) => {
    const plane = new Float32Array(data.numberOfFrames);
    data.copyTo(plane, { planeIndex, format: "f32-planar" });
    return plane;
  });
}

/** Whether the browser decodes Opus by itself. */
export async function playsOpus(): Promise<boolean> {
  try {
    const config = { codec: "opus", numberOfChannels: 2, sampleRate: 48_000 };
    return (await AudioDecoder.isConfigSupported(config)).supported === true;
  } catch {
    return false;
  }
}

/** The real browser. */
export const browserSound: SoundWorld = {
  newContext: (rate) => {
    const Context =
      globalThis.AudioContext ??
      (globalThis as { webkitAudioContext?: typeof AudioContext }).webkitAudioContext;
    try {
      return Context === undefined ? undefined : new Context({ sampleRate: rate, latencyHint: "interactive" });
    } catch {
      // A rate that this machine's sound has not.
      return Context === undefined ? undefined : new Context();
    }
  },
  newDecoder: (init) => new AudioDecoder(init),
  newChunk: (init) => new EncodedAudioChunk(init),
};

// The person's microphone: opened only when the person says so, heard only while the guest records.

import { encodeSpeech } from "./media-protocol.js";

/** Frames that the browser hands over at once: 21 ms at 48 kHz. */
const FRAMES = 1024;
/** Samples of one record; a record has 4 KiB at most. */
const RECORD_SAMPLES_MAX = 1024;

/** off, the person was asked, on, or the browser or the person said no. */
export type MicrophoneState = "off" | "asking" | "on" | "refused";

/** Whether the person has switched it on, whatever the browser says to that. */
export function isSwitchedOn(state: MicrophoneState): boolean {
  return state === "on" || state === "asking";
}

/** Makes samples of one rate out of samples of another, piece by piece. */
export class Resampler {
  /** Where the next sample lies, in samples of the piece that comes next; -1 is the last of the one before. */
  private at = 0;
  private last = 0;

  constructor(
    private readonly from: number,
    private readonly to: number,
  ) {}

  /** 16 bits of each sample. */
  take(piece: Float32Array): Int16Array {
    const step = this.from / this.to;
    const count = Math.max(0, Math.ceil((piece.length - 1 - this.at) / step));
    const out = new Int16Array(count);
    for (let index = 0; index < count; index++) {
      const place = this.at + index * step;
      const left = Math.floor(place);
      const before = left < 0 ? this.last : piece[left]!;
      const value = before + (piece[left + 1]! - before) * (place - left);
      out[index] = Math.round(Math.min(1, Math.max(-1, value)) * 0x7fff);
    }
    this.at += count * step - piece.length;
    this.last = piece[piece.length - 1] ?? this.last;
    return out;
  }
}

/** What the microphone needs of the browser. */
export interface MicrophoneWorld {
  open(): Promise<MediaStream>;
  newContext(): AudioContext;
}

/** One microphone for one desktop. */
export class Microphone {
  private state: MicrophoneState = "off";
  private stream: MediaStream | undefined;
  private context: AudioContext | undefined;
  private processor: ScriptProcessorNode | undefined;
  private resampler: Resampler | undefined;
  private wantedRate = 0;

  constructor(
    private readonly world: MicrophoneWorld,
    private readonly send: (bytes: Uint8Array<ArrayBuffer>) => void,
    private readonly changed: (state: MicrophoneState) => void,
  ) {}

  /** The person switches it on. */
  async start(): Promise<void> {
    if (isSwitchedOn(this.state)) {
      return;
    }
    this.set("asking");
    let stream: MediaStream | undefined;
    try {
      stream = await this.world.open();
      if (this.current() !== "asking") {
        stop(stream);
        return;
      }
      this.listen(stream);
      this.set("on");
    } catch {
      // It may be open, where the browser then has no sound for it.
      stop(stream);
      this.set("refused");
    }
  }

  /** The person, or the end of the connection, switches it off. */
  stop(): void {
    stop(this.stream);
    this.processor?.disconnect();
    void this.context?.close().catch(() => undefined);
    this.stream = this.context = this.processor = undefined;
    if (this.state === "on") {
      this.send(encodeSpeech(undefined));
    }
    this.set("off");
  }

  /** Somebody in the guest records at this rate; 0: nobody does. */
  setWanted(rate: number): void {
    if (rate !== this.wantedRate) {
      this.wantedRate = rate;
      this.resampler = undefined;
    }
  }

  private listen(stream: MediaStream): void {
    const context = this.world.newContext();
    this.stream = stream;
    this.context = context;
    // Works in every browser; a worklet would be a script of its own for a thousand samples at a time.
    const processor = context.createScriptProcessor(FRAMES, 1, 1);
    processor.onaudioprocess = (event) => this.heard(event.inputBuffer.getChannelData(0), context.sampleRate);
    context.createMediaStreamSource(stream).connect(processor);
    // Without somebody who holds it, some browsers take it for garbage.
    this.processor = processor;
    // It works only where it leads somewhere; what it gives is silence.
    processor.connect(context.destination);
    stream.getAudioTracks().forEach((track) => (track.onended = () => this.stop()));
  }

  private heard(piece: Float32Array, rate: number): void {
    if (this.state !== "on" || this.wantedRate === 0) {
      return;
    }
    this.resampler ??= new Resampler(rate, this.wantedRate);
    const samples = this.resampler.take(piece);
    for (let start = 0; start < samples.length; start += RECORD_SAMPLES_MAX) {
      this.send(encodeSpeech(samples.subarray(start, start + RECORD_SAMPLES_MAX)));
    }
  }

  private current(): MicrophoneState {
    return this.state;
  }

  private set(state: MicrophoneState): void {
    this.state = state;
    this.changed(state);
  }
}

function stop(stream: MediaStream | undefined): void {
  stream?.getTracks().forEach((track) => track.stop());
}

/** The real browser. */
export const browserMicrophone: MicrophoneWorld = {
  open: () =>
    navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    }),
  newContext: () => new AudioContext(),
};

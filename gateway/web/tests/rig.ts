// An engine between a fake socket, a fake canvas and fake decoders.

import { vi } from "vitest";
import { Engine } from "../src/display/engine.js";
import type { EngineEvent } from "../src/display/messages.js";
import type { Painter } from "../src/display/painter.js";
import type { Picture } from "../src/display/pictures.js";
import { ProtocolError } from "../src/display/protocol.js";
import type { Decoder } from "../src/display/video.js";
import * as peer from "./peer.js";

/** The gateway's end of a socket. */
export class FakeSocket {
  binaryType = "blob";
  readyState = 0;
  bufferedAmount = 0;
  /** Whether pings are answered. */
  answers = true;
  sent: peer.BrowserRecord[] = [];
  closedWith: number | undefined;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;

  send(bytes: Uint8Array): void {
    const records = peer.browserRecords(bytes);
    this.sent.push(...records);
    for (const { type, body } of records) {
      if (type === 72 && this.answers) {
        this.tell(peer.rec(13, body));
      }
    }
  }

  close(code = 1005): void {
    this.closedWith = code;
    this.readyState = 3;
  }

  open(): void {
    this.readyState = 1;
    this.onopen?.();
  }

  tell(...records: Uint8Array[]): void {
    this.onmessage?.({ data: peer.message(...records) });
  }

  lose(code = 1006): void {
    this.readyState = 3;
    this.onclose?.({ code });
  }

  types(): number[] {
    return this.sent.map((record) => record.type);
  }
}

/** A slot that the fake painter does not have. */
export const EMPTY_SLOT = 99;

/** A decoder of video whose pictures come when the test says so. */
export class FakeDecoder implements Decoder {
  state: CodecState = "unconfigured";
  config: VideoDecoderConfig | undefined;
  chunks: EncodedVideoChunkInit[] = [];
  closedPictures = 0;

  constructor(
    private readonly output: (picture: VideoFrame) => void,
    private readonly error: (error: Error) => void,
  ) {}

  configure(config: VideoDecoderConfig): void {
    this.config = config;
    this.state = "configured";
  }

  decode(chunk: EncodedVideoChunk): void {
    this.chunks.push(chunk as unknown as EncodedVideoChunkInit);
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  close(): void {
    this.state = "closed";
  }

  /** Gives the picture of the chunk at this place. */
  give(index: number): void {
    const timestamp = this.chunks[index]?.timestamp ?? -1;
    const picture = { timestamp, close: () => (this.closedPictures += 1) };
    this.output(picture as unknown as VideoFrame);
  }

  fail(): void {
    this.state = "closed";
    this.error(new Error("broken"));
  }
}

interface Decoding {
  finish(): void;
  fail(): void;
}

/** An engine with a world that the test plays. */
export async function rig() {
  const sockets: FakeSocket[] = [];
  const events: EngineEvent[] = [];
  const drawn: string[] = [];
  const decodings: Decoding[] = [];
  const closed: string[] = [];
  const probes: ((reached: boolean) => void)[] = [];
  const decoders: FakeDecoder[] = [];
  const painter: Painter = {
    width: 100,
    height: 100,
    resize: (width, height) => drawn.push(`size ${width}x${height}`),
    fill: (area) => {
      if (area.x > 99) {
        throw new ProtocolError("outside");
      }
      drawn.push(`fill ${area.x}`);
    },
    copy: (area, sourceX) => drawn.push(`copy ${sourceX}->${area.x}`),
    raw: (area) => drawn.push(`raw ${area.x}`),
    palette: (image) => drawn.push(`palette ${image.area.x}`),
    picture: (area) => drawn.push(`image ${area.x}`),
    video: (area) => drawn.push(`video ${area.x}`),
    keep: (tiles) => drawn.push(`keep ${tiles.x(0)} in ${tiles.slot(0)}`),
    recall: (tiles) => {
      drawn.push(`recall ${tiles.slot(0)} at ${tiles.x(0)}`);
      return tiles.slot(0) !== EMPTY_SLOT;
    },
    split: (parts) => parts.length > 0 && drawn.push(`split ${parts.map(({ area }) => area.x).join()}`),
    present: () => undefined,
  };
  const engine = new Engine({
    dial: () => {
      const socket = new FakeSocket();
      sockets.push(socket);
      return socket as unknown as WebSocket;
    },
    paint: () => painter,
    decode: (mime) =>
      new Promise<Picture>((resolve, reject) =>
        decodings.push({
          finish: () => resolve({ close: () => closed.push(mime) } as unknown as Picture),
          fail: () => reject(new Error("broken")),
        }),
      ),
    reach: () => new Promise<boolean>((resolve) => probes.push(resolve)),
    newVideoDecoder: (output, error) => {
      const decoder = new FakeDecoder(output, error);
      decoders.push(decoder);
      return decoder;
    },
    newVideoChunk: (init) => init as unknown as EncodedVideoChunk,
    skills: () => Promise.resolve({ webp: true, h264: true, opus: true, tileCacheBytes: 1 << 20 }),
    now: () => Date.now(),
    emit: (event) => events.push(event),
  });
  engine.command({
    type: "start",
    surface: {} as HTMLCanvasElement,
    url: "wss://example/display/1",
    window: { width: 800, height: 600 },
  });
  await vi.advanceTimersByTimeAsync(0);
  const last = () => {
    const socket = sockets[sockets.length - 1];
    if (socket === undefined) {
      throw new Error("nothing was dialled");
    }
    return socket;
  };
  const states = () => events.flatMap((event) => (event.type === "state" ? [event.state] : []));
  const connect = () => {
    last().open();
    last().tell(peer.hello(), peer.status(1, ""), peer.size(100, 100), peer.frameEnd(1));
  };
  return { engine, sockets, events, drawn, decodings, decoders, probes, closed, last, states, connect };
}

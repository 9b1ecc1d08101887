// Sound, microphone and files of one desktop, as the page sees them.

import { FileSender, type Transfer } from "./files.js";
import { decodeMedia } from "./media-protocol.js";
import { browserMicrophone, isSwitchedOn, Microphone, type MicrophoneState } from "./microphone.js";
import { browserSound, SoundPlayer } from "./sound.js";

/** Where the person's own volume is kept. */
const STORAGE_KEY = "vidi.sound";
/** A desktop that takes no microphone for so long, and it is switched off. */
const MICROPHONE_WAIT_MS = 30_000;
/** After so much silence the browser's sound is let go. */
const REST_AFTER_MS = 5000;

/** What the page shows. */
export interface MediaView {
  /** The desktop has sound, takes a microphone, takes files. */
  readonly hasSound: boolean;
  readonly takesMicrophone: boolean;
  readonly takesFiles: boolean;
  /** The guest plays something. */
  readonly playing: boolean;
  /** The browser plays nothing before the person has touched the page. */
  readonly blocked: boolean;
  /** The person's own, 0 to 1. */
  readonly volume: number;
  readonly muted: boolean;
  readonly microphone: MicrophoneState;
  /** A program in the guest records. */
  readonly wanted: boolean;
  /** And it is this microphone that it hears. */
  readonly heard: boolean;
  readonly transfers: readonly Transfer[];
}

/** Before anything is known. */
export const NO_MEDIA: MediaView = {
  hasSound: false,
  takesMicrophone: false,
  takesFiles: false,
  playing: false,
  blocked: false,
  volume: 1,
  muted: false,
  microphone: "off",
  wanted: false,
  heard: false,
  transfers: [],
};

interface MediaAbilities {
  readonly takesFiles: boolean;
  readonly hasSound: boolean;
  readonly takesMicrophone: boolean;
}

/** How records go out: at once, or behind what the socket still has to send. */
export interface MediaOutlets {
  send(bytes: Uint8Array<ArrayBuffer>): void;
  upload(bytes: Uint8Array<ArrayBuffer>): void;
  /** Something of the view is new. */
  changed(view: MediaView): void;
}

type Timer = ReturnType<typeof setTimeout>;

/** One desktop's. */
export class Media {
  private view: MediaView = { ...NO_MEDIA, ...storedVolume() };
  private readonly sound = new SoundPlayer(browserSound, (blocked) => this.set({ blocked }));
  private readonly microphone: Microphone;
  private readonly files: FileSender;
  private readonly gesture = () => this.sound.wake();
  private silenceTimer: Timer | undefined;
  private restTimer: Timer | undefined;

  constructor(private readonly outlets: MediaOutlets) {
    this.microphone = new Microphone(
      browserMicrophone,
      (bytes) => outlets.send(bytes),
      (microphone) => this.set({ microphone }),
    );
    this.files = new FileSender(
      (bytes) => outlets.upload(bytes),
      (transfers) => this.set({ transfers }),
    );
    this.sound.setOwn(this.view.volume, this.view.muted);
    for (const kind of ["pointerdown", "keydown"]) {
      document.addEventListener(kind, this.gesture, { capture: true, passive: true });
    }
  }

  /** The guest takes files. */
  get takesFiles(): boolean {
    return this.view.takesFiles;
  }

  /** What the desktop can do for this viewer now; nothing of it while there is no connection. */
  setAbilities({ takesFiles, hasSound, takesMicrophone }: MediaAbilities): void {
    this.set({ takesFiles, hasSound, takesMicrophone });
    this.files.setOffered(takesFiles);
    clearTimeout(this.silenceTimer);
    if (!takesMicrophone) {
      // A short loss of the network need not switch it off; the sign that it is on stays.
      this.microphone.setWanted(0);
      this.silenceTimer = setTimeout(() => this.microphone.stop(), MICROPHONE_WAIT_MS);
      this.set({ wanted: false, heard: false });
    }
    if (!hasSound) {
      this.sound.stop();
    }
  }

  /** A record of the gateway. */
  take(kind: number, bytes: Uint8Array): void {
    const record = decodeMedia(kind, bytes);
    switch (record?.type) {
      case "sound":
        this.sound.take(record);
        return;
      case "soundState":
        this.sound.setGuest(record.volume, record.muted);
        this.set({ playing: record.playing });
        clearTimeout(this.restTimer);
        if (!record.playing) {
          // A sound card that plays silence keeps a processor awake.
          this.restTimer = setTimeout(() => this.sound.stop(), REST_AFTER_MS);
        }
        return;
      case "microphone":
        this.microphone.setWanted(record.wanted ? record.rate : 0);
        this.set({ wanted: record.wanted, heard: record.heard });
        return;
      case "transfer":
        this.files.take(record);
        return;
      default:
        return;
    }
  }

  /** The person's own volume. */
  setVolume(volume: number, muted: boolean): void {
    this.sound.setOwn(volume, muted);
    this.set({ volume, muted });
    try {
      localStorage.setItem(STORAGE_KEY, JSON.stringify({ volume, muted }));
    } catch {
      // Without storage it lasts until the page is left.
    }
  }

  /** The person switches the microphone. */
  toggleMicrophone(): void {
    if (isSwitchedOn(this.view.microphone)) {
      this.microphone.stop();
    } else {
      void this.microphone.start();
    }
  }

  addFiles(files: Iterable<File>): void {
    if (this.view.takesFiles) {
      this.files.add(files);
    }
  }

  cancelFile(id: number): void {
    this.files.cancel(id);
  }

  clearFiles(): void {
    this.files.clear();
  }

  /** The display ends. */
  stop(): void {
    for (const kind of ["pointerdown", "keydown"]) {
      document.removeEventListener(kind, this.gesture, { capture: true });
    }
    clearTimeout(this.silenceTimer);
    clearTimeout(this.restTimer);
    this.microphone.stop();
    this.sound.stop();
    this.files.setOffered(false);
  }

  private set(changes: Partial<MediaView>): void {
    if (Object.entries(changes).every(([key, value]) => this.view[key as keyof MediaView] === value)) {
      return;
    }
    this.view = { ...this.view, ...changes };
    this.outlets.changed(this.view);
  }
}

function storedVolume(): { readonly volume: number; readonly muted: boolean } {
  try {
    const { volume, muted } = JSON.parse(localStorage.getItem(STORAGE_KEY) ?? "{}") as Partial<MediaView>;
    const isVolume = typeof volume === "number" && volume >= 0 && volume <= 1;
    return { volume: isVolume ? volume : 1, muted: muted === true };
  } catch {
    return { volume: 1, muted: false };
  }
}

// Files on their way into the guest: read and sent piece by piece, as the guest makes room.

import { encodeFileCancel, encodeFileData, encodeFileStart, type MediaRecord, TransferReason } from "./media-protocol.js";

/** As many as the gateway takes at once; others wait here. */
const ACTIVE_MAX = 4;
/** Of one record: little enough that a key pressed now does not wait long behind it. */
const PIECE_BYTES = 16 * 1024;
/** After a refusal for too many, another try. */
const AGAIN_MS = 2000;
/** Files that are over and still listed. */
const ENDED_MAX = 20;

/** A file as the person sees it. */
export interface Transfer {
  readonly id: number;
  readonly name: string;
  readonly size: number;
  readonly state: "waiting" | "active" | "done" | "failed";
  /** Bytes that the guest has. */
  readonly taken: number;
  /** Of `TransferReason`, or one that is not known here. */
  readonly reason: number;
}

/** Whether nothing more becomes of it. */
export function isOver({ state }: Transfer): boolean {
  return state === "done" || state === "failed";
}

interface Entry extends Transfer {
  state: Transfer["state"];
  taken: number;
  reason: number;
  readonly file: Blob;
  sent: number;
  room: number;
  reading: boolean;
}

/** All files that the person put in. */
export class FileSender {
  private readonly entries: Entry[] = [];
  private nextId = 1;
  private offered = false;

  constructor(
    private readonly send: (bytes: Uint8Array<ArrayBuffer>) => void,
    private readonly changed: (transfers: readonly Transfer[]) => void,
  ) {}

  /** The desktop takes files, or does not; a connection that was lost has lost them too. */
  setOffered(offered: boolean): void {
    this.offered = offered;
    if (!offered) {
      this.entries.filter(({ state }) => state === "active").forEach((entry) => this.fail(entry, TransferReason.lost));
    }
    this.startNext();
  }

  /** Takes files of the person. */
  add(files: Iterable<File>): void {
    for (const file of files) {
      const { name, size } = file;
      const id = this.nextId++;
      this.entries.push({
        id, name, size, file, state: "waiting", taken: 0, reason: 0, sent: 0, room: 0, reading: false,
      });
    }
    this.startNext();
  }

  /** Gives one up, or takes one that is over from the list. */
  cancel(id: number): void {
    const at = this.entries.findIndex((entry) => entry.id === id);
    const [entry] = at < 0 ? [] : this.entries.splice(at, 1);
    if (entry?.state === "active") {
      this.send(encodeFileCancel(id));
    }
    this.startNext();
  }

  /** Takes those that are over from the list. */
  clear(): void {
    for (const { id } of this.entries.filter(isOver)) {
      this.cancel(id);
    }
  }

  /** The gateway says how one gets on. */
  take(record: MediaRecord & { readonly type: "transfer" }): void {
    const entry = this.entries.find(({ id, state }) => id === record.file && state === "active");
    if (entry === undefined) {
      return;
    }
    entry.taken = record.taken;
    if (record.state === "open") {
      entry.room = record.room;
      void this.pump(entry);
    } else if (record.state === "done") {
      entry.state = "done";
      entry.taken = entry.size;
    } else if (record.reason === TransferReason.tooMany) {
      // Others have files under way as well: it waits until one of these is over.
      entry.state = "waiting";
      setTimeout(() => this.startNext(), AGAIN_MS);
      this.tell();
      return;
    } else {
      this.fail(entry, record.reason);
    }
    this.startNext();
  }

  private startNext(): void {
    let active = this.entries.filter(({ state }) => state === "active").length;
    for (const entry of this.entries) {
      if (this.offered && active < ACTIVE_MAX && entry.state === "waiting") {
        active += 1;
        entry.state = "active";
        entry.sent = entry.room = 0;
        this.send(encodeFileStart(entry.id, entry.size, entry.name));
      }
    }
    const ended = this.entries.filter(isOver);
    for (const entry of ended.slice(0, Math.max(0, ended.length - ENDED_MAX))) {
      this.entries.splice(this.entries.indexOf(entry), 1);
    }
    this.tell();
  }

  /** Sends as far as there is room. */
  private async pump(entry: Entry): Promise<void> {
    if (entry.reading) {
      return;
    }
    entry.reading = true;
    try {
      while (entry.state === "active" && this.entries.includes(entry)) {
        const end = Math.min(entry.size, entry.room, entry.sent + PIECE_BYTES);
        if (end <= entry.sent) {
          break;
        }
        const piece = await entry.file.slice(entry.sent, end).arrayBuffer();
        if (entry.state !== "active" || !this.entries.includes(entry)) {
          break;
        }
        if (piece.byteLength !== end - entry.sent) {
          throw new Error("the file is shorter than it was");
        }
        this.send(encodeFileData(entry.id, new Uint8Array(piece)));
        entry.sent = end;
      }
    } catch {
      this.send(encodeFileCancel(entry.id));
      this.fail(entry, TransferReason.unreadable);
      this.startNext();
    } finally {
      entry.reading = false;
    }
  }

  private fail(entry: Entry, reason: number): void {
    entry.state = "failed";
    entry.reason = reason;
  }

  private tell(): void {
    this.changed(
      this.entries.map(({ id, name, size, state, taken, reason }) => ({ id, name, size, state, taken, reason })),
    );
  }
}

/** What was dropped, without folders. */
function droppedFiles(data: DataTransfer | null): File[] {
  const items = Array.from(data?.items ?? []).filter((item) => item.kind === "file");
  const files = items
    .filter((item) => item.webkitGetAsEntry?.()?.isDirectory !== true)
    .map((item) => item.getAsFile())
    .filter((file) => file !== null);
  return files;
}

/** What is dragged over a place where files may be dropped. */
export interface DropOutlets {
  /** The desktop takes files. */
  offered(): boolean;
  /** Files are over it, or no longer. */
  over(isOver: boolean): void;
  dropped(files: readonly File[]): void;
}

/** Watches for files that are dropped there; the browser would leave the page and show them. The end of it. */
export function watchDrops(place: HTMLElement, outlets: DropOutlets): () => void {
  const hasFiles = ({ dataTransfer }: DragEvent) => dataTransfer?.types.includes("Files") === true;
  const dragged = (event: DragEvent) => {
    if (hasFiles(event) && event.dataTransfer !== null) {
      event.preventDefault();
      event.dataTransfer.dropEffect = outlets.offered() ? "copy" : "none";
      outlets.over(outlets.offered());
    }
  };
  const left = ({ relatedTarget }: DragEvent) => {
    if (!place.contains(relatedTarget as Node | null)) {
      outlets.over(false);
    }
  };
  const dropped = (event: DragEvent) => {
    outlets.over(false);
    if (hasFiles(event)) {
      event.preventDefault();
      if (outlets.offered()) {
        outlets.dropped(droppedFiles(event.dataTransfer));
      }
    }
  };
  const watching = new AbortController();
  const { signal } = watching;
  place.addEventListener("dragenter", dragged, { signal });
  place.addEventListener("dragover", dragged, { signal });
  place.addEventListener("dragleave", left, { signal });
  place.addEventListener("drop", dropped, { signal });
  return () => watching.abort();
}

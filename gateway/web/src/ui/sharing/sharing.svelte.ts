// What is known of the others at this session, and what can be said to them.

import { getContext, setContext } from "svelte";
import {
  type Asking,
  encodeAnswer,
  encodeControl,
  encodeRecord,
  encodeRights,
  type Person,
  type Recording,
  type Rights,
  type SharingNews,
  type UserMessage,
} from "../../display/sharing.js";

const KEY = Symbol("sharing");
const OFF: Recording = { on: false, mayChange: false, problem: "" };

/** The others at one session. */
export class Sharing {
  people = $state.raw<readonly Person[]>([]);
  requests = $state.raw<readonly Asking[]>([]);
  recording = $state.raw<Recording>(OFF);
  /** What people tell the session's user and was not put away yet, oldest first. */
  messages = $state.raw<readonly UserMessage[]>([]);
  /** The session's user is asked whether this person is let in. */
  asks = $state(false);

  readonly me = $derived(this.people.find((person) => person.you));
  readonly owner = $derived(this.people.find((person) => person.part === "owner"));
  readonly guests = $derived(this.people.filter((person) => person.part !== "owner"));
  readonly isOwner = $derived(this.me?.part === "owner");
  /** It is somebody else's session. */
  readonly isVisit = $derived(this.asks || (this.me !== undefined && this.me.part !== "owner"));

  constructor(
    /** The session's id. */
    readonly session: string,
    private readonly send: (record: Uint8Array<ArrayBuffer>) => void,
  ) {}

  /** Where others come to ask. */
  get link(): string {
    return new URL(`/desktop/${encodeURIComponent(this.session)}`, location.href).href;
  }

  take(news: SharingNews): void {
    switch (news.type) {
      case "people":
        this.people = news.people;
        this.asks = false;
        return;
      case "requests":
        this.requests = news.requests;
        return;
      case "recording":
        this.recording = news.recording;
        return;
      case "messages":
        this.messages = news.messages.filter(({ number }) => number > this.read);
    }
  }

  /** The connection is lost: what was known is void until it is told again. */
  forget(): void {
    this.people = [];
    this.requests = [];
    this.recording = OFF;
  }

  /** The number of the last message that was put away; kept as long as the tab, so that a reload does not show it again. */
  private get read(): number {
    return Number(kept(`vidi.read.${this.session}`) ?? 0);
  }

  /** The oldest message that is shown is put away. */
  putAway(): void {
    const [first, ...rest] = this.messages;
    if (first !== undefined) {
      keep(`vidi.read.${this.session}`, String(first.number));
      this.messages = rest;
    }
  }

  answer(request: number, rights: Rights): void {
    this.send(encodeAnswer(request, rights));
  }

  give(viewer: number, rights: Rights): void {
    this.send(encodeRights(viewer, rights));
  }

  control(wanted: boolean): void {
    this.send(encodeControl(wanted));
  }

  record(on: boolean): void {
    this.send(encodeRecord(on));
  }
}

/** A browser may refuse to keep anything: then a reload shows a message once more. */
function kept(name: string): string | null {
  try {
    return sessionStorage.getItem(name);
  } catch {
    return null;
  }
}

function keep(name: string, value: string): void {
  try {
    sessionStorage.setItem(name, value);
  } catch {
    // See above.
  }
}

/** Called by the desktop's page. */
export function provideSharing(session: string, send: (record: Uint8Array<ArrayBuffer>) => void): Sharing {
  return setContext(KEY, new Sharing(session, send));
}

/** Called by what lies in it. */
export function useSharing(): Sharing {
  return getContext<Sharing>(KEY);
}

// Who looks at a session, who asks to, whether it is recorded, and what people tell its user: records 24 to 26
// and 31 of docs/display-protocol.md, and 79 to 82, which answer them.

import { record } from "./record.js";

/** Who somebody is to the session. */
export const parts = ["owner", "colleague", "helpDesk"] as const;
export type Part = (typeof parts)[number];

/** One who looks. */
export interface Person {
  readonly viewer: number;
  readonly control: boolean;
  readonly you: boolean;
  readonly part: Part;
  readonly name: string;
}

/** One who asks. */
export interface Asking {
  readonly request: number;
  /** For control, by one who looks already; else to be let in. */
  readonly forControl: boolean;
  readonly part: Part;
  readonly name: string;
}

/** Whether the session is recorded. */
export interface Recording {
  readonly on: boolean;
  /** This viewer may start and stop it. */
  readonly mayChange: boolean;
  /** Why it ended by itself; empty when it did not. */
  readonly problem: string;
}

/** What somebody tells the session's user. */
export interface UserMessage {
  /** Goes up from message to message of a session. */
  readonly number: number;
  /** Milliseconds since 1970. */
  readonly time: number;
  /** Who sends it; may be empty. */
  readonly from: string;
  readonly text: string;
}

/** A state that replaces the one before of its type. */
export type SharingNews =
  | { readonly type: "people"; readonly people: readonly Person[] }
  | { readonly type: "requests"; readonly requests: readonly Asking[] }
  | { readonly type: "recording"; readonly recording: Recording }
  | { readonly type: "messages"; readonly messages: readonly UserMessage[] };

/** Types of the records. */
export const SharingType = { people: 24, requests: 25, recording: 26, messages: 31 } as const;
const Say = { answer: 79, rights: 80, control: 81, record: 82 } as const;

/** What a viewer may be given. */
export type Rights = "none" | "look" | "control";
const rightsByte: Readonly<Record<Rights, number>> = { none: 0, look: 1, control: 2 };

const utf8 = new TextDecoder();

/** The state in a record's body; undefined where the body is cut short. */
export function decodeSharing(type: number, body: Uint8Array): SharingNews | undefined {
  switch (type) {
    case SharingType.people: {
      const people = entries(body, (number, a, b, c, name) => ({
        viewer: number,
        control: a === 1,
        you: (b & 1) !== 0,
        part: parts[c] ?? "colleague",
        name,
      }));
      return people && { type: "people", people };
    }
    case SharingType.requests: {
      const requests = entries(body, (number, a, b, _c, name) => ({
        request: number,
        forControl: a === 2,
        part: parts[b] ?? "colleague",
        name,
      }));
      return requests && { type: "requests", requests };
    }
    case SharingType.recording: {
      const [state, bits] = body;
      if (state === undefined || bits === undefined) {
        return undefined;
      }
      const problem = state === 2 ? utf8.decode(body.subarray(2)) : "";
      return { type: "recording", recording: { on: state === 1, mayChange: (bits & 1) !== 0, problem } };
    }
    case SharingType.messages: {
      const messages = userMessages(body);
      return messages && { type: "messages", messages };
    }
    default:
      return undefined;
  }
}

/** Entries of `u32`, `u64`, and two texts with their lengths. */
function userMessages(body: Uint8Array): UserMessage[] | undefined {
  const data = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const found: UserMessage[] = [];
  const textAt = (at: number): readonly [string, number] | undefined => {
    const end = at + 2 <= body.length ? at + 2 + data.getUint16(at, true) : Number.POSITIVE_INFINITY;
    return end <= body.length ? [utf8.decode(body.subarray(at + 2, end)), end] : undefined;
  };
  for (let at = 0; at < body.length; ) {
    const from = at + 12 <= body.length ? textAt(at + 12) : undefined;
    const text = from && textAt(from[1]);
    if (from === undefined || text === undefined) {
      return undefined;
    }
    const time = Number(data.getBigUint64(at + 4, true));
    found.push({ number: data.getUint32(at, true), time, from: from[0], text: text[0] });
    at = text[1];
  }
  return found;
}

/** Both lists have entries of `u32`, three bytes, and a name with its length. */
function entries<Entry>(
  body: Uint8Array,
  read: (number: number, a: number, b: number, c: number, name: string) => Entry,
): Entry[] | undefined {
  const data = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const found: Entry[] = [];
  for (let at = 0; at < body.length; ) {
    const end = at + 8 + (body[at + 7] ?? Number.POSITIVE_INFINITY);
    if (end > body.length) {
      return undefined;
    }
    const name = utf8.decode(body.subarray(at + 8, end));
    found.push(read(data.getUint32(at, true), data.getUint8(at + 4), data.getUint8(at + 5), data.getUint8(at + 6), name));
    at = end;
  }
  return found;
}

/** The user's answer to a request. */
export const encodeAnswer = (request: number, rights: Rights) => numbered(Say.answer, request, rights);
/** The user gives a viewer other rights, or removes it. */
export const encodeRights = (viewer: number, rights: Rights) => numbered(Say.rights, viewer, rights);
/** Control is asked for, or given back. */
export const encodeControl = (wanted: boolean) => flag(Say.control, wanted);
/** A recording is begun, or ended. */
export const encodeRecord = (on: boolean) => flag(Say.record, on);

function numbered(type: number, number: number, rights: Rights): Uint8Array<ArrayBuffer> {
  const [bytes, body] = record(type, 8);
  body.setUint32(0, number, true);
  body.setUint8(4, rightsByte[rights]);
  return bytes;
}

function flag(type: number, on: boolean): Uint8Array<ArrayBuffer> {
  const [bytes, body] = record(type, 1);
  body.setUint8(0, on ? 1 : 0);
  return bytes;
}

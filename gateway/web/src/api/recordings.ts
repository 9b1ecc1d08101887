// Recorded sessions, which the gateway keeps as files.

import { Recording } from "../display/recording.js";

/** A recording on the list; times as RFC 3339 writes them. */
export interface RecordingEntry {
  /** {session}-{start} */
  readonly name: string;
  readonly user: string;
  readonly userDisplayName: string;
  readonly start: string;
  /** undefined while it goes on. */
  readonly end: string | undefined;
}

/** There is no such recording, or it is not for this person. */
export class NotThere extends Error {
  override readonly name = "NotThere";
}

/** All that this person may see, newest first. */
export async function listRecordings(): Promise<readonly RecordingEntry[]> {
  const body: unknown = await (await ask("/recordings")).json();
  const entries = typeof body === "object" && body !== null && "recordings" in body ? body.recordings : [];
  return Array.isArray(entries) ? entries.flatMap(entryOf) : [];
}

/** One of them. Large files stay on the disk: browsers keep such blobs there. */
export async function loadRecording(name: string): Promise<Recording> {
  return Recording.open(await (await ask(`/recordings/${encodeURIComponent(name)}`)).blob());
}

async function ask(path: string): Promise<Response> {
  const response = await fetch(path, { credentials: "same-origin" });
  if (!response.ok) {
    throw new NotThere(`${path}: ${response.status}`);
  }
  return response;
}

function entryOf(value: unknown): RecordingEntry[] {
  if (typeof value !== "object" || value === null) {
    return [];
  }
  const fields = value as Record<string, unknown>;
  const text = (key: string) => (typeof fields[key] === "string" ? fields[key] : "");
  const [name, start, end] = [text("name"), text("start"), text("end")];
  if (name === "" || Number.isNaN(Date.parse(start))) {
    return [];
  }
  const ended = Number.isNaN(Date.parse(end)) ? undefined : end;
  return [{ name, user: text("user"), userDisplayName: text("user_display_name"), start, end: ended }];
}

// The desktops of a tenant as they are watched: what comes in is merged, what is shown is derived.

import { ChangeKind } from "../gen/vidi/v1/common_pb.js";
import { type Desktop, Power, WantedPower, type WatchDesktopsResponse } from "../gen/vidi/v1/desktops_pb.js";
import { SessionState } from "../gen/vidi/v1/sessions_pb.js";
import { lastSegment } from "../names.js";
import { finder } from "./find.js";
import { millis } from "./words.js";

/** What a desktop is doing, in one word. */
export type State =
  | "running"
  | "starting"
  | "restarting"
  | "stopping"
  | "preparing"
  | "off"
  | "saved"
  | "failed"
  | "unreachable";

/** The groups that the list can be narrowed to. */
export type Group = "all" | "used" | "running" | "changing" | "off" | "trouble";
export const groups: readonly Group[] = ["all", "used", "running", "changing", "off", "trouble"];

/** How a desktop's session stands. */
export type Presence = "none" | "opening" | "connected" | "away";

/** One line of the list. */
export interface Row {
  /** tenants/{t}/desktops/{uuid} */
  readonly name: string;
  readonly id: string;
  readonly title: string;
  readonly state: State;
  /** Since when it is in that state, in milliseconds. */
  readonly since: number | undefined;
  /** Why it failed or what it waits for, in the service's words. */
  readonly reason: string;
  /** User it is assigned to, tenants/{t}/users/{u}, or empty. */
  readonly user: string;
  /** User who is on it now, or empty. */
  readonly sessionUser: string;
  /** Id of the session on it, or empty. */
  readonly session: string;
  readonly presence: Presence;
  readonly presenceSince: number | undefined;
  /** hosts/{h} or empty. */
  readonly host: string;
  readonly template: string;
  /** tenants/{t}/pools/{p} or empty. */
  readonly pool: string;
}

/** The desktops by name, as a watch tells of them. */
export class Fleet {
  private readonly desktops = new Map<string, Desktop>();
  /** Names told of since a stream began that tells everything; undefined: this one goes on from before. */
  private told: Set<string> | undefined;
  /** Where to go on after the stream ends. */
  resumeToken = "";

  /** A new stream begins; without a token it tells everything first. */
  begin(): void {
    this.told = this.resumeToken === "" ? new Set() : undefined;
  }

  /** Takes one message; true when a row may have changed. */
  take(message: WatchDesktopsResponse): boolean {
    const { desktop, kind, resumeToken } = message;
    const swept = kind === ChangeKind.BOOKMARK && this.sweep();
    // Not before everything was told: behind the token comes only what changes.
    if (this.told === undefined && resumeToken !== "") {
      this.resumeToken = resumeToken;
    }
    if (kind === ChangeKind.BOOKMARK) {
      return swept;
    }
    if (desktop === undefined) {
      return false;
    }
    if (kind === ChangeKind.DELETED) {
      return this.desktops.delete(desktop.name);
    }
    this.told?.add(desktop.name);
    this.desktops.set(desktop.name, desktop);
    return true;
  }

  /** The token is too old, or another tenant is looked at: everything is told anew. */
  restart(): void {
    this.resumeToken = "";
  }

  rows(): Row[] {
    return Array.from(this.desktops.values(), rowOf);
  }

  /** After the initial state: what it did not name is gone. */
  private sweep(): boolean {
    const { told } = this;
    this.told = undefined;
    const gone = told === undefined ? [] : [...this.desktops.keys()].filter((name) => !told.has(name));
    for (const name of gone) {
      this.desktops.delete(name);
    }
    return gone.length > 0 || told !== undefined;
  }
}

/** One desktop as a line. */
export function rowOf(desktop: Desktop): Row {
  const { spec, status } = desktop;
  return {
    name: desktop.name,
    id: lastSegment(desktop.name),
    title: desktop.displayName || lastSegment(desktop.name),
    state: stateOf(desktop),
    since: millis(status?.powerSince),
    reason: status?.reason ?? "",
    user: spec?.assignedUser ?? "",
    sessionUser: status?.sessionUser ?? "",
    session: lastSegment(status?.session ?? ""),
    presence: presenceOf(status?.session ?? "", status?.sessionState ?? SessionState.UNSPECIFIED),
    presenceSince: millis(status?.sessionStateSince),
    host: status?.host ?? "",
    template: spec?.template ?? "",
    pool: spec?.pool ?? "",
  };
}

/** The state that people see: what is observed, in the light of what is wanted. */
export function stateOf({ spec, status }: Desktop): State {
  if (status === undefined) {
    return "preparing";
  }
  if (status.hostUnreachable) {
    return "unreachable";
  }
  const on = spec?.power !== WantedPower.OFF;
  const going = spec?.restarting === true ? "restarting" : "stopping";
  switch (status.power) {
    case Power.FAILED:
      return "failed";
    case Power.SAVED:
      return "saved";
    case Power.OFF:
      return spec?.restarting === true ? "restarting" : on && status.observedGeneration < spec!.generation ? "starting" : "off";
    case Power.STARTING:
      return on ? "starting" : going;
    case Power.RUNNING:
      return on ? (status.ready ? "running" : "starting") : going;
    case Power.PREPARING:
    case Power.UNSPECIFIED:
      return "preparing";
  }
}

function presenceOf(session: string, state: SessionState): Presence {
  switch (state) {
    case SessionState.OPENING:
      return "opening";
    case SessionState.CONNECTED:
      return "connected";
    case SessionState.DISCONNECTED:
      return "away";
    case SessionState.ENDED:
      return "none";
    case SessionState.UNSPECIFIED:
      return session === "" ? "none" : "opening";
  }
}

/** Whether a line belongs to a group. */
export function inGroup(row: Row, group: Group): boolean {
  switch (group) {
    case "all":
      return true;
    case "used":
      return row.presence === "connected";
    case "running":
      return row.state === "running";
    case "changing":
      return ["starting", "restarting", "stopping", "preparing"].includes(row.state);
    case "off":
      return row.state === "off" || row.state === "saved";
    case "trouble":
      return row.state === "failed" || row.state === "unreachable";
  }
}

/** How many lines each group has. */
export function countGroups(rows: readonly Row[]): Record<Group, number> {
  const count = (group: Group) => rows.reduce((sum, row) => sum + (inGroup(row, group) ? 1 : 0), 0);
  return Object.fromEntries(groups.map((group) => [group, count(group)])) as Record<Group, number>;
}

export type Column = "title" | "user" | "state" | "since" | "host" | "template" | "session";

/** The words of a line as they are shown: what is filtered and sorted by. */
export type Texts = Readonly<Record<Exclude<Column, "since">, string>>;

/** Lines that hold every word of the filter, sorted. `texts` gives what the person sees. */
export function select(
  rows: readonly Row[],
  texts: (row: Row) => Texts,
  wanted: {
    readonly filter: string;
    readonly group: Group;
    readonly column: Column;
    readonly descending: boolean;
    readonly language: string;
  },
): Row[] {
  const fits = finder(wanted.filter, wanted.language);
  const { compare } = new Intl.Collator(wanted.language, { numeric: true, sensitivity: "base" });
  const seen = rows
    .filter((row) => inGroup(row, wanted.group))
    .map((row) => ({ row, texts: texts(row) }))
    .filter(({ row, texts }) => fits([...Object.values(texts), row.id, lastSegment(row.pool)].join("\n")));
  const { column } = wanted;
  const order = (one: (typeof seen)[number], other: (typeof seen)[number]) =>
    column === "since"
      ? (other.row.since ?? 0) - (one.row.since ?? 0)
      : compare(one.texts[column], other.texts[column]);
  const sign = wanted.descending ? -1 : 1;
  // Equal ones by name and id, so that a change elsewhere moves nothing.
  seen.sort(
    (one, other) =>
      sign * order(one, other) || compare(one.texts.title, other.texts.title) || (one.row.id < other.row.id ? -1 : 1),
  );
  return seen.map(({ row }) => row);
}

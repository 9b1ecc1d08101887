// Long changes that this page asked for, followed to their end.

import type { Operation } from "../gen/vidi/v1/operations_pb.js";

/** Kinds of vidi.v1.Operation. */
export type Kind = "create" | "start" | "stop" | "restart" | "delete";

/** One change of one desktop, as far as it is known. */
export interface Work {
  /** operations/{uuid}; empty while it is being asked for. */
  readonly operation: string;
  /** tenants/{t}/desktops/{uuid} */
  readonly target: string;
  readonly title: string;
  readonly kind: Kind;
  /** Where it is, in the service's words. */
  readonly stage: string;
  /** Why it failed; undefined: it goes on. */
  readonly failure: Trouble | undefined;
}

/** Why something was refused or failed. */
export interface Trouble {
  /** A name of ErrorReason without its prefix, or empty. */
  readonly reason: string;
  readonly message: string;
}

/** What is known after an answer about the operation; undefined: it is done. */
export function after(work: Work, operation: Operation): Work | undefined {
  const { done, name, stage, target, result } = operation;
  const known = { ...work, operation: name, stage, target: target || work.target };
  if (result.case === "error") {
    return { ...known, failure: { reason: result.value.reason, message: result.value.message } };
  }
  return done ? undefined : known;
}

/** The failures that no row is there to tell of: what was to be made and is undone, what is gone. */
export function untold(works: Iterable<Work>, rows: readonly { readonly name: string }[]): Work[] {
  const there = new Set(rows.map(({ name }) => name));
  return [...works].filter(({ failure, target }) => failure !== undefined && !there.has(target));
}

// What the page "Pools" makes of a pool and of a form: pure, for its tests.

import { type Pool, PoolKind } from "../gen/vidi/v1/pools_pb.js";
import { ReleasePolicy } from "../gen/vidi/v1/sessions_pb.js";

/** What a person chooses of a pool, in the units of the form. */
export interface PoolWish {
  displayName: string;
  minSpare: number;
  maxDesktops: number;
  everyone: boolean;
  /** tenants/{t}/users/{u} */
  users: readonly string[];
  awayMinutes: number;
  longestHours: number;
  /** Of a dedicated pool. */
  releasePolicy: ReleasePolicy;
}

/** Fields of the API that the form sets, for an update's mask. */
export const POOL_PATHS = [
  "display_name",
  "min_spare",
  "max_desktops",
  "users",
  "everyone",
  "disconnect_secs",
  "max_session_secs",
  "release_policy",
] as const;

const MINUTE_SECS = 60;
const HOUR_SECS = 3600;

/** What a new pool has unless it is said. */
export const NEW_POOL: PoolWish = {
  displayName: "",
  minSpare: 1,
  maxDesktops: 10,
  everyone: true,
  users: [],
  awayMinutes: 0,
  longestHours: 0,
  releasePolicy: ReleasePolicy.STOP,
};

export function wishOf(pool: Pool): PoolWish {
  return {
    displayName: pool.displayName,
    minSpare: pool.minSpare,
    maxDesktops: pool.maxDesktops,
    everyone: pool.everyone,
    users: pool.users,
    awayMinutes: pool.disconnectSecs / MINUTE_SECS,
    longestHours: pool.maxSessionSecs / HOUR_SECS,
    releasePolicy: pool.releasePolicy,
  };
}

/** The fields of the API; a floating pool has no choice of what becomes of its desktops. */
export function fieldsOf(wish: PoolWish, kind: PoolKind) {
  return {
    displayName: wish.displayName.trim(),
    minSpare: whole(wish.minSpare),
    maxDesktops: whole(wish.maxDesktops),
    everyone: wish.everyone,
    users: wish.everyone ? [] : [...wish.users],
    disconnectSecs: whole(wish.awayMinutes * MINUTE_SECS),
    maxSessionSecs: whole(wish.longestHours * HOUR_SECS),
    releasePolicy: kind === PoolKind.DEDICATED ? wish.releasePolicy : ReleasePolicy.UNSPECIFIED,
  };
}

/** Numbers of a form may be empty or negative; the service says what it expects of the rest. */
function whole(value: number): number {
  const MOST = 0xffffffff;
  return Number.isFinite(value) ? Math.min(MOST, Math.max(0, Math.round(value))) : 0;
}

/** Longest id of the contract. */
const ID_LETTERS_MAX = 40;

/** "Kiosk – Hall 2" becomes "kiosk-hall-2": what the contract allows in an id. */
export function suggestedId(displayName: string): string {
  return displayName.normalize("NFD").replace(/[\u0300-\u036f]/g, "").toLowerCase()
    .replace(/[^a-z0-9]+/g, "-").replace(/^[^a-z]+/, "").slice(0, ID_LETTERS_MAX).replace(/-+$/, "");
}

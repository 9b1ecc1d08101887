// What the page "Pools" makes of a pool and of a form: pure, for its tests.

import { type Pool, PoolKind } from "../gen/vidi/v1/pools_pb.js";
import { ReleasePolicy } from "../gen/vidi/v1/sessions_pb.js";
import { policyFields, policyWish, type PolicyWish } from "./policy.js";
import { ruleFields, ruleWish, type RuleWish } from "./schedule.js";

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
  idleMinutes: number;
  /** Desktops of pools that one may have open when a click on this one is let in; 0: any number. */
  each: number;
  /** By its IANA name; empty: UTC. */
  timeZone: string;
  rules: RuleWish[];
  forecast: boolean;
  policy: PolicyWish;
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
  "idle_secs",
  "user_sessions_max",
  "time_zone",
  "schedule",
  "forecast",
  "display_policy",
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
  idleMinutes: 0,
  each: 0,
  timeZone: "",
  rules: [],
  forecast: false,
  policy: policyWish(undefined),
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
    idleMinutes: pool.idleSecs / MINUTE_SECS,
    each: pool.userSessionsMax,
    timeZone: pool.timeZone,
    rules: pool.schedule.map(ruleWish),
    forecast: pool.forecast,
    policy: policyWish(pool.displayPolicy),
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
    idleSecs: whole(wish.idleMinutes * MINUTE_SECS),
    userSessionsMax: whole(wish.each),
    timeZone: wish.timeZone.trim(),
    schedule: wish.rules.map(ruleFields),
    forecast: wish.forecast && kind === PoolKind.FLOATING,
    displayPolicy: policyFields(wish.policy),
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

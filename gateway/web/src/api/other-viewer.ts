// A ticket with which another viewer opens a desktop: the gateway's POST /spice/{desktop}.

import { traceparent } from "./trace.js";

const TIMEOUT_MS = 20_000;
/** As the gateway's answer calls what a desktop's policy does not allow. */
const NOT_ALLOWED = "NOT_ALLOWED";

/** What the gateway gives. */
export interface Ticket {
  readonly password: string;
  readonly expireSecs: number;
  /** For SPICE web clients. */
  readonly url: string;
  /** A file for remote-viewer. */
  readonly file: string;
}

/** Why there is none. */
export type NoTicket = "denied" | "unavailable";

/** Asks for a ticket for the desktop with this uuid. */
export async function askTicket(desktop: string): Promise<Ticket | NoTicket> {
  try {
    const response = await fetch(`/spice/${encodeURIComponent(desktop)}`, {
      method: "POST",
      headers: { traceparent: traceparent() },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    return ticketOf(await response.json());
  } catch {
    return "unavailable";
  }
}

/** What an answer means. */
export function ticketOf(answer: unknown): Ticket | NoTicket {
  if (typeof answer !== "object" || answer === null) {
    return "unavailable";
  }
  const { password, expire_secs: expireSecs, url, vv: file, reason } = answer as Record<string, unknown>;
  if (typeof password === "string" && typeof expireSecs === "number" && typeof url === "string" && typeof file === "string") {
    return { password, expireSecs, url, file };
  }
  return reason === NOT_ALLOWED ? "denied" : "unavailable";
}

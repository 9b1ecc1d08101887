// Signing in and out: the gateway's /session, which keeps the token in a cookie that no script can read.

import { isMessageKey, type MessageKey } from "../messages/catalogue.js";
import { traceparent } from "./trace.js";

const TIMEOUT_MS = 20_000;

/** The message for people, or undefined when signed in. */
export async function signIn(
  tenant: string,
  user: string,
  password: string,
): Promise<MessageKey | undefined> {
  let response: Response;
  try {
    response = await fetch("/session", {
      method: "POST",
      headers: { "content-type": "application/json", traceparent: traceparent() },
      body: JSON.stringify({ tenant, user, password }),
      signal: timeout(),
    });
  } catch {
    return "signIn.error.network";
  }
  if (response.ok) {
    return undefined;
  }
  return signInErrorKey(response.status, await reasonOf(response));
}

/** Ends the sign-in; the cookie is gone even when the service does not answer in time. */
export async function signOut(): Promise<void> {
  try {
    await fetch("/session", { method: "DELETE", headers: { traceparent: traceparent() }, signal: timeout() });
  } catch {
    // The sign-in view follows either way; WhoAmI tells whether the cookie is still good.
  }
}

/** The message for a refusal with this status and reason. */
export function signInErrorKey(status: number, reason: string): MessageKey {
  const key = `signIn.error.${reason}`;
  if (isMessageKey(key)) {
    return key;
  }
  if (status === 401) {
    return "signIn.error.BAD_CREDENTIALS";
  }
  if (status === 429) {
    return "signIn.error.TRY_LATER";
  }
  return status >= 502 && status <= 504 ? "signIn.error.unavailable" : "signIn.error.other";
}

async function reasonOf(response: Response): Promise<string> {
  try {
    const body: unknown = await response.json();
    if (typeof body === "object" && body !== null && "reason" in body) {
      return typeof body.reason === "string" ? body.reason : "";
    }
  } catch {
    // Not JSON: the status alone decides.
  }
  return "";
}

function timeout(): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), TIMEOUT_MS);
  return controller.signal;
}

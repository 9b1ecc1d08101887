// A W3C trace id for each call, so that the daemons' logs tell of one click under one id.

import type { Interceptor } from "@connectrpc/connect";

/** The header `traceparent` of a fresh trace (W3C Trace Context, version 00, sampled). */
export function traceparent(): string {
  return `00-${hex(16)}-${hex(8)}-01`;
}

/** Gives every call a trace of its own: a call is what one click asks for. */
export const tracing: Interceptor = (next) => (request) => {
  request.header.set("traceparent", traceparent());
  return next(request);
};

/** So many random bytes as lower-case digits. All zeros, which is invalid, does not happen. */
function hex(bytes: number): string {
  const random = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

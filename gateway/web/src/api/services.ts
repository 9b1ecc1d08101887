// The public services over gRPC-Web; the sign-in cookie goes along by itself.

import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { SessionService } from "../gen/vidi/v1/sessions_pb.js";
import { SignInService } from "../gen/vidi/v1/sign_in_pb.js";
import { tracing } from "./trace.js";

/** A call that takes longer is given up. */
const CALL_TIMEOUT_MS = 20_000;

export const transport = createGrpcWebTransport({
  baseUrl: location.origin,
  useBinaryFormat: true,
  defaultTimeoutMs: CALL_TIMEOUT_MS,
  interceptors: [tracing],
});

export const signIns = createClient(SignInService, transport);
export const sessions = createClient(SessionService, transport);

/** The last segment of a resource name. */
export function lastSegment(name: string): string {
  return name.slice(name.lastIndexOf("/") + 1);
}

/** `tenants/{t}` of a resource name in it; the first tenant where the name has none. */
export function tenantOf(name: string): string {
  return /^tenants\/[^/]+/.exec(name)?.[0] ?? "tenants/default";
}

/** A fresh id for a request that may be sent twice; the page is always in a secure context. */
export function requestId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

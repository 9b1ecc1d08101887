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

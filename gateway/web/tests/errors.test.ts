import { Code, ConnectError } from "@connectrpc/connect";
import { expect, it } from "vitest";
import { failureOf, openErrorKey } from "../src/api/errors.js";
import { signInErrorKey } from "../src/api/sign-in.js";

/** An encoded google.rpc.ErrorInfo: domain (2) before reason (1), as any order is legal. */
function withReason(code: Code, reason: string): ConnectError {
  const text = (field: number, value: string) => [
    (field << 3) | 2,
    value.length,
    ...new TextEncoder().encode(value),
  ];
  const error = new ConnectError("refused", code);
  error.details = [
    {
      type: "google.rpc.ErrorInfo",
      value: Uint8Array.from([...text(2, "vidi.io"), ...text(1, reason)]),
    },
  ];
  return error;
}

it("a refusal is told by its reason", () => {
  const failure = failureOf(withReason(Code.ResourceExhausted, "NO_HOST"));
  expect(failure.reason).toBe("NO_HOST");
  expect(openErrorKey(failure)).toBe("open.error.NO_HOST");
});

it("a reason without a message of its own falls back to the code", () => {
  expect(openErrorKey(failureOf(withReason(Code.Unavailable, "NOT_LEADER")))).toBe(
    "open.error.unavailable",
  );
  expect(openErrorKey(failureOf(new ConnectError("", Code.NotFound)))).toBe("open.error.NOT_FOUND");
  expect(openErrorKey(failureOf(new ConnectError("", Code.Internal)))).toBe("open.error.other");
});

it("being signed out is told by code or reason", () => {
  expect(failureOf(new ConnectError("", Code.Unauthenticated)).signedOut).toBe(true);
  expect(failureOf(withReason(Code.PermissionDenied, "SIGNED_OUT")).signedOut).toBe(true);
  expect(failureOf(withReason(Code.PermissionDenied, "NOT_ALLOWED")).signedOut).toBe(false);
});

it("details that cannot be read say nothing", () => {
  const error = new ConnectError("", Code.Internal);
  error.details = [{ type: "google.rpc.ErrorInfo", value: Uint8Array.of(0x0a, 0xff) }];
  expect(failureOf(error).reason).toBe("");
});

it("sign-in refusals become sentences by reason, then by status", () => {
  expect(signInErrorKey(401, "BAD_CREDENTIALS")).toBe("signIn.error.BAD_CREDENTIALS");
  expect(signInErrorKey(401, "")).toBe("signIn.error.BAD_CREDENTIALS");
  expect(signInErrorKey(429, "TRY_LATER")).toBe("signIn.error.TRY_LATER");
  expect(signInErrorKey(503, "STORE_UNAVAILABLE")).toBe("signIn.error.unavailable");
  expect(signInErrorKey(400, "INVALID_FIELD")).toBe("signIn.error.other");
});

import { expect, test } from "vitest";
import { ticketOf } from "../src/api/other-viewer.js";

const ANSWER = { password: "00ff", expire_secs: 30, url: "wss://vidi.example/spice/0198", vv: "[virt-viewer]\n" };

test("a ticket is taken whole or not at all", () => {
  expect(ticketOf(ANSWER)).toEqual({ password: "00ff", expireSecs: 30, url: ANSWER.url, file: ANSWER.vv });
  for (const key of Object.keys(ANSWER)) {
    expect(ticketOf({ ...ANSWER, [key]: undefined })).toBe("unavailable");
  }
});

test("what the policy does not allow is told apart from what is not there now", () => {
  expect(ticketOf({ reason: "NOT_ALLOWED", message: "ask your administrator" })).toBe("denied");
  for (const answer of [{ reason: "UNAVAILABLE" }, "no", null]) {
    expect(ticketOf(answer)).toBe("unavailable");
  }
});

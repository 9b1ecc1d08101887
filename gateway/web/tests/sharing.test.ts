import { expect, it } from "vitest";
import { BrowserType, decodeMessage, ProtocolError } from "../src/display/protocol.js";
import {
  decodeSharing,
  encodeAnswer,
  encodeControl,
  encodeRecord,
  encodeRights,
  SharingType,
} from "../src/display/sharing.js";

/** One record in a message of its own. */
function message(type: number, body: readonly number[]): ArrayBuffer {
  const bytes = new Uint8Array([type, 0, 0, 0, body.length, 0, 0, 0, ...body]);
  return bytes.buffer;
}

const letters = (text: string) => [...new TextEncoder().encode(text)];

it("who is here is read with rights, part and name", () => {
  const body = [2, 1, 0, 0, 1, 3, 0, 3, ...letters("Ana"), 9, 0, 0, 0, 0, 0, 2, 4, ...letters("Zoë")];
  const [record] = decodeMessage(message(SharingType.people, body));
  expect(record).toEqual({
    type: "sharing",
    view: 0,
    news: {
      type: "people",
      people: [
        { viewer: 258, control: true, you: true, part: "owner", name: "Ana" },
        { viewer: 9, control: false, you: false, part: "helpDesk", name: "Zoë" },
      ],
    },
  });
});

it("requests say who asks for what, and nobody may ask", () => {
  const body = [7, 0, 0, 0, 2, 1, 0, 2, ...letters("Bo")];
  expect(decodeSharing(SharingType.requests, new Uint8Array(body))).toEqual({
    type: "requests",
    requests: [{ request: 7, forControl: true, part: "colleague", name: "Bo" }],
  });
  expect(decodeSharing(SharingType.requests, new Uint8Array())).toEqual({ type: "requests", requests: [] });
});

it("a recording that failed says why", () => {
  const news = decodeSharing(SharingType.recording, new Uint8Array([2, 1, ...letters("full")]));
  expect(news).toEqual({ type: "recording", recording: { on: false, mayChange: true, problem: "full" } });
});

it("a body that is cut short is a mistake of the protocol", () => {
  for (const body of [[1], [1, 0, 0, 0, 0, 0, 0, 2, 65]]) {
    expect(() => decodeMessage(message(SharingType.people, body))).toThrow(ProtocolError);
  }
  expect(() => decodeMessage(message(SharingType.recording, [1]))).toThrow(ProtocolError);
});

it("what is said has the documented bytes", () => {
  expect([...encodeAnswer(513, "look")]).toEqual([79, 0, 0, 0, 8, 0, 0, 0, 1, 2, 0, 0, 1, 0, 0, 0]);
  expect([...encodeRights(2, "none")]).toEqual([80, 0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
  expect([...encodeControl(true)]).toEqual([81, 0, 0, 0, 1, 0, 0, 0, 1]);
  expect([...encodeRecord(false)]).toEqual([82, 0, 0, 0, 1, 0, 0, 0, 0]);
  const taken: readonly number[] = Object.values(BrowserType);
  expect([79, 80, 81, 82].every((type) => !taken.includes(type))).toBe(true);
});

it("messages to the user are read with their number, time, sender and text, and one that is cut short is none", () => {
  const body = [2, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 3, 0, ...letters("Ana"), 5, 0, ...letters("L\u00fcn\n")];
  const whole = new Uint8Array([...body, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, ...letters("x")]);
  expect(decodeSharing(SharingType.messages, whole)).toEqual({
    type: "messages",
    messages: [
      { number: 2, time: 258, from: "Ana", text: "L\u00fcn\n" },
      { number: 3, time: 0, from: "", text: "x" },
    ],
  });
  for (const cut of [1, 11, 13, 15, body.length - 1]) {
    expect(decodeSharing(SharingType.messages, whole.subarray(0, cut))).toBeUndefined();
  }
  expect(decodeSharing(SharingType.messages, new Uint8Array())).toEqual({ type: "messages", messages: [] });
});

import { describe, expect, it } from "vitest";
import { clipboardRecords, isSame, type Piece, PieceAssembler } from "../src/display/pieces.js";
import * as peer from "./peer.js";

const text = (value: string): Piece => ({ kind: "text", text: value });
const png = (length: number): Piece => ({ kind: "png", bytes: new Uint8Array(length).map((_, at) => at % 251) });

/** What the gateway makes of the records, by the document. */
function read(piece: Piece) {
  const records = clipboardRecords(piece).map((bytes) => ({ bytes, record: peer.browserRecords(bytes)[0] }));
  return records.map(({ bytes, record }) => ({
    type: record?.type,
    kind: record?.body[0],
    more: record?.body[1] === 1,
    reserved: record?.body.slice(2, 4).join(),
    bytes: record?.body.slice(4) ?? new Uint8Array(),
    whole: bytes.length,
  }));
}

describe("a piece from the person", () => {
  it("is one record where it fits", () => {
    expect(read(text("año"))).toEqual([
      { type: 74, kind: 1, more: false, reserved: "0,0", bytes: new TextEncoder().encode("año"), whole: 16 },
    ]);
  });

  it("is cut into records of at most 60 KiB, of which the last says that no more follows", () => {
    const piece = png(150_000);
    const parts = read(piece);
    expect(parts.map(({ more }) => more)).toEqual([true, true, false]);
    expect(parts.every(({ whole, kind }) => whole <= 60 * 1024 && kind === 2)).toBe(true);
    const whole = parts.flatMap(({ bytes }) => Array.from(bytes));
    expect(isSame({ kind: "png", bytes: Uint8Array.from(whole) }, piece)).toBe(true);
  });

  it("has no empty last part when it fills its records", () => {
    const full = 60 * 1024 - 12;
    expect(read(png(full)).map(({ more }) => more)).toEqual([false]);
    expect(read(png(full + 1)).map(({ more }) => more)).toEqual([true, false]);
  });

  it("of more than 1 MiB of text, counted in bytes, or 8 MiB of picture is not passed on", () => {
    expect(clipboardRecords(text("a".repeat(2 ** 20))).length).toBeGreaterThan(0);
    expect(clipboardRecords(text("a".repeat(2 ** 20 + 1)))).toEqual([]);
    expect(clipboardRecords(text("ñ".repeat(2 ** 19 + 1)))).toEqual([]);
    expect(clipboardRecords(png(2 ** 23)).length).toBeGreaterThan(0);
    expect(clipboardRecords(png(2 ** 23 + 1))).toEqual([]);
  });
});

describe("a piece from the guest", () => {
  const part = (kind: number, more: boolean, bytes: Uint8Array | string) => ({
    kind,
    more,
    bytes: typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes,
  });

  it("is put together over letters of several bytes", () => {
    const assembler = new PieceAssembler();
    const bytes = new TextEncoder().encode("漢字");
    expect(assembler.add(part(1, true, bytes.slice(0, 2)))).toBeUndefined();
    expect(assembler.add(part(1, false, bytes.slice(2)))).toEqual(text("漢字"));
  });

  it("has lines that end one way", () => {
    expect(new PieceAssembler().add(part(1, false, "a\r\nb\nc\r"))).toEqual(text("a\nb\nc\r"));
  });

  it("may be empty", () => {
    expect(new PieceAssembler().add(part(1, false, ""))).toEqual(text(""));
  });

  it("begins anew with another kind", () => {
    const assembler = new PieceAssembler();
    assembler.add(part(1, true, "half"));
    expect(assembler.add(part(2, false, Uint8Array.of(1, 2)))).toEqual({ kind: "png", bytes: Uint8Array.of(1, 2) });
    expect(assembler.add(part(1, false, "whole"))).toEqual(text("whole"));
  });

  it("of just the limit comes, of more does not; the next one does", () => {
    const assembler = new PieceAssembler();
    const half = new Uint8Array(2 ** 19).fill(97);
    assembler.add(part(1, true, half));
    expect(assembler.add(part(1, false, half))).toEqual(text("a".repeat(2 ** 20)));
    assembler.add(part(1, true, half));
    assembler.add(part(1, true, half));
    expect(assembler.add(part(1, true, "a"))).toBeUndefined();
    expect(assembler.add(part(1, false, "a"))).toBeUndefined();
    expect(assembler.add(part(1, false, "next"))).toEqual(text("next"));
    const picture = new Uint8Array(2 ** 22);
    assembler.add(part(2, true, picture));
    expect(assembler.add(part(2, false, picture))?.kind).toBe("png");
    assembler.add(part(2, true, picture));
    assembler.add(part(2, true, picture));
    expect(assembler.add(part(2, false, "a"))).toBeUndefined();
  });

  it("of an unknown kind is nothing", () => {
    const assembler = new PieceAssembler();
    expect(assembler.add(part(9, true, "a"))).toBeUndefined();
    expect(assembler.add(part(9, false, ""))).toBeUndefined();
    expect(assembler.add(part(1, false, "b"))).toEqual(text("b"));
  });
});

it("pieces are the same by kind and content", () => {
  expect(isSame(text("a"), text("a"))).toBe(true);
  expect(isSame(text("a"), text("b"))).toBe(false);
  expect(isSame(png(3), png(3))).toBe(true);
  expect(isSame(png(3), { kind: "png", bytes: Uint8Array.of(0, 1, 3) })).toBe(false);
  expect(isSame(png(3), png(4))).toBe(false);
  expect(isSame(text(""), { kind: "png", bytes: new Uint8Array() })).toBe(false);
  expect(isSame(text(""), undefined)).toBe(false);
});

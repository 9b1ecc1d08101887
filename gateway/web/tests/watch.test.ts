import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { Row } from "../src/admin/fleet.js";
import { SILENCE_MS, watch } from "../src/admin/watch.js";
import { ChangeKind } from "../src/gen/vidi/v1/common_pb.js";
import { DesktopSchema, type WatchDesktopsResponse, WatchDesktopsResponseSchema } from "../src/gen/vidi/v1/desktops_pb.js";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const added = (id: string) =>
  create(WatchDesktopsResponseSchema, {
    kind: ChangeKind.ADDED,
    desktop: create(DesktopSchema, { name: `tenants/t/desktops/${id}`, displayName: id }),
  });
const bookmark = (resumeToken: string) =>
  create(WatchDesktopsResponseSchema, { kind: ChangeKind.BOOKMARK, resumeToken });

/** A service whose streams are plays: messages, then an error, the end, or silence. */
function service(...streams: (WatchDesktopsResponse | Error | "silence")[][]) {
  const tokens: string[] = [];
  const seen = { rows: [] as string[], live: [] as boolean[], failed: 0, tokens };
  const stop = watch({
    async *open(token, signal) {
      tokens.push(token);
      for (const one of streams.shift() ?? ["silence" as const]) {
        if (one === "silence") {
          await new Promise((_, refuse) => signal.addEventListener("abort", () => refuse(new Error("aborted"))));
        } else if (one instanceof Error) {
          throw one;
        } else {
          yield one;
        }
      }
    },
    rows: (rows: Row[]) => (seen.rows = rows.map(({ title }) => title)),
    live: (live) => {
      if (seen.live.at(-1) !== live) {
        seen.live.push(live);
      }
    },
    failed: (error) => {
      seen.failed += 1;
      return ConnectError.from(error).code !== Code.Unauthenticated;
    },
  });
  return { seen, stop };
}

it("goes on behind the last token after the stream was cut", async () => {
  const { seen, stop } = service(
    [added("a"), bookmark("t1"), new ConnectError("gone", Code.Unavailable)],
    [added("b"), bookmark("t2"), "silence"],
  );
  await vi.advanceTimersByTimeAsync(1000);
  expect(seen).toMatchObject({ tokens: ["", "t1"], rows: ["a", "b"], live: [true, false, true], failed: 1 });
  stop();
});

it("starts anew when its token is too old", async () => {
  const { seen, stop } = service(
    [added("a"), bookmark("t1"), new ConnectError("cut", Code.Unavailable)],
    [new ConnectError("too old", Code.OutOfRange)],
    [added("b"), bookmark("t9"), "silence"],
  );
  await vi.advanceTimersByTimeAsync(5000);
  expect(seen).toMatchObject({ tokens: ["", "t1", ""], rows: ["b"] });
  stop();
});

it("takes a silent stream for dead, says that it is stale, and opens another", async () => {
  const { seen, stop } = service([added("a"), bookmark("t1"), "silence"], [bookmark("t1"), "silence"]);
  await vi.advanceTimersByTimeAsync(1000);
  expect(seen.live).toEqual([true]);
  await vi.advanceTimersByTimeAsync(SILENCE_MS);
  expect(seen).toMatchObject({ tokens: ["", "t1"], live: [true, false, true], rows: ["a"] });
  stop();
});

it("waits longer after each failure, and ends when it is told to", async () => {
  const away = () => [new ConnectError("away", Code.Unavailable)];
  const { seen, stop } = service(away(), away(), away(), away());
  await vi.advanceTimersByTimeAsync(400);
  expect(seen.tokens).toHaveLength(1);
  await vi.advanceTimersByTimeAsync(1200);
  expect(seen.tokens).toHaveLength(3);
  stop();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(seen.tokens).toHaveLength(3);
});

it("gives up where nobody is signed in", async () => {
  const { seen } = service([new ConnectError("who?", Code.Unauthenticated)]);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(seen).toMatchObject({ failed: 1, tokens: [""], live: [false] });
});

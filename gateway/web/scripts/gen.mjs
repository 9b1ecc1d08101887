// Generates src/gen from the contract in proto/ with protoc and protoc-gen-es.
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

const web = fileURLToPath(new URL("..", import.meta.url));
const proto = join(web, "..", "..", "proto");
const out = join(web, "src", "gen");

// Only what the pages call.
const files = [
  "common",
  "desktops",
  "hosts",
  "machines",
  "operations",
  "pools",
  "sessions",
  "sign_in",
  "templates",
  "tenants",
  "usage",
  "users",
].map((name) => join(proto, "vidi", "v1", `${name}.proto`));

mkdirSync(out, { recursive: true });
const run = spawnSync(
  "protoc",
  [`--proto_path=${proto}`, `--es_out=${out}`, "--es_opt=target=ts,import_extension=js", ...files],
  {
    stdio: "inherit",
    env: {
      ...process.env,
      PATH: `${join(web, "node_modules", ".bin")}${delimiter}${process.env.PATH ?? ""}`,
    },
  },
);
if (run.error) {
  console.error(`cannot run protoc (${run.error.message}): install the package protobuf-compiler`);
  process.exit(1);
}
process.exit(run.status ?? 1);

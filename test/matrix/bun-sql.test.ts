import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { createDatabase } from "../database.ts";
import { root } from "./miniflare.ts";

test("bunSql() does in Bun what no suite can see", async () => {
  await using database = await createDatabase({ migrated: false, max: 1 });
  const bun = join(root, "test/runtimes/node_modules/.bin/bun");
  const { stdout } = await promisify(execFile)(bun, [join(root, "test/matrix/bun-sql-checks.ts"), database.url]);
  const lines = stdout.trim().split("\n");
  expect(lines.filter((line) => !line.startsWith("passed: "))).toEqual(["ended"]);
  expect(lines.length).toBeGreaterThan(5);
});

import { execFile } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { root } from "./miniflare.ts";

const deno = (...args: string[]) =>
  promisify(execFile)(join(root, "test/runtimes/node_modules/.bin/deno"), args, {
    cwd: root,
    env: { ...process.env, NO_COLOR: "1" },
  });

test("deno publish would take the sources, with the types of every entry point, and nothing but them", async () => {
  const { stderr } = await deno("publish", "--dry-run", "--allow-dirty");
  expect(stderr).toContain("Success Dry run complete");
  expect(stderr).toContain("/src/index.ts");
  expect(stderr).not.toMatch(/\/(?:test|bench|dist|node_modules|scripts)\//);
});

import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { createDatabase } from "../database.ts";
import { root } from "./miniflare.ts";
import { startProgram } from "./runtimes.ts";

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

/** The permissions in the one line of a text that matches, with this database in the place of the one that it names. */
function permissionsIn(file: string, line: RegExp, url: string): string[] {
  const [text] = readFileSync(join(root, file), "utf8").match(line) ?? [""];
  return [...text.matchAll(/--allow-[^=\s`]+(?:=(?:"[^"]*"|<[^>]*>|[^\s`<])+)?/g)].map(([flag]) =>
    flag
      .replaceAll('"', "")
      .replace(/<database>|db\.example\.com:5432/, new URL(url).host)
      .replace(/<address that it serves>|0\.0\.0\.0:8080/, "127.0.0.1:0"),
  );
}

test.each([
  ["README.md", "server", /deno run .*/],
  ["docs/runtimes.md", "server", /^deno run .*/m],
  ["adapters/deno.ts", "server", /deno run .*/],
  ["docs/runtimes.md", "embedded", /.*pglite\(\).*/],
])("a worker starts with the permissions that %s names (database: %s)", async (file, kind, line) => {
  await using database = await createDatabase({ max: 1 });
  const permissions = permissionsIn(file, line, database.url);
  await using program = startProgram("deno", "test/matrix/deno-program.ts", {
    args: [kind],
    env: { DATABASE_URL: database.url },
    permissions: kind === "server" ? permissions : [permissions[0] as string, "--allow-net=127.0.0.1:0"],
  });
  await Promise.all([program.said("listening "), program.said("ran")]);
  program.child.kill("SIGTERM");
  expect(await program.ended).toBe(0);
  expect(program.lines.at(-1)).toBe("ended");
});

test("pglite() takes a directory over from a Deno that was killed, and from no other, without --allow-run", async () => {
  const folder = mkdtempSync(join(tmpdir(), "orchestratum-deno-"));
  const directory = join(folder, "data");
  const lock = `${directory}.lock`;
  const permissions = ["--allow-read", `--allow-write=${folder}`];
  const open = () => startProgram("deno", "test/adapters/open-pglite.ts", { args: [directory], permissions });
  const refused = async (owner: string) => {
    await using program = open();
    expect(await program.ended).toBe(1);
    expect(program.errors).toContain(
      `Cannot open PGlite directory "${directory}": ${owner}; close it there, ` +
        `use a PostgreSQL server for several processes, or delete "${lock}" if that is wrong`,
    );
  };
  const kill = async (program: ReturnType<typeof open>) => {
    program.child.kill("SIGKILL");
    await program.ended;
  };
  try {
    await using first = open();
    await first.said("open");
    await refused(`process ${first.child.pid} has it open`);
    await kill(first);
    await using second = open();
    await second.said("open");
    await kill(second);
    // As another runtime leaves it, or a version before.
    writeFileSync(lock, "999999 1");
    await refused("process 999999 has it open, or was killed, which Deno only sees with --allow-run");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

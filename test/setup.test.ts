/** scripts/setup.mjs in a checkout of its own, with a program in npm's place that notes what it was called with. */
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";

let checkout: string;

beforeEach(() => {
  checkout = mkdtempSync(join(tmpdir(), "orchestratum-setup-"));
  for (const folder of ["scripts", "node_modules", "bin"]) mkdirSync(join(checkout, folder));
  copyFileSync(fileURLToPath(new URL("../scripts/setup.mjs", import.meta.url)), join(checkout, "scripts/setup.mjs"));
  writeFileSync(join(checkout, "package-lock.json"), "{}");
});
afterEach(() => rmSync(checkout, { recursive: true }));

/** Says that npm has installed something, so long after the lock file was written. */
function installed(laterMs: number): void {
  const path = join(checkout, "node_modules/.package-lock.json");
  writeFileSync(path, "{}");
  const writtenAt = 1_700_000_000;
  utimesSync(join(checkout, "package-lock.json"), writtenAt, writtenAt);
  utimesSync(path, writtenAt + laterMs / 1000, writtenAt + laterMs / 1000);
}

/** @param npm the code that it ends with; undefined: there is none. */
function setUp(npm?: number) {
  const calls = join(checkout, "calls");
  if (npm !== undefined) {
    const program = `#!/bin/sh\necho "$PWD: npm $*" >> '${calls}'\nexit ${npm}\n`;
    writeFileSync(join(checkout, "bin/npm"), program, { mode: 0o755 });
  }
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(checkout, "scripts/setup.mjs")], {
    cwd: tmpdir(),
    env: { PATH: join(checkout, "bin") },
    encoding: "utf8",
  });
  return { status, output: stdout + stderr, calls: existsSync(calls) ? readFileSync(calls, "utf8").trim() : "" };
}

const installing = "Installing what package-lock.json names …\n";
const call = () => expect.stringMatching(/orchestratum-setup-\w+\/?: npm ci --no-audit --no-fund$/);

test("setup installs what the lock file names where nothing is installed", () => {
  expect(setUp(0)).toEqual({ status: 0, output: installing, calls: call() });
});

test("setup installs where the lock file is newer than what is installed", () => {
  installed(-1);
  expect(setUp(0)).toEqual({ status: 0, output: installing, calls: call() });
});

test.each([0, 1])(
  "setup says and does nothing where what is installed is %s ms newer than the lock file",
  (laterMs) => {
    installed(laterMs);
    expect(setUp(0)).toEqual({ status: 0, output: "", calls: "" });
  },
);

test("setup fails as npm does, and where there is none", () => {
  expect(setUp(3)).toMatchObject({ status: 3, calls: call() });
  rmSync(join(checkout, "bin/npm"));
  expect(setUp()).toMatchObject({ status: 1 });
});

/**
 * Installs what package-lock.json names, where that has not been done yet, and is silent otherwise. Runs before the
 * tests and the demo, so that a fresh checkout needs no other step. Plain JavaScript: nothing is there to run more.
 */

import { spawnSync } from "node:child_process";
import { statSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** When a file was written last; 0 where there is none. */
const writtenAt = (path) => statSync(root + path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

// npm writes its own copy of the lock file last of all, so an installation that was interrupted is done again.
if (writtenAt("node_modules/.package-lock.json") < writtenAt("package-lock.json")) {
  console.log("Installing what package-lock.json names …");
  const { status } = spawnSync("npm", ["ci", "--no-audit", "--no-fund"], {
    cwd: root,
    stdio: "inherit",
    shell: process.platform === "win32",
  });
  process.exitCode = status ?? 1;
}

/**
 * Breaks the code on purpose, one rule at a time, and looks whether the tests notice: `npm run mutants [-- <word>]`.
 *
 * Each mutant is an edit to a copy of the checkout, and the test that must fail with it. A mutant that survives means
 * that a rule of the promise is not guarded; one whose text is not found any more means that this list is out of date.
 */
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { mutants } from "./mutants-list.ts";

const usage = `Usage: npm run mutants [-- <part of a rule>]

Breaks the code on purpose, one rule at a time, and looks whether a test notices. All ${mutants.length} take about an hour.

Examples
  npm run mutants
  npm run mutants -- fence`;

const root = fileURLToPath(new URL("..", import.meta.url));
const word = process.argv[2] ?? "";
const wanted = mutants.filter(({ rule }) => rule.includes(word));
if (wanted.length === 0) {
  const isAsked = word === "--help" || word === "-h";
  console.log(isAsked ? usage : `No rule includes "${word}".\n\n${usage}`);
  process.exit(isAsked ? 0 : 1);
}
const copy = mkdtempSync(join(tmpdir(), "orchestratum-mutants-"));
let bad = 0;

/** Some mutants make a test wait for polls, and for its own limits, on each driver. */
const limitMs = 480_000;

function run(...args: string[]) {
  return spawnSync(process.execPath, args, { cwd: copy, encoding: "utf8", timeout: limitMs });
}

try {
  for (const part of [
    "src",
    "adapters",
    "sql",
    "test",
    "scripts",
    "package.json",
    "tsconfig.json",
    "vitest.config.ts",
    "vitest.matrix.config.ts",
  ]) {
    // What test/runtimes has installed is large, and none of these needs it.
    const filter = (path: string) => basename(path) !== "node_modules";
    cpSync(join(root, part), join(copy, part), { recursive: true, filter });
  }
  symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
  for (const [place, { rule, file, from, to, test }] of wanted.entries()) {
    const path = join(copy, file);
    const original = readFileSync(path, "utf8");
    let verdict = "out of date: its text is not in the file";
    if (original.includes(from)) {
      writeFileSync(
        path,
        original.replace(from, () => to),
      );
      if (file.startsWith("sql/")) run("--import", "tsx", "scripts/build-sql.ts");
      const [testFile, name] = test;
      const config = testFile.startsWith("test/matrix/") ? ["--config", "vitest.matrix.config.ts"] : [];
      const chosen = name ? ["-t", name] : [];
      const tested = run("node_modules/vitest/vitest.mjs", "run", testFile, ...config, ...chosen);
      const output = `${tested.stdout}${tested.stderr}`;
      const failed = Number(/(\d+) failed$/m.exec(output)?.[1] ?? 0);
      // A test that does not end has noticed, too; vitest turns the signal that then ends it into a code.
      const isLate = (tested.error as { code?: unknown } | undefined)?.code === "ETIMEDOUT";
      if (failed > 0 || tested.signal || isLate) verdict = "noticed";
      else verdict = /^0 passed/m.test(output) || tested.status !== 0 ? "no such test" : "SURVIVED";
      writeFileSync(path, original);
      if (file.startsWith("sql/")) run("--import", "tsx", "scripts/build-sql.ts");
    }
    if (verdict !== "noticed") bad++;
    console.log(
      `${String(place + 1).padStart(2)}/${wanted.length}  ${verdict.padEnd(8)}  ${rule}  (${test.join(": ")})`,
    );
  }
} finally {
  rmSync(copy, { recursive: true, force: true });
}
console.log(`${wanted.length - bad} of ${wanted.length} mutants were noticed`);
process.exitCode = bad === 0 ? 0 : 1;

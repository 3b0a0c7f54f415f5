/**
 * Lines of shell, as help texts and documents show them, run by bash as they are written, with the command line in the
 * place of whatever starts it. No server that they name is reached.
 */
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { command, folder, run } from "./cli-process.ts";

/** How the command line ended, once for each time that a line has run it. */
export interface RunByLine {
  /** `list --status failed --from 1h`, without the quotes of the line. */
  readonly words: string;
  readonly code: number;
  readonly stderr: string;
}

const programs = mkdtempSync(join(folder, "programs-"));
const id = "01999f3e-7c1b-7000-8000-3f2a9f0e6d11";

/** What lines run beside it. Those that start it take the words behind its path. */
const starts =
  'while [ $# -gt 0 ]; do word=$1; shift; case $word in *orchestratum*) exec orchestratum "$@";; esac; done';
const stubs: Readonly<Record<string, string>> = {
  orchestratum: `echo "$*" > "$RUNS/$$.words"
${command.map((word) => `'${word}'`).join(" ")} "$@" 2> "$RUNS/$$.stderr"
code=$?; echo $code > "$RUNS/$$.code"; exit $code`,
  ...Object.fromEntries(["npx", "node", "bun", "deno"].map((name) => [name, starts])),
  psql: 'case "$*" in *-c*) echo "{}";; *) cat > /dev/null;; esac',
  jq: 'cat > /dev/null; echo "{}"',
  xargs: `cat > /dev/null; exec "$@" ${id}`,
  openssl: "echo 0123456789abcdef",
};
for (const [name, text] of Object.entries(stubs)) {
  writeFileSync(join(programs, name), `#!/bin/sh\n${text}\n`);
  chmodSync(join(programs, name), 0o755);
}

/** Files that lines name. No module has a handler, and nothing is a database. */
const files: Readonly<Record<string, string>> = Object.fromEntries([
  ...["commands/module", "handlers", "orchestrator", "site"].flatMap((name) =>
    [".js", ".ts"].map((ending) => [name + ending, "export const one = 1;\n"]),
  ),
  ...["data", "report.json", "corrected.json", "inputs.ndjson"].map((name) => [name, "{}\n"]),
]);

/** Nothing listens there, and `fetch` refuses no such port by itself, as it does 1. */
const [deadDatabase, deadServer] = ["postgres://127.0.0.1:2/none", "http://127.0.0.1:2/jobs"];

/** Runs a script in a folder of its own, where the files are that lines name; of a document, some of its lines. */
export async function runLines(script: string): Promise<RunByLine[]> {
  const own = mkdtempSync(join(folder, "lines-"));
  const [runs, home] = [join(own, "runs"), join(own, "home")];
  const completions = [".local/share/bash-completion/completions", ".config/fish/completions"];
  for (const made of [runs, join(own, "commands"), ...completions.map((name) => join(home, name))]) {
    mkdirSync(made, { recursive: true });
  }
  for (const [name, text] of Object.entries(files)) writeFileSync(join(own, name), text);
  const deadServers = script
    .replaceAll("postgres://localhost/app", deadDatabase)
    .replaceAll("https://app.example.com/jobs", deadServer)
    .replaceAll("=…", "=secret");
  await run(["-c", `fpath=(. "$HOME")\n${deadServers}`], {
    words: ["bash"],
    cwd: own,
    env: {
      ...{ PATH: `${programs}:${process.env.PATH}`, HOME: home, RUNS: runs },
      ...{ DATABASE_URL: deadDatabase, SHOP_TOKEN: "0123456789abcdef" },
    },
  });
  return readdirSync(runs)
    .filter((name) => name.endsWith(".words"))
    .map((name) => {
      const [words, code, stderr] = ["words", "code", "stderr"].map((kind) =>
        readFileSync(join(runs, name.replace("words", kind)), "utf8").trim(),
      ) as [string, string, string];
      return { words, code: Number(code), stderr };
    });
}

/** What ends without a server. */
const local = /^(?:init|sql|completion)\b/;
/** How far the others may come: to a server that is none, a module without handlers, a database that is a file. */
const expected =
  /ECONNREFUSED|did not answer|the module exports none|EEXIST: .*data|not run TypeScript|extension "\.ts"/;

/** Runs that were misuse, and scripts with a line that does not run it: none where each is as its command wants it. What asks may. */
export async function misusesOf(scripts: readonly string[]): Promise<object[]> {
  const wrong: object[] = [];
  const left = [...scripts];
  const next = async (): Promise<void> => {
    for (let script = left.shift(); script !== undefined; script = left.shift()) {
      const runs = await runLines(script);
      const lines = script.split("\n").filter((line) => !line.startsWith("export "));
      if (runs.length < lines.length) wrong.push({ script, runs });
      for (const { words, code, stderr } of runs) {
        const asks = code === 2 && stderr.startsWith("Cannot ask ");
        const isRight = local.test(words) ? code === 0 : asks || (code === 1 && expected.test(stderr));
        if (!isRight) wrong.push({ script, words, code, stderr });
      }
    }
  };
  await Promise.all(Array.from({ length: 16 }, next));
  return wrong;
}

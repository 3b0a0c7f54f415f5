/**
 * `orchestratum completion`: what a shell offers is what there is. Bash runs the script; the others are looked at here, and
 * run by test/matrix/completion.test.ts.
 */

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { beforeAll, expect, test } from "vitest";
import { commands } from "../../adapters/cli/commands.ts";
import { run } from "./cli-process.ts";

const execute = promisify(execFile);

const scripts: Record<string, string> = {};
beforeAll(async () => {
  for (const shell of ["bash", "zsh", "fish"]) scripts[shell] = (await run(["completion", shell])).stdout;
});

/** What bash offers for a line whose last word is being typed. */
async function offered(...words: string[]): Promise<string[]> {
  const line = ["orchestratum", ...words].map((word) => `'${word}'`).join(" ");
  const code = `${scripts.bash}
COMP_WORDS=(${line}); COMP_CWORD=${words.length}; _orchestratum; printf '%s\\n' "\${COMPREPLY[@]}"`;
  // Over a socket, which its input is here, bash takes itself for a remote shell, and reads what is set for those.
  const { stdout, stderr } = await execute("bash", ["--norc", "-uc", code]);
  expect(stderr).toBe("");
  return stdout.split("\n").filter(Boolean);
}

test("every option that is parsed stands in the help of its command, and no other one", () => {
  for (const [name, { options, usage }] of Object.entries(commands)) {
    const shown = Array.from(usage.matchAll(/^ {2}(--[a-z-]+(?:, --[a-z-]+)*) {2,}\S/gm), ([, flags = ""]) =>
      flags.split(", "),
    );
    const told = shown.flat().filter((flag) => flag !== "--help");
    expect({ name, told: told.toSorted() }).toEqual({
      name,
      told: Object.keys(options)
        .map((one) => `--${one}`)
        .toSorted(),
    });
  }
});

test("bash completes commands, their options, and values that are known", async () => {
  expect(await offered("pu")).toEqual(["push"]);
  expect(await offered("")).toEqual([...Object.keys(commands), "help", "--help", "--version"]);
  expect(await offered("push", "--wai")).toEqual(["--wait", "--wait-ms"]);
  for (const [name, { options }] of Object.entries(commands)) {
    expect(await offered(name, "--")).toEqual([...Object.keys(options).map((one) => `--${one}`), "--help"]);
  }
  expect(await offered("list", "--status", "s")).toEqual(["scheduled", "succeeded"]);
  expect(await offered("completion", "")).toEqual(["bash", "zsh", "fish"]);
  expect(await offered("help", "ser")).toEqual(["serve"]);
  // Of a file, an id, a queue nothing is known here: bash offers names of files.
  expect(await offered("push", "--file", "")).toEqual([]);
  expect(await offered("push", "--queue", "--")).toEqual([]);
  expect(await offered("status", "01")).toEqual([]);
  expect(await offered("unknown", "--")).toEqual([]);
});

test("bash has the script registered for the command, and falls back to names of files", async () => {
  const { stdout } = await execute("bash", ["-c", `${scripts.bash}\ncomplete -p orchestratum`]);
  expect(stdout).toBe("complete -o default -F _orchestratum orchestratum\n");
});

test("the scripts for zsh and fish name every command and option", () => {
  for (const [name, { options, summary }] of Object.entries(commands)) {
    expect(scripts.zsh).toContain(`    ${name})\n`);
    expect(scripts.fish).toContain(` -a ${name} -d '${summary.replaceAll("'", "\\'")}'\n`);
    for (const option of Object.keys(options)) {
      expect(scripts.zsh).toContain(`--${option}[`);
      expect(scripts.fish).toContain(`'__orchestratum_command_is ${name}' -l ${option} `);
    }
  }
});

test.each([
  [["completion"], "one shell is wanted (bash, zsh, fish), got 0"],
  [["completion", "bsh"], 'the shell must be one of bash, zsh, fish, got "bsh"'],
  [["completion", "constructor"], 'got "constructor"'],
])("orchestratum %j is misuse: exit code 2 and the way out", async (args, reason) => {
  expect(await run(args)).toMatchObject({ code: 2, stdout: "", stderr: expect.stringContaining(reason) });
});

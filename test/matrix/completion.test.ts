/**
 * `orchestratum completion zsh` and `fish`, as those shells run it, from where docs/command-line.md has it written.
 * Both must be on the machine; of bash, which always is, test/adapters/cli-completion.test.ts asks the same.
 */
import { execFile } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { beforeAll, describe, expect, test } from "vitest";
import { commands } from "../../adapters/cli/commands.ts";
import { folder, run } from "../adapters/cli-process.ts";
import { root } from "./miniflare.ts";

const execute = promisify(execFile);
const program = (name: string): string => join(root, "test/matrix/shells", name);
const names = Object.keys(commands);
const flagsOf = (name: string): string[] => [
  ...Object.keys(commands[name]?.options ?? {}).map((one) => `--${one}`),
  "--help",
];

/** A folder with one file in it. */
const cwd = join(folder, "work");

/** By its name: what its script is called, and what runs the programs in shells/ with their folder and lines. */
const shells: Readonly<Record<string, { readonly script: string; readonly command: readonly string[] }>> = {
  zsh: { script: "_orchestratum", command: ["zsh", "-f", program("offered.zsh")] },
  fish: { script: "orchestratum.fish", command: ["fish", "--no-config", program("offered.fish")] },
};

beforeAll(() => {
  mkdirSync(cwd);
  writeFileSync(join(cwd, "input.json"), "{}");
});

describe.each(Object.entries(shells))("%s", (shell, { script, command }) => {
  beforeAll(async () => {
    writeFileSync(join(folder, script), (await run(["completion", shell])).stdout);
  });

  /** What is offered after `orchestratum` for each of these, whose last word is being typed. */
  async function offer(lines: readonly string[]): Promise<string[][]> {
    const [file = "", ...args] = [...command, folder, ...lines.map((line) => `orchestratum ${line}`)];
    const { stdout } = await execute(file, args, { cwd, timeout: 60_000 });
    const lists = stdout.split(/^\.\n/m).slice(0, -1);
    return lists.map((list) => list.split("\n").filter(Boolean).toSorted());
  }

  test("completes commands, their options, and values that are known", async () => {
    const flags = names.map((name): [line: string, offered: string[]] => [`${name} --`, flagsOf(name)]);
    const wanted: [line: string, offered: string[]][] = [
      ["pu", ["push"]],
      ["he", ["help"]],
      ["--ve", ["--version"]],
      ["push --wai", ["--wait", "--wait-ms"]],
      ["list --status s", ["scheduled", "succeeded"]],
      ["completion ", ["bash", "fish", "zsh"]],
      ["help ser", ["serve"]],
      ["work ", ["input.json"]],
      ["push --file ", ["input.json"]],
      // Of an id or a queue nothing is known.
      ["status 01", []],
      ["push --queue ", []],
      ["unknown --", []],
      // What comes after a word is an option of the same command, also where the word is the name of another.
      ["push send_email --wai", ["--wait", "--wait-ms"]],
      ["push retry --dry", []],
      ["help retry --dry", []],
      ...flags,
    ];
    const [first = [], ...offered] = await offer(["", ...wanted.map(([line]) => line)]);
    // Options are offered by fish to who has typed the first dash of one.
    expect(first.filter((word) => !word.startsWith("-"))).toEqual([...names, "help"].toSorted());
    expect(wanted.map(([line], index) => [line, offered[index]])).toEqual(
      wanted.map(([line, words]) => [line, words.toSorted()]),
    );
  });
});

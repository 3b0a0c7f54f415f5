/** Before what cannot be taken back: on a terminal it is asked, elsewhere a flag must have said so. */

import process from "node:process";
import { createInterface } from "node:readline/promises";
import { MisuseError } from "./misuse.ts";

/**
 * Whether to go on.
 *
 * @param question a whole sentence: "Erase 3 commands?"
 * @param unattended what holds where nobody can be asked: a script knows what it does, or must say so by `--yes`.
 */
export async function confirmed(question: string, unattended: "go on" | "refuse"): Promise<boolean> {
  if (!process.stdin.isTTY) {
    if (unattended === "go on") return true;
    throw new MisuseError(`Cannot ask "${question}" without a terminal: pass --yes`);
  }
  const asking = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await asking.question(`${question} [y/N] `)).trim());
  } finally {
    asking.close();
  }
}

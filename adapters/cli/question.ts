/** Before what cannot be taken back: on a terminal it is asked, elsewhere a flag must have said so. */

import process from "node:process";
import { createInterface } from "node:readline/promises";
import { MisuseError } from "./misuse.ts";

/**
 * Whether to go on.
 *
 * @param question a whole sentence: "Erase 3 commands?"
 * @throws MisuseError where nobody can be asked.
 */
export async function confirmed(question: string): Promise<boolean> {
  if (!process.stdin.isTTY) throw new MisuseError(`Cannot ask "${question}" without a terminal: pass --yes`);
  const asking = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await asking.question(`${question} [y/N] `)).trim());
  } finally {
    asking.close();
  }
}

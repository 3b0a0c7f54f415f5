/** Who acts: recorded with each act of control. */

import { userInfo } from "node:os";
import process from "node:process";
import { MisuseError } from "./misuse.ts";

export const byUsage =
  "  --by              who does it, for the record of acts: 1 to 200 characters [the user of the system]";

export function operator(attempt: string, given: string | undefined): string {
  if (given === undefined) return systemUser();
  if (given.length >= 1 && given.length <= 200) return given;
  throw new MisuseError(`${attempt}: --by must have 1 to 200 characters, got ${given.length}`);
}

function systemUser(): string {
  try {
    return userInfo().username;
  } catch {
    // In a container the id of the user may have no name.
    return process.env.USER ?? process.env.USERNAME ?? `user ${process.getuid?.() ?? "unknown"}`;
  }
}

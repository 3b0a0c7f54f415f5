/** The database that the command line names: by the URL of a server, or as a directory for the embedded one. */

import process from "node:process";
import type { Driver } from "../../src/driver.ts";
import { MisuseError } from "./misuse.ts";

export interface CliDatabase extends Driver {
  close(): Promise<void>;
}

/** Opens what `--database` names, or else DATABASE_URL. Its driver is loaded only now: the other need not be installed. */
export async function openDatabase(given: string | undefined): Promise<CliDatabase> {
  const target = given ?? process.env.DATABASE_URL;
  if (!target) {
    // Whoever has set it may think that it is enough.
    const http = process.env.ORCHESTRATUM_URL ? "; this is not done over HTTP, so ORCHESTRATUM_URL does not count" : "";
    throw new MisuseError(`Cannot open a database: neither --database nor DATABASE_URL says which${http}`);
  }
  if (/^postgres(ql)?:\/\//.test(target)) {
    const { postgresJs } = await load(() => import("../postgres-js.ts"), "postgres");
    return postgresJs(target);
  }
  if (/^(?!file:)\w+:\/\//.test(target)) {
    const shown = target.replace(/(:\/\/[^:/@]*):[^@]*@/, "$1:***@");
    throw new MisuseError(`Cannot open database "${shown}": it must be postgres://… or a directory`);
  }
  const { pglite } = await load(() => import("../pglite.ts"), "@electric-sql/pglite");
  return await pglite(target);
}

async function load<T>(module: () => Promise<T>, needs: string): Promise<T> {
  try {
    return await module();
  } catch (error) {
    const { code, message } = error as { code?: unknown; message?: unknown };
    if (code !== "ERR_MODULE_NOT_FOUND" || !String(message).includes(needs)) throw error;
    throw new Error(`Cannot open the database: package "${needs}" is not installed; run \`npm install ${needs}\``, {
      cause: error,
    });
  }
}

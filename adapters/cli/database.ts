/** The database that the command line names: by the URL of a server, or as a directory for the embedded one. */

import process from "node:process";
import type { Driver } from "../../src/driver.ts";
import { MisuseError } from "./misuse.ts";

export interface CliDatabase extends Driver {
  /** Of a server: where it is, and who said so, without a password. */
  readonly place?: string;
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
    return serverAt(target, given === undefined ? "DATABASE_URL" : "--database", postgresJs);
  }
  if (/^(?!file:)\w+:\/\//.test(target)) {
    const shown = target.replace(/(:\/\/[^:/@]*):[^@]*@/, "$1:***@");
    throw new MisuseError(`Cannot open database "${shown}": it must be postgres://… or a directory`);
  }
  const { pglite } = await load(() => import("../pglite.ts"), "@electric-sql/pglite");
  return await pglite(target);
}

type Open = typeof import("../postgres-js.ts").postgresJs;

/** postgres.js takes what the URL leaves open from the environment, as libpq does, so it is asked where that is. */
function serverAt(url: string, from: string, open: Open): CliDatabase {
  try {
    const database = open(url);
    const { path, host, port, database: name } = database.sql.options;
    const hosts = host.map((one, index) => `${one.includes(":") ? `[${one}]` : one}:${port[index] ?? port[0]}`);
    return { ...database, place: `${path || hosts.join(",")}/${name} (from ${from})` };
  } catch (error) {
    if ((error as { code?: unknown }).code !== "ERR_INVALID_URL") throw error;
    // Neither it nor the cause is shown: a URL that cannot be read has its password anywhere.
    throw new MisuseError(
      `Cannot open the database (from ${from}): it is no URL, such as postgres://user@localhost:5432/app`,
    );
  }
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

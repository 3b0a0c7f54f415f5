/** What a command of the command line asks: an orchestrator on the database that was named, for as long as it takes. */

import { existsSync, readdirSync } from "node:fs";
import process from "node:process";
import { createOrchestrator, type Orchestrator } from "../../src/index.ts";
import { type CliDatabase, openDatabase } from "./database.ts";
import { requireSchema } from "./schema.ts";

export interface Connection {
  readonly orchestrator: Orchestrator;
  readonly database: CliDatabase;
  readonly schema: string;
}

/** Opens what the options name, and closes it whatever becomes of `work`. Nothing is made where there is none. */
export async function withConnection<T>(
  options: { readonly database?: string | undefined; readonly schema?: string | undefined },
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  const schema = requireSchema(options.schema);
  requireExisting(options.database ?? process.env.DATABASE_URL);
  const database = await openDatabase(options.database);
  try {
    const orchestrator = createOrchestrator({ database, schema });
    try {
      return await work({ orchestrator, database, schema });
    } finally {
      await orchestrator.stop();
    }
  } finally {
    await database.close();
  }
}

/** A mistyped directory would be made, filled with a new database, and answer that there is nothing. */
function requireExisting(target: string | undefined): void {
  if (!target || /^\w+:\/\//.test(target)) return;
  if (existsSync(target) && readdirSync(target).length > 0) return;
  throw new Error(
    `Cannot open database "${target}": there is none in this directory; \`orchestratum migrate --database ${target}\` makes one`,
  );
}

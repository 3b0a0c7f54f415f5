import { parseArgs } from "node:util";
import { migrationScript } from "../../src/migrate.ts";
import type { CliCommand } from "./main.ts";
import { MisuseError } from "./misuse.ts";
import { requireSchema } from "./schema.ts";

export const sqlCommand: CliCommand = {
  usage: `Usage: orchestratum sql [--schema <name>] [--from <migration>]

Prints what migrate would apply, as one transaction.

  --schema          the name of the schema [orchestratum]
  --from            the number of the newest migration that the database has [0, none]

Examples:
  orchestratum sql | psql -v ON_ERROR_STOP=1 postgres://localhost/app
  orchestratum sql --schema jobs --from 2 > upgrade.sql
`,

  async run(args) {
    const { values } = parseArgs({ args, options: { schema: { type: "string" }, from: { type: "string" } } });
    const schema = requireSchema(values.schema);
    const from = values.from === undefined ? 0 : Number(values.from);
    let script: string;
    try {
      script = migrationScript({ schema, from });
    } catch (error) {
      throw error instanceof RangeError ? new MisuseError(error.message) : error;
    }
    // It is longer than a pipe holds, and the process exits right after.
    await new Promise<void>((resolve, reject) => {
      process.stdout.write(script, (error) => (error ? reject(error) : resolve()));
    });
  },
};

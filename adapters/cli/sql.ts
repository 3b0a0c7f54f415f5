import { migrationScript } from "../../src/migrate.ts";
import { checked, parseOptions, refusePositionals } from "./arguments.ts";
import type { CliCommand } from "./commands.ts";
import { requireSchema } from "./schema.ts";

const attempt = "Cannot print migrations";

const options = {
  schema: { type: "string" },
  from: { type: "string" },
} as const;

export const sqlCommand: CliCommand = {
  summary: "prints what migrate would apply, for psql",
  options,
  usage: `Usage: orchestratum sql [--schema <name>] [--from <migration>]

Prints what migrate would apply, as one transaction.

  --schema          the name of the schema [orchestratum]
  --from            the number of the newest migration that the database has [0, none]

Examples:
  orchestratum sql | psql -v ON_ERROR_STOP=1 postgres://localhost/app
  orchestratum sql --schema jobs --from 2 > upgrade.sql
`,

  async run(args) {
    const { values, positionals } = parseOptions(attempt, args, options);
    refusePositionals(attempt, positionals);
    const schema = requireSchema(values.schema);
    const from = values.from === undefined ? 0 : Number(values.from);
    const script = checked(() => migrationScript({ schema, from }));
    // It is longer than a pipe holds, and the process exits right after.
    await new Promise<void>((resolve, reject) => {
      process.stdout.write(script, (error) => (error ? reject(error) : resolve()));
    });
  },
};

import { migrate, migrateDown } from "../../src/migrate.ts";
import { databaseOptions, parseOptions, refusePositionals } from "./arguments.ts";
import type { CliCommand } from "./commands.ts";
import { openDatabase } from "./database.ts";
import { showProgress } from "./progress-bar.ts";
import { reaching } from "./reaching.ts";
import { requireSchema } from "./schema.ts";

const attempt = "Cannot migrate";

const options = { ...databaseOptions, down: { type: "boolean" } } as const;

export const migrateCommand: CliCommand = {
  summary: "brings a database up to date, or goes one step back",
  options,
  usage: `Usage: orchestratum migrate [--down] [--database <url or directory>] [--schema <name>]

Brings the schema up to date. It may be run as often as one likes, and by many at once.

  --down            undoes the newest migration, with what it had added: for development
  --database        postgres://…, or a directory for the embedded database [DATABASE_URL]
  --schema          the name of the schema [orchestratum]

Examples:
  orchestratum migrate --database postgres://localhost/app
  orchestratum migrate --database ./data --schema jobs
  DATABASE_URL=postgres://localhost/app orchestratum migrate --down
`,

  async run(args) {
    const { values, positionals } = parseOptions(attempt, args, options);
    refusePositionals(attempt, positionals);
    const schema = requireSchema(values.schema);
    const database = await openDatabase(values.database);
    try {
      const { place } = database;
      if (values.down) {
        const undone = await reaching(place, () => shown("Undoing", migrateDown(database, { schema })));
        console.log(undone === undefined ? "Nothing to undo" : `Undone: ${undone}`);
        return;
      }
      const { applied, functionsReplaced, newer } = await reaching(place, () =>
        shown("Migrating", migrate(database, { schema })),
      );
      for (const name of applied) console.log(`Applied: ${name}`);
      if (functionsReplaced) console.log("Functions replaced");
      if (newer) console.log("Nothing changed: a newer release has migrated this database");
      else if (applied.length === 0 && !functionsReplaced) console.log("Nothing to apply");
    } finally {
      await database.close();
    }
  },
};

/** One transaction, of which nobody sees a part: the bar says for how long. */
function shown<T>(label: string, work: Promise<T>): Promise<T> {
  const progress = showProgress(label);
  return work.finally(() => progress.end());
}

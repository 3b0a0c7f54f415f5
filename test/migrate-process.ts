/** A process that migrates the database at argv[2] and prints what it did: one of many that start at once. */

import { postgresJs } from "../adapters/postgres-js.ts";
import { migrate } from "../src/migrate.ts";

const database = postgresJs(process.argv[2] ?? "", { max: 1 });
console.log(JSON.stringify(await migrate(database)));
await database.close();

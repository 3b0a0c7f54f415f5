import { parseArgs } from "node:util";

export interface Options {
  readonly folder: string;
  readonly database: string | undefined;
  readonly clean: boolean;
  readonly concurrency: number;
}

/** What the user got wrong, told without a stack. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

export const usage = `Usage: npm run demo -- [folder] [options]

Digests every file below a folder (size and SHA-256), by commands in a database. Interrupted, or killed, and started
again on the same folder, it finishes what was left. Without a folder it takes this checkout, node_modules included.

The database is an embedded one, in a directory of its own for each folder; or, where DATABASE_URL is set, that server.

  --database <dir>    where the embedded database is kept
  --clean             empties the embedded database first: an unfinished run, and all earlier ones, are forgotten
  --concurrency <n>   how many commands run at once, 1 to 1000 (128)
  --help              shows this

Examples:
  npm run demo
  npm run demo -- ~/Pictures
  npm run demo -- ~/Pictures --clean
  npm run demo -- /usr/share --database ./data/share
  DATABASE_URL=postgres://localhost/app npm run demo -- ~/Pictures
`;

/** Undefined where help is asked for. */
export function readOptions(args: readonly string[], defaultFolder: string): Options | undefined {
  const { values, positionals } = parse(args);
  if (values.help) return undefined;
  if (positionals.length > 1) throw new UsageError(`Cannot digest ${positionals.length} folders at once: name one`);
  const concurrency = Number(values.concurrency ?? 128);
  if (!Number.isInteger(concurrency) || concurrency < 1 || concurrency > 1000) {
    throw new UsageError(
      `Cannot run ${values.concurrency} commands at once: --concurrency takes a number from 1 to 1000`,
    );
  }
  return { folder: positionals[0] ?? defaultFolder, database: values.database, clean: values.clean, concurrency };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        database: { type: "string" },
        clean: { type: "boolean", default: false },
        concurrency: { type: "string" },
        help: { type: "boolean", short: "h", default: false },
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

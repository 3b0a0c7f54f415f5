/** Digests a folder: `npm run demo -- <folder>`, and `--help` for more. */
import { realpath, stat } from "node:fs/promises";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { createOrchestrator, type Orchestrator, type Worker } from "orchestratum";
import { logObservations } from "orchestratum/node";
import { embedded, expandHome, type Location, type OpenDatabase, server } from "./database.ts";
import { digestFileHandler } from "./digest-file.ts";
import { type Options, readOptions, UsageError, usage } from "./options.ts";
import { type Progress, showProgress } from "./progress.ts";
import { reportHandler } from "./report.ts";
import { findOrBegin, queueOf, type Run, reportOn, untilNothingIsLeft } from "./run.ts";
import { table } from "./table.ts";
import { amount, plural, seconds } from "./text.ts";
import { walkFolderHandler } from "./walk-folder.ts";

/**
 * How long the commands of a process that was killed stay with it. Shorter than the default, since somebody waits for
 * them; longer than a statement of the embedded database, which keeps this process from extending its leases.
 */
const leaseMs = 10_000;

/** A command is lost when somebody kills this process, which is no fault of the command: more often than the default. */
const maxLosses = 10;

const checkout = fileURLToPath(new URL("../..", import.meta.url));

async function main(args: readonly string[]): Promise<void> {
  const options = readOptions(args, checkout);
  if (options === undefined) return console.log(usage);
  const folder = await folderAt(options.folder);
  const location = locationOf(folder, options);
  console.log(`Folder:   ${folder}\nDatabase: ${location.description}`);

  const interruption = interruptible();
  const database = await location.open();
  const progress = showProgress();
  const orchestrator = createOrchestrator({
    database,
    handlers: [walkFolderHandler(queueOf(folder), new Set(location.paths)), digestFileHandler, reportHandler(database)],
  });
  logTroubles(orchestrator, progress);
  interruption.onRepeat = () => void orchestrator.stop({ graceMs: 0 });
  try {
    await digest(folder, { database, orchestrator, progress, interruption, concurrency: options.concurrency });
  } catch (error) {
    // A statement or a wait that was cut short by the signal is no failure.
    if (!interruption.signal.aborted) throw error;
  } finally {
    progress.stop();
    await orchestrator.stop();
    await database.close();
    interruption.end();
  }
}

interface Surroundings {
  readonly database: OpenDatabase;
  readonly orchestrator: Orchestrator;
  readonly progress: Progress;
  readonly interruption: Interruption;
  readonly concurrency: number;
}

async function digest(
  folder: string,
  { database, orchestrator, progress, interruption, concurrency }: Surroundings,
): Promise<void> {
  const { signal } = interruption;
  await orchestrator.migrate();
  signal.throwIfAborted();
  const run = await findOrBegin(folder, orchestrator, database);
  sayWhatIsFound(run);
  signal.throwIfAborted();

  const startedAt = performance.now();
  let done = 0;
  const worker = orchestrator.startWorker({ queues: [queueOf(folder)], concurrency, leaseMs, maxLosses });
  try {
    await untilNothingIsLeft(run, database, {
      signal,
      onLeft(left) {
        done = ended(worker);
        progress.update(run.done + done, left);
      },
    });
    const ms = performance.now() - startedAt;
    progress.stop();
    const figures = await reportOn(run, orchestrator, signal);
    const width = Math.min(Math.max(process.stdout.columns ?? 100, 60), 120);
    console.log(`\n${table(figures, { folder, commands: done, ms, width })}`);
  } catch (error) {
    if (!signal.aborted) throw error;
    progress.stop();
    console.error("\nStopping: what runs finishes first; Ctrl-C again hands it back at once.");
    await orchestrator.stop();
    console.error(`Stopped after ${plural(run.done + ended(worker), "command")}. Start again to finish the rest.`);
  }
}

/** How many commands ended for good in this process. */
function ended({ counts: { succeeded, failed, cancelled } }: Worker): number {
  return succeeded + failed + cancelled;
}

function sayWhatIsFound({ since, done, left, leased, leasedForMs }: Run): void {
  if (since === undefined) return;
  console.log(
    `Resuming the run of ${since.toLocaleString("en-GB")}: ${amount(done)} commands are recorded, ${amount(left)} are left`,
  );
  if (leased > 0 && leasedForMs > 0) {
    console.log(
      `${amount(leased)} of them were running when it ended, and are taken over when their leases end, in ${seconds(leasedForMs)} at most`,
    );
  }
}

/** What fails for good is in the table; this is what the library has to say beside it. */
function logTroubles(orchestrator: Orchestrator, progress: Progress): void {
  logObservations(
    {
      observe: (observer) =>
        orchestrator.observe((observation) => {
          if (observation.type !== "command_finished" && observation.type !== "listening") observer(observation);
        }),
    },
    { level: "warn", write: (line) => progress.say(line) },
  );
}

async function folderAt(given: string): Promise<string> {
  const path = expandHome(given);
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") throw new UsageError(`Cannot digest "${given}": there is no such folder`);
    throw new UsageError(`Cannot digest "${given}": ${error.message}`);
  });
  if (!found.isDirectory()) throw new UsageError(`Cannot digest "${given}": it is no folder`);
  return await realpath(path);
}

function locationOf(folder: string, { database, clean }: Options): Location {
  const url = process.env.DATABASE_URL;
  if (!url) {
    return embedded(folder, { directory: database === undefined ? undefined : expandHome(database), clean });
  }
  if (database !== undefined || clean) {
    throw new UsageError("Cannot use --database or --clean with DATABASE_URL: they are about the embedded database");
  }
  return server(url);
}

interface Interruption {
  readonly signal: AbortSignal;
  /** What a second signal does. */
  onRepeat: () => void;
  /** Lets go of signals. One that was caught then ends the process, as whoever started it expects. */
  end(): void;
}

/** Turns SIGINT and SIGTERM into an aborted signal. */
function interruptible(): Interruption {
  const controller = new AbortController();
  const names = ["SIGINT", "SIGTERM"] as const;
  let first: { name: NodeJS.Signals; at: number } | undefined;
  const onSignal = (name: NodeJS.Signals): void => {
    if (first === undefined) {
      first = { name, at: performance.now() };
      controller.abort(new Error(`Interrupted by ${name}`));
      return;
    }
    // Ctrl-C comes twice under npm: from the terminal, and handed on by npm.
    if (performance.now() - first.at > 500) interruption.onRepeat();
  };
  const interruption: Interruption = {
    signal: controller.signal,
    onRepeat: () => {},
    end() {
      for (const name of names) process.off(name, onSignal);
      if (first !== undefined) process.kill(process.pid, first.name);
    },
  };
  for (const name of names) process.on(name, onSignal);
  return interruption;
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  const told = error instanceof UsageError && process.env.DEBUG === undefined;
  console.error(told ? `${error.message}\n\nnpm run demo -- --help shows what it takes.` : error);
  process.exitCode = 1;
}

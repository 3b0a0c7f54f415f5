/** The commands of the command line, in the order of the help. */

import type { Options } from "./arguments.ts";
import { cancelCommand } from "./cancel.ts";
import { createCompletion } from "./completion.ts";
import { doctorCommand } from "./doctor.ts";
import { eraseCommand } from "./erase.ts";
import type { ExitCode } from "./exit-code.ts";
import { explainCommand } from "./explain.ts";
import { initCommand } from "./init.ts";
import { listCommand } from "./list.ts";
import { migrateCommand } from "./migrate.ts";
import { pauseCommand } from "./pause.ts";
import { pushCommand } from "./push.ts";
import { queuesCommand } from "./queues.ts";
import { resumeCommand } from "./resume.ts";
import { retryCommand } from "./retry.ts";
import { serveCommand } from "./serve.ts";
import { sqlCommand } from "./sql.ts";
import { statsCommand } from "./stats.ts";
import { statusCommand } from "./status.ts";
import { tailCommand } from "./tail.ts";
import { timelineCommand } from "./timeline.ts";
import { workCommand } from "./work.ts";
import { workersCommand } from "./workers.ts";

/** One of the commands: what it prints on `--help`, and what it does with the arguments after its name. */
export interface CliCommand {
  /** One line for the list of commands. */
  readonly summary: string;
  /** Begins with `Usage: orchestratum <its name>`. Each option has a line: two spaces, its name, two or more, what it is. */
  readonly usage: string;
  /** What it takes beside `--help`. */
  readonly options: Options;
  /** What its arguments are, for shells: files, or one of some words. */
  readonly takes?: "files" | readonly string[];
  /** @returns how it ended; nothing is done. */
  run(args: string[]): Promise<ExitCode | void>;
}

export const commands: Readonly<Record<string, CliCommand>> = {
  init: initCommand,
  migrate: migrateCommand,
  sql: sqlCommand,
  work: workCommand,
  serve: serveCommand,
  push: pushCommand,
  status: statusCommand,
  timeline: timelineCommand,
  explain: explainCommand,
  list: listCommand,
  tail: tailCommand,
  stats: statsCommand,
  queues: queuesCommand,
  workers: workersCommand,
  doctor: doctorCommand,
  cancel: cancelCommand,
  retry: retryCommand,
  pause: pauseCommand,
  resume: resumeCommand,
  erase: eraseCommand,
  completion: createCompletion(() => commands),
};

/**
 * Putting commands into the queue. Ids are made here, so that a push can be repeated after a lost reply without
 * doubling. Concurrent pushes coalesce while a write is under way, but for two kinds that go alone: those within a
 * caller's transaction, and those whose id the caller chose, since a twin in somebody's open transaction makes the
 * whole statement wait for it.
 */
import { createBatcher } from "./batcher.ts";
import type { Clock } from "./clock.ts";
import { type Database, isPassing, repeatDelayMs, sqlState } from "./database.ts";
import type { Queryable } from "./driver.ts";
import type { EncodedCommand } from "./encode-command.ts";
import { type Due, earliest, type Hints } from "./hints.ts";
import { maxBatchBytes, maxBatchCommands } from "./limits.ts";
import type { Observer } from "./observation.ts";
import { pause } from "./wakeup.ts";

/** An id that the caller chose stands for another command already: another name, or another input. */
export class CommandConflictError extends Error {
  readonly code = "ORCHESTRATUM_COMMAND_CONFLICT";
  override readonly name = "CommandConflictError";
  /** The id that was pushed before. */
  readonly id: string | undefined;
  constructor(id: string | undefined, cause: unknown) {
    super(`Cannot push command ${id ?? ""}: its id was pushed before with another name or input`, { cause });
    this.id = id;
  }
}

export interface Pusher {
  /** Resolves when all of them are in the queue; within `db`, when they are part of its transaction. */
  push(commands: readonly EncodedCommand[], db?: Queryable): Promise<void>;
}

/** A push is sent again for this long before its caller is told of the database's trouble. */
const patienceMs = 10_000;
const deadlineMs = 10_000;

interface PushRow extends Due {
  readonly id: string;
  readonly transaction_id?: string;
}

export function createPusher(database: Database, clock: Clock, hints: Hints, report: Observer): Pusher {
  // What one call pushes stays together: it is written by one statement, or not at all.
  const batcher = createBatcher<readonly EncodedCommand[], undefined>({
    async write(lists) {
      await send(lists.flat(), false);
      return lists.map(() => undefined);
    },
    countOf: (commands) => commands.length,
    maxCount: maxBatchCommands,
    maxBytes: maxBatchBytes,
    bytesOf: (commands) => commands.reduce((bytes, command) => bytes + command.bytes, 0),
  });

  /** Sends a batch, and again where the reply may have been lost: by then it may be a repeat. */
  async function send(commands: readonly EncodedCommand[], chosen: boolean): Promise<void> {
    const json = batchJson(commands);
    const until = clock.now() + patienceMs;
    for (let sending = 1; ; sending++) {
      try {
        const rows = await database.run<PushRow>("pushBatch", [json, chosen || sending > 1], { deadlineMs });
        hints.due(earliest(rows));
        // What stood there already may never have been hinted at: the first one was cut off before it could.
        if (rows.length < commands.length) hints.wake([...new Set(commands.map((command) => command.queue))]);
        return;
      } catch (error) {
        if (clock.now() >= until || !isPassing(error)) throw conflictOr(error);
        report({ type: "database_trouble", operation: "pushBatch", error, attempt: sending });
        await pause(clock, repeatDelayMs(clock, sending, 1_000));
      }
    }
  }

  async function sendWithin(db: Queryable, commands: readonly EncodedCommand[]): Promise<void> {
    const chosen = commands.some((command) => command.chosenId);
    try {
      const rows = await database.run<PushRow>("pushBatchWithin", [batchJson(commands), chosen], { db });
      if (rows[0]?.transaction_id !== undefined) hints.dueAfter(rows[0].transaction_id, earliest(rows));
    } catch (error) {
      throw conflictOr(error);
    }
  }

  return {
    async push(commands, db) {
      if (db) {
        for (const chunk of chunks(commands)) await sendWithin(db, chunk);
      } else if (commands.some((command) => command.chosenId)) {
        for (const chunk of chunks(commands)) await send(chunk, true);
      } else {
        await Promise.all([...chunks(commands)].map((chunk) => batcher.add(chunk)));
      }
    },
  };
}

function batchJson(commands: readonly EncodedCommand[]): string {
  return `[${commands.map((command) => command.json).join(",")}]`;
}

/** Batches within the limits of count and bytes. */
function* chunks(commands: readonly EncodedCommand[]): Generator<EncodedCommand[]> {
  let chunk: EncodedCommand[] = [];
  let bytes = 0;
  for (const command of commands) {
    if (chunk.length > 0 && (chunk.length >= maxBatchCommands || bytes + command.bytes > maxBatchBytes)) {
      yield chunk;
      chunk = [];
      bytes = 0;
    }
    chunk.push(command);
    bytes += command.bytes;
  }
  if (chunk.length > 0) yield chunk;
}

/** What the functions raise where an id was pushed before with another name or input. */
const conflictState = "OR001";

function conflictOr(error: unknown): unknown {
  if (sqlState(error) !== conflictState) return error;
  const { detail, message } = error as { detail?: unknown; message?: unknown };
  const id = typeof detail === "string" ? detail : /[0-9a-f-]{36}/.exec(String(message))?.[0];
  return new CommandConflictError(id, error);
}

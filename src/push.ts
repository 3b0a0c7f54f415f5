/**
 * Putting commands into the queue. Ids are made by this process, so that a push can be repeated after a lost reply
 * without doubling. How lists become batches: batch.ts.
 */
import { batchJson, conflictingId, createBatches } from "./batch.ts";
import type { Clock } from "./clock.ts";
import { type Database, patiently, sqlState } from "./database.ts";
import type { Queryable } from "./driver.ts";
import type { EncodedCommand } from "./encode-command.ts";
import { type Due, earliest, type Hints } from "./hints.ts";
import type { Observer } from "./observation.ts";

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

interface PushRow extends Due {
  readonly id: string;
  readonly transaction_id?: string;
}

export function createPusher(database: Database, clock: Clock, hints: Hints, report: Observer): Pusher {
  /** Sends a batch, and again where the reply may have been lost: by then it may be a repeat. */
  async function send(commands: readonly EncodedCommand[], chosen: boolean): Promise<void> {
    const json = batchJson(commands);
    try {
      const rows = await patiently("pushBatch", { clock, report }, (again, deadlineMs) => {
        return database.run<PushRow>("pushBatch", [json, chosen || again], { deadlineMs });
      });
      hints.due(earliest(rows));
      // What stood there already may never have been hinted at: the first one was cut off before it could.
      if (rows.length < commands.length) hints.wake([...new Set(commands.map((command) => command.queue))]);
    } catch (error) {
      throw conflictOr(error);
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

  return { push: createBatches({ send, sendWithin }) };
}

/** What the functions raise where an id was pushed before with another name or input. */
const conflictState = "OR001";

function conflictOr(error: unknown): unknown {
  if (sqlState(error) !== conflictState) return error;
  return new CommandConflictError(conflictingId(error), error);
}

/** How a command ended, as those who waited for it get it. */
import type { CommandId } from "./command.ts";
import type { AnyContract } from "./define-command.ts";
import { parseOutput } from "./execute.ts";
import type { ErrorRecord } from "./failure.ts";
import { InvalidOutputError } from "./invalid-output.ts";
import type { EndedRow } from "./wait-for.ts";

/** One entry of a command's trail: what became of a lease that did not end well, was put off, or was handed back. */
export interface TrailEntry extends ErrorRecord {
  readonly fence: number;
  readonly attempt: number;
  readonly worker: string;
  readonly started_at: string;
  readonly ended_at: string;
}

/** Whether a lease was put off, or handed back, which is no failure of what it ran. */
export const isNoError = ({ code }: TrailEntry): boolean => code === "snoozed" || code === "released";

export type CommandOutcome<Output = unknown> =
  | { readonly status: "succeeded"; readonly id: CommandId<Output>; readonly output: Output; readonly finishedAt: Date }
  | {
      readonly status: "failed" | "cancelled" | "timed_out" | "not_found";
      readonly id: CommandId<Output>;
      /** The last entry of the trail, where there is one. */
      readonly error: TrailEntry | undefined;
      readonly finishedAt: Date;
    };

/** Without a contract the output is raw. */
export async function readOutcome(row: EndedRow, contract: AnyContract | undefined): Promise<CommandOutcome> {
  const id = row.id as CommandId;
  const finishedAt = parseTime(row.finished_at);
  if (row.status !== "succeeded") {
    const trail = row.trail === null ? [] : (JSON.parse(row.trail) as TrailEntry[]);
    return { status: row.status as "failed", id, error: trail.at(-1), finishedAt };
  }
  const raw: unknown = row.output === null ? undefined : JSON.parse(row.output);
  if (!contract) return { status: "succeeded", id, output: raw, finishedAt };
  try {
    const output = await parseOutput(contract, row.output ?? undefined);
    return { status: "succeeded", id, output, finishedAt };
  } catch (error) {
    throw new InvalidOutputError(row.id, raw, error);
  }
}

/** A timestamp as PostgreSQL prints it in UTC; microseconds are lost. */
export function parseTime(text: string): Date {
  return new Date(text.replace(" ", "T").replace(/\+00$/, "Z"));
}

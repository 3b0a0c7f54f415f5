/** What ends on a database, as `tail` of the client tells of it over HTTP. */

import type { Orchestrator } from "../../src/index.ts";
import type { CommandSummary } from "../../src/summary.ts";
import type { TailOptions } from "../client/client.ts";
import { createEndedFeed } from "../hono/ended-feed.ts";

/**
 * Reads history once a second, and leaves out what it has told. It ends by `signal`, with the orchestrator, or where the
 * database fails ten times.
 */
export async function* tailOf(
  orchestrator: Pick<Orchestrator, "list" | "report" | "isStopped">,
  { since, signal = new AbortController().signal, onSkipped }: TailOptions,
): AsyncGenerator<CommandSummary, void, undefined> {
  const batches = await createEndedFeed(orchestrator).watch(signal, since);
  /** What ended since a time may be told again by the first looks. */
  const told = new Set<string>();
  while (true) {
    const { commands, skipped } = (await batches.next()).value;
    if (skipped) onSkipped?.();
    for (const command of commands) {
      const key = `${command.id} ${command.finishedAt?.getTime()}`;
      if (told.has(key)) continue;
      told.add(key);
      if (told.size > 10_000) told.delete(told.values().next().value as string);
      yield command;
    }
  }
}

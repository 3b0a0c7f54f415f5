/** Commands without end into a database, as `pushMany` of the client puts them in over HTTP. */

import type { Command } from "../../src/command.ts";
import type { Orchestrator } from "../../src/index.ts";
import { maxBatchBytes, maxBatchCommands } from "../../src/limits.ts";
import type { PushedLine } from "../client/client.ts";

/**
 * Pushes 1,000 commands, or 8 MB, at a time: each such part commits for itself, all or nothing, and is answered before
 * the next one is begun.
 */
export async function* pushMany(
  orchestrator: Pick<Orchestrator, "push">,
  commands: AsyncIterable<Command>,
): AsyncGenerator<PushedLine, void, undefined> {
  let batch: Command[] = [];
  let bytes = 0;
  let line = 0;
  async function* flush(): AsyncGenerator<PushedLine, void, undefined> {
    const pushed = batch.length === 0 ? [] : await orchestrator.push(batch);
    batch = [];
    bytes = 0;
    for (const { id } of pushed) yield { line: ++line, id };
  }
  for await (const command of commands) {
    const own = Buffer.byteLength(JSON.stringify(command.input) ?? "");
    if (bytes + own > maxBatchBytes) yield* flush();
    batch.push(command);
    bytes += own;
    if (batch.length >= maxBatchCommands) yield* flush();
  }
  yield* flush();
}

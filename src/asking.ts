/** What may be asked of commands, beside `get`, `waitFor` and `counts`. */
import type { Database } from "./database.ts";
import type { CommandFilter } from "./filter.ts";
import { type Keys, requireKeys, requireSignal } from "./limits.ts";
import { type CommandList, type ListOptions, listKeys, listPage } from "./list.ts";
import type { CommandProgress, ProgressOptions, Watcher } from "./progress.ts";
import { readTimeline, type Timeline } from "./timeline.ts";
import { type CommandTree, readTree } from "./tree.ts";
import { requireId } from "./uuid.ts";

export interface Asking {
  /**
   * Lists commands, page by page: first what is live, in the order of its queues, priorities and times, then what has
   * finished, the newest first. What moves between two pages may stand on both; nothing that keeps its place, or ends,
   * is left out.
   *
   * @throws TypeError and RangeError for a filter, limit or cursor that is none, and for a filter that would read all of
   * history (see `CommandFilter`).
   */
  list(filter?: CommandFilter, options?: ListOptions): Promise<CommandList>;

  /** What happened to a command: pushed, each lease that is known of, its end, and what it caused; undefined where there is none. */
  timeline(id: string): Promise<Timeline | undefined>;

  /** The whole chain that a command belongs to, from its first one on, 1,000 commands at most; undefined where there is none. */
  tree(id: string): Promise<CommandTree | undefined>;

  /**
   * Watches a command: its present state first, then each change of its status or progress, until it has ended. All that
   * is watched in this process is read once a second; whoever is slower gets the newest state.
   *
   * @throws TypeError for an id that is none, at the call; while iterating UnknownCommandError, StoppedError, or the
   * reason of `signal`.
   */
  progress(id: string, options?: ProgressOptions): AsyncIterableIterator<CommandProgress>;
}

const progressKeys: Keys<ProgressOptions> = { signal: true };

export function createAsking(database: Database, watcher: Watcher): Asking {
  return {
    async list(filter, options) {
      requireKeys("Cannot list commands", options, listKeys);
      return await listPage(database, filter, options);
    },
    timeline: async (id) => await readTimeline(database, idOf("Cannot read timeline", id)),
    tree: async (id) => await readTree(database, idOf("Cannot read tree", id)),
    progress(id, options) {
      const attempt = "Cannot watch command";
      requireKeys(attempt, options, progressKeys);
      if (options?.signal !== undefined) requireSignal(attempt, options.signal);
      return watcher.watch(idOf(attempt, id), options);
    },
  };
}

function idOf(attempt: string, id: unknown): string {
  requireId(attempt, id);
  return id.toLowerCase();
}

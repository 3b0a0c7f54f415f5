/**
 * The commands of a digest run. A walk is followed by the digests of its files and the walks of its subfolders; when
 * nothing of that is left, one report sums up what was recorded. All commands of a run share one correlation id.
 */
import { defineCommand } from "orchestratum";
import * as v from "valibot";

/** Too many open files, a busy file: gone in a moment, as a rule. */
const troubles = { retries: 5, backoff: { initialMs: 250, maxMs: 10_000 } };

const count = v.pipe(v.number(), v.integer(), v.minValue(0));

/** Reads one page of a folder: the entries whose names come after `after`, or the first ones. */
export const walkFolder = defineCommand({
  ...troubles,
  name: "walk_folder",
  input: v.object({ folder: v.string(), after: v.optional(v.string()) }),
  output: v.object({
    files: v.array(v.string()),
    folders: v.array(v.string()),
    /** Symbolic links, pipes, sockets, devices. */
    skipped: count,
    /** There is more: the next page begins after this name. */
    next: v.optional(v.string()),
  }),
  // Before the digests, so that the progress bar soon knows how much there is.
  priority: 4,
});

export const digestFile = defineCommand({
  ...troubles,
  name: "digest_file",
  input: v.object({ file: v.string() }),
  output: v.object({ bytes: count, sha256: v.string(), ms: v.number() }),
  timeoutMs: 60 * 60 * 1000,
});

const file = v.object({ file: v.string(), bytes: count });

/** What the report sums up; the lists are the first few of each. */
export const figures = v.object({
  commands: count,
  retried: count,
  folders: count,
  files: count,
  bytes: count,
  skipped: count,
  slowest: v.array(v.object({ ...file.entries, ms: v.number() })),
  duplicates: v.object({
    groups: count,
    files: count,
    wastedBytes: count,
    largest: v.array(v.object({ ...file.entries, copies: count, wastedBytes: count })),
  }),
  failures: v.object({
    count,
    first: v.array(v.object({ name: v.string(), path: v.string(), status: v.string(), error: v.nullable(v.string()) })),
  }),
});

export type Figures = v.InferOutput<typeof figures>;

export const report = defineCommand({
  name: "report",
  input: v.object({ run: v.pipe(v.string(), v.uuid()) }),
  output: figures,
});

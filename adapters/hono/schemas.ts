/**
 * What travels over HTTP, as schemas: requests are validated by them, and the document is made of both. Times are ISO
 * 8601 texts, properties that are undefined are left out.
 */
import * as v from "valibot";
import type { DeadStatus } from "../../src/dead-letters.ts";
import type { CommandStatus } from "../../src/index.ts";
import {
  maxDelayMs,
  maxNameLength,
  maxPriority,
  maxQueueLength,
  maxRetries,
  maxTime,
  maxTimeoutMs,
  maxTopicLength,
  maxVersion,
} from "../../src/limits.ts";

/** Without their inference: adapters/ declares its types. */
type Any = v.GenericSchema<any, any>;

const uuid = v.pipe(v.string(), v.uuid());
const time = v.pipe(
  v.string(),
  v.isoTimestamp(),
  // An offset without minutes is one by ISO 8601, and no Date is made of it.
  v.check((given) => !Number.isNaN(Date.parse(given)), "must be a time, with a whole offset"),
);
const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const whole = (min: number, max: number) => v.pipe(v.number(), v.integer(), v.minValue(min), v.maxValue(max));
const text = (max: number) =>
  v.pipe(
    v.string(),
    v.minLength(1),
    v.maxLength(max),
    v.check((given) => given.isWellFormed() && !given.includes("\0"), "must be well-formed Unicode without NUL"),
  );
const name = v.pipe(text(maxNameLength), v.regex(/^\P{Cc}+$/u, "must be free of control characters"));
const queue = v.pipe(
  text(maxQueueLength),
  v.regex(/^[^\s\p{Cc}]+$/u, "must be free of white space and control characters"),
);

const live = ["scheduled", "pending", "running"] as const;
const final = ["succeeded", "failed", "cancelled", "timed_out", "not_found"] as const;
const status = v.picklist([...live, ...final]);

export const problemDocument: Any = v.looseObject({
  type: v.string(),
  title: v.string(),
  status: v.number(),
  detail: v.optional(v.string()),
  issues: v.optional(v.array(v.object({ path: v.string(), message: v.string() }))),
  id: v.optional(v.string()),
});

/** Not a record: that would drop a key `__proto__` in silence, where the library refuses it. */
const metadata = v.pipe(
  v.unknown(),
  v.check((given) => typeof given === "object" && given !== null && !Array.isArray(given), "must be an object"),
  v.check((given) => !Object.hasOwn(Object(given), "actor"), "must have no actor: it is who sends the request"),
  v.description("An object. What travels along the chain; its actor is who sends the request."),
);

/** When a command may be due, as the library has it. */
const dueTime = v.pipe(
  time,
  v.check((given) => isDueTime(Date.parse(given)), "must lie between 1970-01-01 and 9999-12-31"),
);
const isDueTime = (at: number): boolean => at >= 0 && at <= maxTime.getTime();

const envelope = {
  /** Of a contract that the server knows. */
  name,
  input: v.optional(v.unknown()),
  version: v.optional(whole(1, maxVersion)),
  queue: v.optional(queue),
  priority: v.optional(whole(0, maxPriority)),
  runAt: v.optional(dueTime),
  delayMs: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(maxDelayMs))),
  timeoutMs: v.optional(whole(1, maxTimeoutMs)),
  retries: v.optional(whole(0, maxRetries)),
  metadata: v.optional(metadata),
};

/** A command as it is pushed over HTTP. */
export interface PushedCommand {
  readonly name: string;
  readonly input?: unknown;
  readonly version?: number | undefined;
  readonly queue?: string | undefined;
  readonly priority?: number | undefined;
  readonly runAt?: string | undefined;
  readonly delayMs?: number | undefined;
  readonly timeoutMs?: number | undefined;
  readonly retries?: number | undefined;
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
}

export const pushedCommand: v.GenericSchema<unknown, PushedCommand> = v.pipe(
  v.strictObject(envelope),
  // Also where something else is wrong.
  v.partialCheck(
    [["runAt"], ["delayMs"]],
    (given) => given.runAt === undefined || given.delayMs === undefined,
    "must not have both runAt and delayMs",
  ),
) as never;

/** What a pushed command may have. */
export const commandKeys: readonly string[] = Object.keys(envelope);

/** Most commands of a list, and most events. */
export const maxMany = 1_000;

/** Counted before anything in it is looked at: millions of elements would be an issue each. */
export const counted: v.GenericSchema<unknown, unknown[]> = v.pipe(
  v.array(v.unknown()),
  v.minLength(1),
  v.maxLength(maxMany),
);
const many = (one: v.GenericSchema<any, any>) => v.pipe(counted, v.array(one));

export const pushedCommands: v.GenericSchema<unknown, PushedCommand[]> = many(pushedCommand) as never;

export const accepted: Any = v.object({ id: uuid, status: v.string() });
export const acceptedMany: Any = v.object({ commands: v.array(accepted) });

export const answerLine: Any = v.union([
  v.object({ line: count, id: uuid, status: v.string() }),
  v.object({ line: count, problem: problemDocument }),
  v.object({ done: v.boolean(), accepted: count, refused: count, problem: v.optional(problemDocument) }),
]);

export const idParams: v.GenericSchema<unknown, { readonly id: string }> = v.object({ id: uuid }) as never;
export const queueParams: v.GenericSchema<unknown, { readonly name: string }> = v.object({ name: queue }) as never;
export const nameParams: v.GenericSchema<unknown, { readonly name: string }> = v.object({ name }) as never;

const flag = v.pipe(
  v.picklist(["true", "false"]),
  v.transform((given) => given === "true"),
);

/** In a query one comes as it is, and several as a list. */
const listOrOne = (list: v.GenericSchema<any, any[]>, one: v.GenericSchema<any, any>) =>
  v.union([
    list,
    v.pipe(
      one,
      v.transform((given) => [given]),
    ),
  ]);

export const commandQuery: v.GenericSchema<unknown, { readonly redirect?: boolean }> = v.object({
  redirect: v.optional(flag),
}) as never;

export const sinceQuery: v.GenericSchema<unknown, { readonly since?: string | undefined }> = v.strictObject({
  since: v.optional(time),
}) as never;

export const hooksQuery: v.GenericSchema<unknown, { readonly hooks?: boolean }> = v.object({
  hooks: v.optional(flag),
}) as never;

const summary = {
  id: uuid,
  name: v.string(),
  version: v.number(),
  hook: v.optional(v.picklist(["failure", "cancellation"])),
  queue: v.string(),
  priority: v.number(),
  status,
  attempt: v.number(),
  retriesLeft: v.number(),
  worker: v.optional(v.string()),
  parentId: v.optional(uuid),
  createdAt: time,
  dueAt: time,
  availableAt: v.optional(time),
  startedAt: v.optional(time),
  finishedAt: v.optional(time),
};

const summarised = {
  ...summary,
  correlationId: v.string(),
  error: v.optional(v.object({ code: v.optional(v.string()), message: v.string() })),
};

const commandSummary = v.object(summarised);

export const commandSnapshot: Any = v.object({
  ...summary,
  input: v.optional(v.unknown()),
  progress: v.optional(v.unknown()),
  metadata: v.looseObject({}),
  trail: v.array(v.looseObject({ code: v.string(), fence: v.number(), attempt: v.number() })),
  fence: v.number(),
  losses: v.number(),
  timeoutMs: v.number(),
  cancelRequestedAt: v.optional(time),
  unknownSince: v.optional(time),
});

export const unfinished: Any = v.object({ id: uuid, status: v.picklist(live) });

export const timeline: Any = v.object({
  command: commandSummary,
  entries: v.array(
    v.variant("kind", [
      v.object({ kind: v.literal("pushed"), at: time }),
      v.object({
        kind: v.literal("leased"),
        at: time,
        to: v.optional(time),
        worker: v.optional(v.string()),
        end: v.optional(v.picklist([...final, "lost", "snoozed", "released"])),
        error: v.optional(v.object({ code: v.string(), message: v.optional(v.string()) })),
      }),
      v.object({ kind: v.literal("finished"), at: time, status }),
    ]),
  ),
  children: v.array(commandSummary),
  truncated: v.boolean(),
});

/** Its nodes are described one level deep: below it they are alike. */
const node = v.looseObject({ ...summarised, children: v.array(v.looseObject(summarised)) });
export const tree: Any = v.object({ root: node, count, truncated: v.boolean() });

export const explanation: Any = v.looseObject({ id: uuid, status, cause: v.string(), sentence: v.string() });

export const acted: Any = v.object({ id: uuid, result: v.string() });
export const retryBody: v.GenericSchema<unknown, { readonly input?: unknown }> = v.strictObject({
  input: v.optional(v.unknown()),
}) as never;
export const nothing: v.GenericSchema<unknown, Record<string, never>> = v.strictObject({}) as never;

/** A filter as a list's query or a bulk act's body has it; the library checks the rest. */
export interface Filter {
  readonly status?: readonly CommandStatus[] | undefined;
  readonly queue?: string | undefined;
  readonly name?: string | undefined;
  readonly parentId?: string | undefined;
  readonly correlationId?: string | undefined;
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  readonly errorText?: string | undefined;
  readonly hooks?: boolean | undefined;
}

const filterKeys = {
  queue: v.optional(queue),
  name: v.optional(name),
  parentId: v.optional(uuid),
  correlationId: v.optional(text(200)),
  from: v.optional(time),
  to: v.optional(time),
  errorText: v.optional(text(200)),
};

const statuses = v.pipe(v.array(status), v.minLength(1), v.maxLength(8));

export const maxPage = 200;

export const listQuery: v.GenericSchema<
  unknown,
  Filter & { readonly limit?: number | undefined; readonly cursor?: string | undefined }
> = v.strictObject({
  ...filterKeys,
  /** Several: `status=failed&status=timed_out`. */
  status: v.optional(listOrOne(statuses, status)),
  hooks: v.optional(flag),
  limit: v.optional(
    v.pipe(v.string(), v.regex(/^[0-9]{1,4}$/), v.transform(Number), v.minValue(1), v.maxValue(maxPage)),
  ),
  cursor: v.optional(text(1_000)),
}) as never;

const filterBody = (keys: v.ObjectEntries) =>
  v.pipe(
    v.strictObject({ ...keys, hooks: v.optional(v.boolean()) }),
    v.check((given) => Object.keys(given).length > 0, "must name something: an empty one would mean everything"),
  );

export const bulkBody: v.GenericSchema<unknown, { readonly filter: Filter; readonly dryRun?: boolean | undefined }> =
  v.strictObject({
    filter: filterBody({ ...filterKeys, status: v.optional(statuses) }),
    dryRun: v.optional(v.boolean()),
  }) as never;

export const bulkResult: Any = v.object({ count, busy: count, dryRun: v.boolean() });
export const commandList: Any = v.object({ commands: v.array(commandSummary), cursor: v.optional(v.string()) });

export const queueList: Any = v.object({
  queues: v.array(
    v.object({
      queue: v.string(),
      paused: v.boolean(),
      pausedAt: v.optional(time),
      pausedBy: v.optional(v.string()),
      scheduled: count,
      pending: count,
      running: count,
      pausedNames: v.array(v.string()),
    }),
  ),
});
export const pausedNameList: Any = v.object({
  names: v.array(v.object({ name: v.string(), pausedAt: time, pausedBy: v.optional(v.string()) })),
});
export const changed: Any = v.object({
  queue: v.optional(v.string()),
  name: v.optional(v.string()),
  changed: v.boolean(),
});
export const workerList: Any = v.object({
  workers: v.array(
    v.looseObject({
      id: v.string(),
      status: v.picklist(["running", "lost", "stopped"]),
      queues: v.array(v.string()),
      concurrency: count,
      running: count,
      startedAt: time,
      lastSeenAt: time,
    }),
  ),
  duties: v.array(v.looseObject({ name: v.string(), nextRunAt: time, lastError: v.optional(v.string()) })),
});

const durations = v.object({
  count,
  meanMs: v.number(),
  p50Ms: v.number(),
  p95Ms: v.number(),
  p99Ms: v.number(),
});
const ended = { finished: count, failed: count, cancelled: count };
const figures = {
  scheduled: count,
  pending: count,
  running: count,
  ...ended,
  waiting: v.optional(durations),
  execution: v.optional(durations),
  oldestDueAt: v.optional(time),
};
export const stats: Any = v.object({
  at: time,
  since: time,
  until: v.optional(time),
  queues: v.array(v.object({ queue: v.string(), ...figures })),
  names: v.array(v.object({ name: v.string(), ...figures })),
  workers: v.array(
    v.object({
      worker: v.string(),
      running: count,
      ...ended,
      waiting: v.optional(durations),
      execution: v.optional(durations),
    }),
  ),
});

export interface TickBody {
  readonly maxCommands?: number;
  readonly maxMs?: number;
  readonly queues?: readonly string[];
  readonly concurrency?: number;
}

/** Shorter than a tick may be elsewhere: whoever asks waits for the answer. */
export const tickBody: v.GenericSchema<unknown, TickBody> = v.strictObject({
  maxCommands: v.optional(whole(1, 100_000)),
  maxMs: v.optional(whole(100, 300_000)),
  queues: v.optional(v.pipe(v.array(queue), v.minLength(1), v.maxLength(100))),
  concurrency: v.optional(whole(1, 1_000)),
}) as never;

export const ticked: Any = v.looseObject({
  more: v.boolean(),
  nextDueAt: v.optional(time),
  comeBackInMs: v.optional(v.number()),
});

// Events.

const topic = text(maxTopicLength);

export interface PublishedEvents {
  readonly events: readonly {
    readonly topic: string;
    readonly data?: unknown;
    readonly metadata?: Readonly<Record<string, unknown>> | undefined;
  }[];
  readonly stream?: string | undefined;
  readonly expectedVersion?: number | undefined;
}

const event = { topic, data: v.optional(v.unknown()), metadata: v.optional(metadata) };
const publishing = {
  events: many(v.strictObject(event)),
  stream: v.optional(topic),
  expectedVersion: v.optional(whole(0, 2 ** 31 - 1)),
};

/** What a body of events may have, and each of the events. */
export const publishingKeys: readonly string[] = Object.keys(publishing);
export const eventKeys: readonly string[] = Object.keys(event);

export const publishedEvents: v.GenericSchema<unknown, PublishedEvents> = v.pipe(
  v.strictObject(publishing),
  v.partialCheck(
    [["stream"], ["expectedVersion"]],
    (given) => given.stream !== undefined || given.expectedVersion === undefined,
    "wants a stream with expectedVersion",
  ),
) as never;

export const published: Any = v.object({ ids: v.array(uuid), version: v.optional(count) });

const recorded = v.object({
  id: uuid,
  topic: v.string(),
  data: v.optional(v.unknown()),
  metadata: v.looseObject({}),
  stream: v.optional(v.string()),
  version: v.optional(count),
  position: v.optional(count),
  appendedAt: time,
});

const numeral = (max: number) =>
  v.pipe(v.string(), v.regex(/^[0-9]{1,15}$/), v.transform(Number), v.minValue(0), v.maxValue(max));

export const eventsQuery: v.GenericSchema<
  unknown,
  { readonly after?: number; readonly limit?: number; readonly topic?: string[] }
> = v.strictObject({
  after: v.optional(numeral(Number.MAX_SAFE_INTEGER)),
  limit: v.optional(v.pipe(numeral(maxPage), v.minValue(1))),
  /** Patterns, several: `topic=orders.%23&topic=mail.*`. */
  topic: v.optional(listOrOne(v.pipe(v.array(topic), v.maxLength(50)), topic)),
}) as never;

export const logPage: Any = v.object({ events: v.array(recorded), position: count, more: v.boolean() });

export const streamParams: v.GenericSchema<unknown, { readonly stream: string }> = v.object({ stream: topic }) as never;
export const streamQuery: v.GenericSchema<
  unknown,
  { readonly from?: number; readonly direction?: "forwards" | "backwards"; readonly limit?: number }
> = v.strictObject({
  from: v.optional(v.pipe(numeral(2 ** 31 - 1), v.minValue(1))),
  direction: v.optional(v.picklist(["forwards", "backwards"])),
  limit: v.optional(v.pipe(numeral(maxPage), v.minValue(1))),
}) as never;
export const streamEvents: Any = v.object({ events: v.array(recorded) });

export const eventStatus: Any = v.object({
  status: v.picklist(["published", "partially_handled", "handled", "failed"]),
  event: recorded,
  deliveries: v.array(v.looseObject({ subscription: v.string(), commandId: uuid, status })),
  isComplete: v.boolean(),
});

export const subscriptionParams: v.GenericSchema<unknown, { readonly name: string }> = v.object({
  name: text(maxNameLength),
}) as never;
export const subscriptionList: Any = v.object({
  subscriptions: v.array(
    v.looseObject({ name: v.string(), patterns: v.array(v.string()), queue: v.string(), addedAt: time }),
  ),
});
export const removal: v.GenericSchema<unknown, { readonly deliveries: "keep" | "cancel" }> = v.strictObject({
  deliveries: v.picklist(["keep", "cancel"]),
}) as never;
export const removed: Any = v.object({
  removed: v.boolean(),
  cancelled: v.optional(v.object({ count, busy: count })),
});

/** A filter of dead letters. */
export interface DeadFilter extends Omit<Filter, "status"> {
  readonly status?: readonly DeadStatus[] | undefined;
  readonly subscription?: string | undefined;
}

const deadStatus = v.picklist(["failed", "timed_out", "not_found"]);
const deadKeys = { ...filterKeys, subscription: v.optional(text(maxNameLength)) };
const deadStatuses = v.pipe(v.array(deadStatus), v.minLength(1), v.maxLength(3));

export const deadQuery: v.GenericSchema<
  unknown,
  DeadFilter & { readonly limit?: number | undefined; readonly cursor?: string | undefined }
> = v.strictObject({
  ...deadKeys,
  status: v.optional(listOrOne(deadStatuses, deadStatus)),
  hooks: v.optional(flag),
  limit: v.optional(v.pipe(numeral(maxPage), v.minValue(1))),
  cursor: v.optional(text(1_000)),
}) as never;

const deadFilter = filterBody({ ...deadKeys, status: v.optional(deadStatuses) });

export const deadDrop: v.GenericSchema<unknown, { readonly filter: DeadFilter; readonly dryRun?: boolean }> =
  v.strictObject({ filter: deadFilter, dryRun: v.optional(v.boolean()) }) as never;
export const deadRetry: v.GenericSchema<
  unknown,
  { readonly filter: DeadFilter; readonly dryRun?: boolean; readonly perSecond?: number }
> = v.strictObject({
  filter: deadFilter,
  dryRun: v.optional(v.boolean()),
  perSecond: v.optional(v.pipe(v.number(), v.gtValue(0), v.maxValue(100_000))),
}) as never;

export const health: Any = v.object({ status: v.picklist(["live", "ready"]) });
export const page: Any = v.string();
export const anyJson: Any = v.unknown();

/**
 * A typed client for the routes of `orchestratum/hono`, wherever there is a `fetch`: what an orchestrator answers to
 * whoever holds it, over HTTP and in the same shapes. It imports nothing of the server; contracts are what both share.
 */
import type { FilterOptions, FilterResult } from "../../src/by-filter.ts";
import type { CancelResult } from "../../src/cancel.ts";
import {
  type Command,
  type CommandId,
  type CommandOptions,
  isCommand,
  isKind,
  type OutputOf,
} from "../../src/command.ts";
import type { EraseResult, PausedName, QueueState, RetryResult } from "../../src/control.ts";
import type { DeadLetterFilter } from "../../src/dead-letters.ts";
import type { AnyContract } from "../../src/define-command.ts";
import type { NewEvent } from "../../src/define-event.ts";
import { encodeCommand } from "../../src/encode-command.ts";
import type { EventStatus } from "../../src/event-status.ts";
import type { Explanation } from "../../src/explain.ts";
import type { CommandFilter } from "../../src/filter.ts";
import type { DutyState, FleetWorker } from "../../src/fleet.ts";
import type { CommandSnapshot } from "../../src/get.ts";
import { InvalidOutputError } from "../../src/invalid-output.ts";
import { maxTimeoutMs, requireMs, shown } from "../../src/limits.ts";
import type { CommandList, ListOptions } from "../../src/list.ts";
import type { CommandOutcome, TrailEntry } from "../../src/outcome.ts";
import type { CommandProgress, ProgressOptions } from "../../src/progress.ts";
import type { LogPage } from "../../src/read-log.ts";
import type { RecordedEvent } from "../../src/recorded-event.ts";
import type { Stats, StatsOptions } from "../../src/statistics.ts";
import type { SubscriptionState } from "../../src/subscriptions.ts";
import type { CommandSummary } from "../../src/summary.ts";
import type { Timeline } from "../../src/timeline.ts";
import type { CommandTree } from "../../src/tree.ts";
import { isUuid } from "../../src/uuid.ts";
import { formatIssues, validate } from "../../src/validate.ts";
import { UnknownCommandError, type WaitOptions, WaitTimeoutError } from "../../src/wait-errors.ts";
import { answersOf, linesOf } from "./ndjson.ts";
import { revive } from "./revive.ts";
import { readEvents } from "./sse.ts";
import {
  type Ask,
  createTransport,
  HttpProblemError,
  isPassingFailure,
  jsonOf,
  pause,
  problemOf,
  ServerUnreachableError,
  type TransportOptions,
} from "./transport.ts";

export { HttpProblemError, ServerUnreachableError, type TransportOptions };

export interface ClientOptions extends TransportOptions {
  /** Contracts whose outputs are waited for by ids from elsewhere; those that are pushed are known anyway. @default none */
  readonly commands?: readonly AnyContract[];
}

/** Options of a push: defaults for its commands, and what a repeat is known by. */
export interface PushOverHttpOptions extends Omit<CommandOptions, "id"> {
  /**
   * What this push is known by, 1 to 200 visible characters of ASCII: with the same key the same commands are pushed
   * once, by whoever sends it with this token.
   *
   * @default a new one for each call, so that its own repetitions push once
   */
  readonly idempotencyKey?: string;
  /** Gives up with the signal's reason. What was sent may have been pushed. */
  readonly signal?: AbortSignal;
}

/** A command that was pushed. */
export interface PushedOverHttp<Output = unknown> {
  readonly id: CommandId<Output>;
}

/** What came of one line of `pushMany`. */
export type PushedLine =
  | { readonly line: number; readonly id: CommandId }
  | { readonly line: number; readonly problem: HttpProblemError };

/** A command that has ended, as `tail` tells of it. */
export type EndedCommand = CommandSummary;

export interface TailOptions extends ProgressOptions {
  /** From when on. @default now */
  readonly since?: Date | undefined;
  /** Hears that more ended at once than the server tells of, 10,000: some were left out. */
  readonly onSkipped?: (() => void) | undefined;
}

export interface Client {
  /**
   * Pushes one command, or up to 1,000 together. Inputs are validated before anything is sent. Repeated by itself where
   * the network or the server has trouble, under one idempotency key.
   *
   * @throws InvalidInputError; HttpProblemError for what the server refused; the network's error after the last try.
   */
  push<C extends Command<any>>(command: C, options?: PushOverHttpOptions): Promise<PushedOverHttp<OutputOf<C>>>;
  push<const L extends readonly Command<any>[]>(
    commands: L,
    options?: PushOverHttpOptions,
  ): Promise<{ [K in keyof L]: PushedOverHttp<OutputOf<L[K]>> }>;

  /**
   * Pushes commands without end, and yields what came of each, in order: 500 in one request, each of which is repeated
   * by itself under one idempotency key. A line that is refused does not keep the others out.
   */
  pushMany(
    commands: Iterable<Command> | AsyncIterable<Command>,
    options?: PushOverHttpOptions,
  ): AsyncIterableIterator<PushedLine>;

  /** Reads a command with its output; undefined where there is none. */
  get(id: string, options?: { readonly signal?: AbortSignal }): Promise<CommandSnapshot | undefined>;

  /**
   * Waits for the end of a command by requests that are answered when it ends, 50 s each at most.
   *
   * @throws UnknownCommandError, WaitTimeoutError, InvalidOutputError (with the raw output), or the reason of `signal`.
   */
  waitFor<Output>(id: CommandId<Output>, options?: WaitOptions): Promise<CommandOutcome<Output>>;
  waitFor<C extends AnyContract>(contract: C, id: string, options?: WaitOptions): Promise<CommandOutcome<OutputOf<C>>>;
  waitFor(id: string, options?: WaitOptions): Promise<CommandOutcome>;

  /** Status and progress as they change, by Server-Sent Events; ends with the command. Connects again by itself. */
  progress(id: string, options?: ProgressOptions): AsyncIterableIterator<CommandProgress>;
  /** What ends, as it ends, without end. Connects again by itself; commands that were told of twice are left out. */
  tail(options?: TailOptions): AsyncIterableIterator<EndedCommand>;

  /** A page of commands, 1 to 200. */
  list(filter?: CommandFilter, options?: ListOptions): Promise<CommandList>;
  /** All of them, page by page. */
  listAll(filter?: CommandFilter): AsyncIterableIterator<CommandSummary>;
  timeline(id: string): Promise<Timeline | undefined>;
  tree(id: string): Promise<CommandTree | undefined>;
  explain(id: string): Promise<Explanation | undefined>;
  stats(options?: StatsOptions): Promise<Stats>;
  queues(options?: { readonly hooks?: boolean }): Promise<QueueState[]>;
  workerList(): Promise<FleetWorker[]>;
  duties(): Promise<DutyState[]>;

  /** By id it is sent again where the network or the server has trouble; by a filter, only a dry run is. */
  cancel(id: string): Promise<CancelResult>;
  cancel(filter: CommandFilter, options?: FilterOptions): Promise<FilterResult>;
  /** Sent once: a repetition would run what has ended meanwhile once more. */
  retry(id: string, options?: { readonly input?: unknown }): Promise<RetryResult>;
  retry(filter: CommandFilter, options?: FilterOptions): Promise<FilterResult>;
  /** Sent again where the network or the server has trouble. @throws HttpProblemError, 403 without the scope. */
  erase(id: string): Promise<EraseResult>;
  pauseQueue(queue: string): Promise<boolean>;
  resumeQueue(queue: string): Promise<boolean>;
  pauseName(name: string): Promise<boolean>;
  resumeName(name: string): Promise<boolean>;
  pausedNames(): Promise<PausedName[]>;

  /** Publishes events, or appends them to a stream: all of them, or none. */
  publish(
    events: NewEvent | readonly NewEvent[],
    options?: { readonly stream?: string; readonly expectedVersion?: number; readonly idempotencyKey?: string },
  ): Promise<{ readonly ids: readonly string[]; readonly version?: number }>;
  /** A page of the log of events. */
  readAll(options?: {
    readonly after?: number;
    readonly limit?: number;
    readonly topics?: readonly string[];
  }): Promise<LogPage>;
  /** The events of a stream, 100 unless `limit` (1 to 200) says otherwise. */
  readStream(
    stream: string,
    options?: { readonly from?: number; readonly direction?: "forwards" | "backwards"; readonly limit?: number },
  ): Promise<RecordedEvent[]>;
  eventStatus(id: string): Promise<EventStatus | undefined>;
  subscriptions(): Promise<SubscriptionState[]>;

  /** A page of what ended badly, 1 to 200, the newest first. */
  deadLetters(filter?: DeadLetterFilter, options?: ListOptions): Promise<CommandList>;
  /** One of them with its input and its trail; undefined where the command is none. */
  deadLetter(id: string): Promise<CommandSnapshot | undefined>;
  /**
   * Runs again what a filter finds, at a pace if that is asked for: then it takes as long as that, an hour at most. Sent
   * once, but for a dry run.
   */
  retryDeadLetters(
    filter: DeadLetterFilter,
    options?: FilterOptions & { readonly perSecond?: number },
  ): Promise<FilterResult>;
  /** Deletes what a filter finds, for good. Sent once, but for a dry run. */
  dropDeadLetters(filter: DeadLetterFilter, options?: FilterOptions): Promise<FilterResult>;
}

/** The longest that one request is kept waiting. */
const longPollSeconds = 50;
/** Between two tries while the server is away. */
const longestPauseMs = 10_000;
const batchSize = 500;
/** How long an act on all that a filter finds may take: the server commits a thousand at a time, however many there are. */
const bulkMs = 3_600_000;
const unknown = "urn:orchestratum:problem:unknown";

/**
 * @throws TypeError or RangeError for options out of their limits.
 * @example
 * const client = createClient({ url: "https://app.example.com/orchestratum", token: process.env.TOKEN });
 * const { id } = await client.push(generateReport({ month: "2026-10" }));
 * const outcome = await client.waitFor(id); // typed by the contract
 */
export function createClient(options: ClientOptions): Client {
  const transport = createTransport(options);
  const contracts = new Map<string, AnyContract>();
  const learn = (contract: AnyContract): void => {
    contracts.set(`${contract.name}\n${contract.version}`, contract);
    contracts.set(contract.name, contract);
  };
  for (const contract of options.commands ?? []) learn(contract);

  async function push(
    given: Command | readonly Command[],
    { idempotencyKey = crypto.randomUUID(), signal, ...defaults }: PushOverHttpOptions = {},
  ): Promise<PushedOverHttp | PushedOverHttp[]> {
    const commands = isCommand(given) ? [given] : given;
    requireKey(idempotencyKey);
    requireCommands(commands);
    if (commands.length === 0) return [];
    if (commands.length > 1_000) {
      throw new RangeError(
        `Cannot push: 1 to 1000 commands are wanted, got ${commands.length}: pushMany takes any number`,
      );
    }
    const bodies = await Promise.all(commands.map((command) => bodyOf(command, defaults)));
    for (const { contract } of commands) learn(contract);
    const headers = { "Idempotency-Key": idempotencyKey };
    if (isCommand(given)) {
      const ask: Ask = { method: "POST", body: bodies[0], headers, signal, repeatable: true };
      const { id } = (await transport.json("Cannot push", "commands", ask)) as { id: CommandId };
      return { id };
    }
    const ask: Ask = { method: "POST", body: bodies, headers, signal, repeatable: true };
    const { commands: pushed } = (await transport.json("Cannot push", "commands/batch", ask)) as {
      commands: { id: CommandId }[];
    };
    return pushed.map(({ id }) => ({ id }));
  }

  async function* pushMany(
    commands: Iterable<Command> | AsyncIterable<Command>,
    { idempotencyKey = crypto.randomUUID(), signal, ...defaults }: PushOverHttpOptions = {},
  ): AsyncGenerator<PushedLine, void, undefined> {
    requireKey(idempotencyKey);
    let before = 0;
    for await (const batch of inBatches(commands, batchSize)) {
      requireCommands(batch);
      const bodies = await Promise.all(batch.map((command) => bodyOf(command, defaults)));
      for (const { contract } of batch) learn(contract);
      const headers = {
        "Content-Type": "application/x-ndjson",
        Accept: "application/x-ndjson",
        "Idempotency-Key": `${idempotencyKey}.${before}`,
      };
      const text = linesOf(bodies);
      for (const answer of await sendLines(transport, text, headers, batch.length, signal)) {
        if ("problem" in answer) {
          const { status } = answer.problem as { status: number };
          yield { line: before + answer.line, problem: new HttpProblemError("Cannot push", status, answer.problem) };
        } else yield { line: before + answer.line, id: answer.id as CommandId };
      }
      before += batch.length;
    }
  }

  async function get(
    id: string,
    { signal, waitSeconds }: { signal?: AbortSignal | undefined; waitSeconds?: number } = {},
  ): Promise<CommandSnapshot | undefined> {
    requireId("Cannot get command", id);
    const state = (await found("Cannot get command", `commands/${id}`, waiting(waitSeconds, signal))) as
      | Record<string, unknown>
      | undefined;
    if (state === undefined) return undefined;
    const output = state.status === "succeeded" ? await outputOf(id, signal) : undefined;
    return { ...revive<CommandSnapshot>(state), output } as CommandSnapshot;
  }

  async function outputOf(id: string, signal: AbortSignal | undefined): Promise<unknown> {
    const ask = { signal, answers: [409, 404] };
    const response = await transport.send("Cannot read output", `commands/${id}/output`, ask);
    return response.status === 200 ? await response.json() : undefined;
  }

  async function waitFor(
    first: string | AnyContract,
    second?: string | WaitOptions,
    third?: WaitOptions,
  ): Promise<CommandOutcome> {
    const id = (typeof first === "string" ? first : second) as string;
    const { timeoutMs, signal } = (typeof first === "string" ? (second as WaitOptions | undefined) : third) ?? {};
    requireId("Cannot wait", id);
    if (timeoutMs !== undefined) requireMs("Cannot wait", "timeoutMs", timeoutMs, maxTimeoutMs);
    const endsAt = timeoutMs === undefined ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs;
    const limit = timeoutMs === undefined ? undefined : AbortSignal.timeout(Math.max(Math.ceil(timeoutMs), 1));
    const either = AbortSignal.any([signal, limit].filter((each) => each !== undefined));
    let wasThere = false;
    for (let misses = 0; ; misses++) {
      const askedAt = performance.now();
      const waitSeconds = Math.max(Math.min(Math.ceil((endsAt - askedAt) / 1_000), longPollSeconds), 0);
      let snapshot: CommandSnapshot | undefined;
      try {
        snapshot = await get(id, { signal: either, waitSeconds });
      } catch (error) {
        if (!signal?.aborted && limit?.aborted) throw new WaitTimeoutError(id, timeoutMs as number);
        if (!wasThere || !isPassingFailure(error)) throw error;
        await pause(Math.random() * Math.min(250 * 2 ** misses, longestPauseMs), signal);
        continue;
      }
      wasThere = true;
      misses = 0;
      if (snapshot === undefined) throw new UnknownCommandError(id);
      if (snapshot.finishedAt !== undefined) {
        const { name, version } = snapshot;
        const known = typeof first === "string" ? (contracts.get(`${name}\n${version}`) ?? contracts.get(name)) : first;
        return await outcomeOf(snapshot, known);
      }
      // A server that does not wait is not asked more than once a second.
      await pause(Math.max(Math.min(askedAt + 1_000, endsAt) - performance.now(), 0), signal);
      if (performance.now() >= endsAt) throw new WaitTimeoutError(id, timeoutMs as number);
    }
  }

  /** Undefined for 404, where it is the router that says so: at a wrong address everything would seem to be missing. */
  async function found(attempt: string, path: string, ask: Ask = {}): Promise<unknown> {
    const response = await transport.send(attempt, path, { ...ask, answers: [404] });
    if (response.status !== 404) return await jsonOf(attempt, response);
    const problem = await problemOf(attempt, response);
    if (problem.type === unknown) return undefined;
    throw problem;
  }

  async function read<Value>(attempt: string, path: string, ask?: Ask): Promise<Value> {
    return revive<Value>(await transport.json(attempt, path, ask));
  }

  async function readOne<Value>(attempt: string, path: string, id: string): Promise<Value | undefined> {
    requireId(attempt, id);
    const value = await found(attempt, path);
    return value === undefined ? undefined : revive<Value>(value);
  }

  /** Events of a stream, which is opened again when it breaks: after a failure that passes, with the last id. */
  async function* follow(
    attempt: string,
    path: string,
    ask: Ask,
    isOver: () => boolean,
  ): AsyncGenerator<{ readonly event: string; readonly data: unknown; readonly id: string | undefined }> {
    let lastId: string | undefined;
    let wasOpen = false;
    for (let breaks = 0; !isOver(); breaks++) {
      const headers = { Accept: "text/event-stream", ...(lastId === undefined ? {} : { "Last-Event-ID": lastId }) };
      try {
        const response = await transport.send(attempt, path, { ...ask, headers, waitMs: Number.POSITIVE_INFINITY });
        if (response.status === 204 || response.body === null) return;
        wasOpen = true;
        for await (const { event, data, id } of readEvents(response.body)) {
          breaks = 0;
          lastId = id ?? lastId;
          yield { event, data: JSON.parse(data), id };
        }
      } catch (error) {
        if (ask.signal?.aborted) throw ask.signal.reason;
        // A stream that broke is a TypeError everywhere; a server that was there once is deployed again, say.
        if (!(error instanceof TypeError || (wasOpen && isPassingFailure(error)))) throw error;
      }
      if (!isOver()) await pause(Math.random() * Math.min(250 * 2 ** breaks, longestPauseMs), ask.signal);
    }
  }

  async function* progress(
    id: string,
    { signal }: ProgressOptions = {},
  ): AsyncGenerator<CommandProgress, void, undefined> {
    requireId("Cannot watch progress", id);
    let over = false;
    try {
      for await (const { data } of follow("Cannot watch progress", `commands/${id}/stream`, { signal }, () => over)) {
        const state = revive<CommandProgress>(data);
        over = !["scheduled", "pending", "running"].includes(state.status);
        yield { ...state, progress: state.progress };
      }
    } catch (error) {
      if (error instanceof HttpProblemError && error.status === 404) {
        throw new UnknownCommandError(id, `Cannot watch progress of command ${id}`);
      }
      throw error;
    }
  }

  async function* tail({ since, signal, onSkipped }: TailOptions = {}): AsyncGenerator<EndedCommand, void, undefined> {
    const told = new Map<string, true>();
    const query = { since: since?.toISOString() };
    for await (const { event, data } of follow("Cannot follow", "stream", { query, signal }, () => false)) {
      if (event === "skipped") onSkipped?.();
      if (event !== "ended") continue;
      const command = revive<EndedCommand>(data);
      const key = `${command.id} ${command.finishedAt?.getTime()}`;
      if (told.has(key)) continue;
      told.set(key, true);
      // Those of an overlap are soon past.
      if (told.size > 10_000) told.delete(told.keys().next().value as string);
      yield command;
    }
  }

  async function act(
    kind: "cancel" | "retry" | "erase",
    given: string | CommandFilter,
    given2: FilterOptions & { readonly input?: unknown } = {},
  ): Promise<string | FilterResult> {
    const attempt = `Cannot ${kind}`;
    if (typeof given !== "string") {
      const body = { filter: filterOf(given), ...(given2.dryRun === undefined ? {} : { dryRun: given2.dryRun }) };
      const { dryRun: _, ...result } = await read<FilterResult & { dryRun: boolean }>(attempt, `commands/${kind}`, {
        method: "POST",
        body,
        waitMs: bulkMs,
        repeatable: given2.dryRun === true,
      });
      return result;
    }
    requireId(attempt, given);
    const body = kind === "retry" && given2.input !== undefined ? { input: given2.input } : {};
    let isRepeated = false;
    const ask: Ask = {
      method: "POST",
      body,
      // A retry would run what has ended meanwhile once more.
      repeatable: kind !== "retry",
      onRepeat: () => void (isRepeated = true),
      isFinal: ({ document }) => typeof document.result === "string",
    };
    try {
      return ((await transport.json(attempt, `commands/${given}/${kind}`, ask)) as { result: string }).result;
    } catch (error) {
      // What it came to stands in the refusal, too.
      if (!(error instanceof HttpProblemError)) throw error;
      if (error.type === unknown) return "unknown";
      const { result } = error.document;
      if (typeof result !== "string") throw error;
      return kind === "cancel" && result === "finished" && isRepeated ? await cancelled(given) : result;
    }
  }

  /** What a cancellation came to whose reply was lost: what it has ended answers "finished" the second time. */
  async function cancelled(id: string): Promise<CancelResult> {
    try {
      const state = (await transport.json("Cannot cancel", `commands/${id}`)) as { status: string };
      return state.status === "cancelled" ? "cancelled" : "finished";
    } catch {
      // Who cancels may not be who reads.
      return "finished";
    }
  }

  async function onDeadLetters(
    kind: "retry" | "drop",
    filter: DeadLetterFilter,
    options: { readonly dryRun?: boolean | undefined; readonly perSecond?: number | undefined },
  ): Promise<FilterResult> {
    const body = { filter: filterOf(filter), ...options };
    const ask: Ask = { method: "POST", body, waitMs: bulkMs, repeatable: options.dryRun === true };
    const { dryRun: _, ...result } = await read<FilterResult & { dryRun: boolean }>(
      `Cannot ${kind} dead letters`,
      `dead-letters/${kind}`,
      ask,
    );
    return result;
  }

  async function list(filter: CommandFilter = {}, { limit, cursor }: ListOptions = {}): Promise<CommandList> {
    return await read("Cannot list commands", "commands", { query: { ...filterOf(filter), limit, cursor } });
  }

  return {
    push: push as Client["push"],
    pushMany,
    get: (id, given = {}) => get(id, { signal: given.signal }),
    waitFor: waitFor as Client["waitFor"],
    progress,
    tail,
    list,
    async *listAll(filter = {}) {
      for (let cursor: string | undefined; ; ) {
        const page: CommandList = await list(filter, { limit: 200, ...(cursor === undefined ? {} : { cursor }) });
        yield* page.commands;
        cursor = page.cursor;
        if (cursor === undefined) return;
      }
    },
    timeline: (id) => readOne("Cannot read timeline", `commands/${id}/timeline`, id),
    tree: (id) => readOne("Cannot read tree", `commands/${id}/tree`, id),
    explain: (id) => readOne("Cannot explain", `commands/${id}/explain`, id),
    stats: ({ hooks } = {}) => read("Cannot read statistics", "stats", { query: { hooks } }),
    queues: async ({ hooks } = {}) =>
      (await read<{ queues: QueueState[] }>("Cannot read queues", "queues", { query: { hooks } })).queues,
    duties: async () => (await read<{ duties: DutyState[] }>("Cannot read duties", "workers")).duties,
    workerList: async () => (await read<{ workers: FleetWorker[] }>("Cannot read workers", "workers")).workers,
    cancel: ((given: string | CommandFilter, given2?: FilterOptions) =>
      act("cancel", given, given2)) as Client["cancel"],
    retry: ((given: string | CommandFilter, given2?: FilterOptions) => act("retry", given, given2)) as Client["retry"],
    pauseQueue: (queue) => pausing(transport, "queue", queue, "pause"),
    resumeQueue: (queue) => pausing(transport, "queue", queue, "resume"),
    pauseName: (name) => pausing(transport, "name", name, "pause"),
    resumeName: (name) => pausing(transport, "name", name, "resume"),
    pausedNames: async () => (await read<{ names: PausedName[] }>("Cannot read paused names", "names/paused")).names,
    async publish(given, { stream, expectedVersion, idempotencyKey = crypto.randomUUID() } = {}) {
      const list = Array.isArray(given) ? (given as readonly NewEvent[]) : [given as NewEvent];
      const events = list.map(({ contract, data, options: { id, metadata } }) => {
        if (id !== undefined) {
          throw new TypeError(
            `Cannot publish event "${contract.topic}": over HTTP the server makes its id: leave it out, and give an idempotencyKey`,
          );
        }
        return { topic: contract.topic, data, metadata };
      });
      const ask: Ask = {
        method: "POST",
        body: { events, stream, expectedVersion },
        headers: { "Idempotency-Key": idempotencyKey },
        repeatable: true,
      };
      return (await transport.json("Cannot publish", "events", ask)) as { ids: string[]; version?: number };
    },
    readAll: ({ after, limit, topics } = {}) =>
      read("Cannot read events", "events", { query: { after, limit, topic: topics } }),
    async readStream(stream, { from, direction, limit } = {}) {
      const path = `streams/${encodeURIComponent(stream)}`;
      const ask = { query: { from, direction, limit } };
      return (await read<{ events: RecordedEvent[] }>("Cannot read stream", path, ask)).events;
    },
    eventStatus: (id) => readOne("Cannot read event", `events/${id}`, id),
    erase: (id) => act("erase", id) as Promise<EraseResult>,
    subscriptions: async () =>
      (await read<{ subscriptions: SubscriptionState[] }>("Cannot read subscriptions", "subscriptions")).subscriptions,
    deadLetters: (filter = {}, { limit, cursor } = {}) =>
      read("Cannot list dead letters", "dead-letters", { query: { ...filterOf(filter), limit, cursor } }),
    deadLetter: (id) => readOne("Cannot read dead letter", `dead-letters/${id}`, id),
    retryDeadLetters: (filter, { dryRun, perSecond } = {}) => onDeadLetters("retry", filter, { dryRun, perSecond }),
    dropDeadLetters: (filter, { dryRun } = {}) => onDeadLetters("drop", filter, { dryRun }),
  };
}

async function pausing(
  transport: ReturnType<typeof createTransport>,
  kind: "queue" | "name",
  which: string,
  act: "pause" | "resume",
): Promise<boolean> {
  const path = `${kind}s/${encodeURIComponent(which)}/${act}`;
  // Asked twice it is as if asked once.
  const ask: Ask = { method: "POST", repeatable: true };
  return ((await transport.json(`Cannot ${act} ${kind}`, path, ask)) as { changed: boolean }).changed;
}

interface LineAnswer {
  readonly line: number;
  readonly id?: string;
  readonly problem?: Readonly<Record<string, unknown>>;
}

/** Sends lines until each has an answer: what was cut off is sent again, under the same key, and pushes once. */
async function sendLines(
  transport: ReturnType<typeof createTransport>,
  body: string,
  headers: Readonly<Record<string, string>>,
  count: number,
  signal: AbortSignal | undefined,
): Promise<(LineAnswer & ({ id: string } | { problem: Readonly<Record<string, unknown>> }))[]> {
  for (let tries = 0; ; tries++) {
    const ask: Ask = { method: "POST", text: body, headers, signal, repeatable: true };
    const answers = answersOf(await (await transport.send("Cannot push", "commands/batch", ask)).text());
    const lines = answers.filter((answer) => typeof answer.line === "number") as never[];
    if (lines.length === count) return lines;
    const { problem } = (answers.at(-1) ?? {}) as Partial<LineAnswer>;
    if (tries >= 4) {
      const status = typeof problem?.status === "number" ? problem.status : 500;
      throw new HttpProblemError("Cannot push", status, problem ?? { title: "The answers were cut off" });
    }
    await pause(Math.random() * 250 * 2 ** tries, signal);
  }
}

/** What the server gets of a command. It is validated here, so that what it would refuse is not sent. */
async function bodyOf(command: Command, defaults: CommandOptions): Promise<object> {
  const { contract, input, options } = command;
  if (options.id !== undefined) {
    throw new TypeError(
      `Cannot push command "${contract.name}": over HTTP the server makes its id: leave it out, and give an idempotencyKey to the push`,
    );
  }
  await encodeCommand(command, { defaults });
  const { queue, priority, runAt, delayMs, timeoutMs, retries } = { ...defaults, ...said(options) };
  const when = options.runAt === undefined && options.delayMs === undefined ? { runAt, delayMs } : options;
  const metadata =
    defaults.metadata === undefined && options.metadata === undefined
      ? undefined
      : { ...defaults.metadata, ...options.metadata };
  return {
    ...{ name: contract.name, version: contract.version, input, queue, priority, timeoutMs, retries, metadata },
    runAt: when.runAt?.toISOString(),
    delayMs: when.delayMs,
  };
}

const said = (options: CommandOptions): CommandOptions =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));

function requireCommands(given: unknown): asserts given is readonly Command[] {
  if (!Array.isArray(given))
    throw new TypeError(`Cannot push: a command, or a list of commands, is wanted, got ${told(given)}`);
  for (const each of given) {
    if (!isCommand(each))
      throw new TypeError(`Cannot push: a command is what a contract answers when it is called, got ${told(each)}`);
  }
}

const told = (given: unknown): string =>
  isKind(given, "contract") ? "a contract: call it with an input" : shown(given);

/** The server takes 255; of many lines each part has a number behind it. */
function requireKey(key: unknown): void {
  if (typeof key === "string" && /^[\x21-\x7e]{1,200}$/.test(key)) return;
  throw new TypeError(`Cannot push: idempotencyKey must have 1 to 200 visible characters of ASCII, got ${shown(key)}`);
}

function requireId(attempt: string, id: unknown): void {
  if (!isUuid(id)) throw new TypeError(`${attempt}: an id is a UUID, got ${shown(id)}`);
}

function waiting(seconds: number | undefined, signal: AbortSignal | undefined): Ask {
  return seconds ? { signal, headers: { Prefer: `wait=${seconds}` }, waitMs: seconds * 1_000 } : { signal };
}

function filterOf({
  from,
  to,
  status,
  ...others
}: CommandFilter): Record<string, string | boolean | readonly string[] | undefined> {
  return {
    ...others,
    status: status === undefined ? undefined : Array.isArray(status) ? (status as string[]) : [status as string],
    from: from?.toISOString(),
    to: to?.toISOString(),
  };
}

async function outcomeOf(snapshot: CommandSnapshot, contract: AnyContract | undefined): Promise<CommandOutcome> {
  const { id, status, output, trail } = snapshot;
  const finishedAt = snapshot.finishedAt as Date;
  if (status !== "succeeded") {
    return { status: status as "failed", id, error: trail.at(-1) as TrailEntry | undefined, finishedAt };
  }
  if (contract?.output === undefined) return { status, id, output, finishedAt };
  const result = await validate(contract.output, output);
  if (result.issues) throw new InvalidOutputError(id, output, new Error(formatIssues(result.issues)));
  return { status, id, output: result.value, finishedAt };
}

async function* inBatches<Item>(items: Iterable<Item> | AsyncIterable<Item>, size: number): AsyncGenerator<Item[]> {
  let batch: Item[] = [];
  for await (const item of items) {
    batch.push(item);
    if (batch.length < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

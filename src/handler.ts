/**
 * What runs, on the worker's side: the handler of a contract, the hooks that run after its command ended, and the ends
 * of an attempt that are no output. A handler *returns* those (`return snooze(…)`), since a value, other than
 * something thrown, cannot be swallowed by somebody's `try`.
 */

import { type Command, type CommandId, isKind, kind, type Metadata } from "./command.ts";
import type { AnyContract } from "./define-command.ts";
import type { NewEvent } from "./define-event.ts";
import type { Queryable } from "./driver.ts";
import type { ErrorRecord } from "./failure.ts";
import { type Keys, maxDelayMs, requireKeys, requireMs, requireTime, shown } from "./limits.ts";
import { type HandlerMiddleware, labelled, type Middleware, requireMiddleware } from "./middleware.ts";
import type { StreamAppend } from "./publish.ts";
import type { Subscription } from "./subscribe.ts";

/** A value, or a promise of it. */
export type Awaitable<Value> = Value | PromiseLike<Value>;

/** Where handlers and hooks write what people should read. Fields are ids, names, sizes, durations: never payloads. */
export interface Logger {
  debug(message: string, fields?: Readonly<Record<string, unknown>>): void;
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
  error(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

/** What a handler gets. `Made` is what its `finish` takes after the transaction: the output, if the contract has one. */
export interface HandlerContext<out Input = unknown, in Made extends readonly unknown[] = [output?: undefined]> {
  /** As the contract's schema answers it; parsed anew for each attempt. */
  readonly input: Input;
  readonly id: CommandId;
  readonly name: string;
  /** What retries count, from 1. */
  readonly attempt: number;
  /** The number of the lease: one more at every claim, never reused. */
  readonly fence: number;
  readonly metadata: Metadata;
  /** Aborted at the timeout, on cancellation, when the lease is lost, and when a worker that stops cannot wait longer. */
  readonly signal: AbortSignal;
  /** When this attempt times out, by this process's clock. */
  readonly deadline: Date;
  /** Notes how far it is, as JSON. Written with the next heartbeat, at most once a second; the last one counts. */
  progress(value: unknown): void;
  readonly logger: Logger;
  /**
   * Pushes a command when this attempt succeeds, in the transaction of its outcome; nothing is pushed where it does
   * not. The command may not choose its id.
   *
   * @throws InvalidInputError at the call, or the attempt fails with it where the schema answers later.
   */
  push<Output>(command: Command<Output>): { readonly id: CommandId<Output> };
  /**
   * Publishes events when this attempt succeeds, in the transaction of its outcome, caused by this command; nothing is
   * published where it does not. They may not choose their ids, and belong to no stream: what does is appended through
   * `finish`. At most 1,000 an attempt.
   *
   * @throws InvalidDataError at the call, or the attempt fails with it where the schema answers later.
   */
  publish(...events: readonly NewEvent[]): readonly { readonly id: string }[];
  /**
   * Records this attempt's success within a transaction of the handler's own: what was written there, the outcome and
   * what follows from it commit together, or none of them. Its last statement: `return await finish(db, output)`, with
   * the open transaction as an adapter gives it. `onSuccess` runs before it. The transaction needs READ COMMITTED and
   * ends with the lease at the latest. When it is rolled back, the attempt has failed, whatever the handler returns.
   *
   * With `append` events go to their streams in that transaction, too, all or none, caused by this command.
   *
   * @throws AttemptAbortedError where the lease is lost; what the contract says of a wrong output; StreamConflictError
   * where a stream is at another version: then the transaction can go on, and `finish` be called again.
   */
  finish(db: Queryable, ...outputAndOptions: [...output: Made, options?: FinishOptions]): Promise<Finished>;
}

/** What `finish(db, output, options)` takes beside the output. */
export interface FinishOptions {
  /** Events for streams; within the transaction these are locked in the order of their names. @default none */
  readonly append?: readonly StreamAppend[] | undefined;
}

/** What every hook gets. */
export interface HookContext {
  /** The id of the command that ended. */
  readonly id: CommandId;
  readonly name: string;
  readonly metadata: Metadata;
  readonly signal: AbortSignal;
  readonly logger: Logger;
}

/** What `onSuccess` gets. */
export interface SuccessContext<out Input = unknown, out Output = unknown> extends HookContext {
  readonly input: Input;
  /** What `waitFor` would give: the output as the contract's schema answers it, undefined where there is none. */
  readonly output: Output;
}

/** What `onFailure` gets. */
export interface FailureContext<out Input = unknown> extends HookContext {
  /** Undefined where this handler's version refuses the input; `rawInput` then shows it. */
  readonly input: Input | undefined;
  /** The input as it was pushed. */
  readonly rawInput: unknown;
  readonly status: "failed" | "timed_out" | "not_found";
  /** The last error, where there was one. */
  readonly error: ErrorRecord | undefined;
}

/** What `onCancellation` gets. */
export interface CancellationContext<out Input = unknown> extends HookContext {
  /** Undefined where this handler's version refuses the input; `rawInput` then shows it. */
  readonly input: Input | undefined;
  /** The input as it was pushed. */
  readonly rawInput: unknown;
  readonly status: "cancelled";
  /** What its last attempt ended with, where that was an error. */
  readonly error: ErrorRecord | undefined;
}

/** The commands that follow, and the events that are published: one, a list of at most 1,000 of each, or none. */
export type FollowUps = Command | NewEvent | readonly (Command | NewEvent)[] | undefined | null | void;

/** What runs after the command ended. Each answers the commands that follow, and the events that are published. */
export interface HandlerOptions<Input = unknown, Output = unknown> {
  /** Runs as part of the attempt: where it throws, the attempt fails. */
  readonly onSuccess?: ((context: SuccessContext<Input, Output>) => Awaitable<FollowUps>) | undefined;
  /** Runs after the final failure only, as a command of its own with attempts of its own. */
  readonly onFailure?: ((context: FailureContext<Input>) => Awaitable<FollowUps>) | undefined;
  /** Runs after a cancellation, as a command of its own with attempts of its own. */
  readonly onCancellation?: ((context: CancellationContext<Input>) => Awaitable<FollowUps>) | undefined;
  /** What is laid around its attempts and hooks, within the orchestrator's. @default none */
  readonly middleware?: readonly HandlerMiddleware[] | undefined;
}

/**
 * A contract with the function that executes its commands, as `contract.handle(…)` makes it. Its types are those of any
 * contract (`any`, since a function takes no wider input than its own), so that different handlers fit into one list;
 * they were checked where it was made.
 */
export interface Handler {
  readonly [kind]: "handler";
  readonly contract: AnyContract;
  readonly run: (context: HandlerContext<any, any>) => unknown;
  readonly onSuccess: ((context: SuccessContext<any, any>) => Awaitable<FollowUps>) | undefined;
  readonly onFailure: ((context: FailureContext<any>) => Awaitable<FollowUps>) | undefined;
  readonly onCancellation: ((context: CancellationContext<any>) => Awaitable<FollowUps>) | undefined;
  /** Undefined where there is none: then nothing is asked of it. */
  readonly middleware: readonly Middleware[] | undefined;
  /** Set where it handles deliveries: `subscribe` made it. */
  readonly subscription: Subscription | undefined;
}

const hooks = ["onSuccess", "onFailure", "onCancellation"] as const;
const handlerKeys: Keys<HandlerOptions> = { onSuccess: true, onFailure: true, onCancellation: true, middleware: true };

/** Makes a handler. It is what `contract.handle` does; its types are checked there. */
export function createHandler(contract: AnyContract, run: Handler["run"], options: HandlerOptions = {}): Handler {
  const attempt = `Cannot handle command "${contract.name}"`;
  if (typeof run !== "function") throw new TypeError(`${attempt}: the handler must be a function, got ${shown(run)}`);
  requireKeys(attempt, options, handlerKeys);
  for (const hook of hooks) {
    const given: unknown = options[hook];
    if (given !== undefined && typeof given !== "function") {
      throw new TypeError(`${attempt}: ${hook} must be a function, got ${shown(given)}`);
    }
  }
  requireMiddleware(attempt, options.middleware, ["execute"]);
  const { onSuccess, onFailure, onCancellation } = options;
  const middleware = options.middleware?.length ? Object.freeze([...options.middleware]) : undefined;
  return Object.freeze({
    [kind]: "handler" as const,
    contract,
    run,
    onSuccess,
    onFailure,
    onCancellation,
    middleware,
    subscription: undefined,
  });
}

/** The handler with more middleware around it. */
export function withMiddleware(handler: Handler, outer: readonly Middleware[]): Handler {
  const own = labelled(handler.middleware ?? [], " of its handler");
  return Object.freeze({ ...handler, middleware: Object.freeze([...outer, ...own]) });
}

/** Whether `value` is a handler. Never throws. */
export function isHandler(value: unknown): value is Handler {
  return isKind(value, "handler");
}

/**
 * The handlers of a list, or of a module's exports (`import * as handlers from "./handlers.ts"`), of which everything
 * else is passed over. The same handler met twice counts once.
 *
 * @throws TypeError for two handlers of one name and version, for a list with something else in it, and for a module
 * without any handler.
 */
export function handlersOf(source: readonly Handler[] | Readonly<Record<string, unknown>>): Handler[] {
  const found = new Map<string, { handler: Handler; place: string }>();
  for (const [place, value] of placesOf(source)) {
    const key = `${JSON.stringify(value.contract.name)} version ${value.contract.version}`;
    const other = found.get(key);
    if (other === undefined) found.set(key, { handler: value, place });
    else if (other.handler !== value) {
      throw new TypeError(`Cannot register handlers: ${key} has two, ${other.place} and ${place}`);
    }
  }
  return Array.from(found.values(), ({ handler }) => handler);
}

function placesOf(source: readonly Handler[] | Readonly<Record<string, unknown>>): [place: string, handler: Handler][] {
  if (typeof source !== "object" || source === null) {
    throw new TypeError(
      `Cannot register handlers: a list of them, or a module's exports, is wanted, got ${shown(source)}`,
    );
  }
  if (isList(source)) {
    return source.map((value: unknown, index) => {
      if (isHandler(value)) return [`number ${index} of the list`, value];
      const got = isKind(value, "contract") ? "a contract: call its handle(fn)" : shown(value);
      throw new TypeError(`Cannot register handlers: number ${index} of the list is no handler, got ${got}`);
    });
  }
  const exports = Object.entries(source).filter((entry): entry is [string, Handler] => isHandler(entry[1]));
  if (exports.length === 0) {
    const names = Object.keys(source).join(", ") || "nothing";
    throw new TypeError(`Cannot register handlers: the module exports none, only ${names}`);
  }
  return exports.map(([name, handler]) => [`export "${name}"`, handler]);
}

/** `Array.isArray` does not tell a readonly list from a record. */
function isList(source: readonly Handler[] | Readonly<Record<string, unknown>>): source is readonly Handler[] {
  return Array.isArray(source);
}

/** An end that puts the command off; the attempt is handed back. Made by {@link snooze}. */
export interface Snooze {
  readonly [kind]: "snooze";
  /** Until when; one of the two is set. */
  readonly until: Date | undefined;
  /** For how long, in ms. */
  readonly delayMs: number | undefined;
}

/** An end that cancels the command for good. Made by {@link cancel}. */
export interface Cancel {
  readonly [kind]: "cancel";
  readonly reason: string | undefined;
}

/** An end that was recorded already, within a transaction of the handler's own. Answered by `finish(db, output)`. */
export interface Finished {
  readonly [kind]: "finished";
}

/** What a handler returns in place of its output. */
export type End = Snooze | Cancel | Finished;

/**
 * Puts the command off, without using up the attempt: `return snooze({ delayMs: 60_000 })`.
 *
 * @param until a time from 1970 to 9999, or a delay of 0 ms to a hundred years.
 * @throws TypeError or RangeError for anything else.
 */
export function snooze(until: Date | { readonly delayMs: number }): Snooze {
  if (typeof until === "object" && until !== null && "delayMs" in until) {
    requireMs("Cannot snooze", "delayMs", until.delayMs, maxDelayMs);
    return Object.freeze({ [kind]: "snooze" as const, until: undefined, delayMs: until.delayMs });
  }
  requireTime("Cannot snooze", "until", until);
  // Copied: a Date can be changed after it was checked.
  return Object.freeze({ [kind]: "snooze" as const, until: new Date(until), delayMs: undefined });
}

/** Ends the command as cancelled: `return cancel("The order was withdrawn")`. */
export function cancel(reason?: string): Cancel {
  if (reason !== undefined && typeof reason !== "string") {
    throw new TypeError(`Cannot cancel: the reason must be a string, got ${shown(reason)}`);
  }
  return Object.freeze({ [kind]: "cancel" as const, reason });
}

/** Whether `value` was made by {@link snooze}. Never throws. */
export function isSnooze(value: unknown): value is Snooze {
  return isKind(value, "snooze");
}

/** Whether `value` was made by {@link cancel}. Never throws. */
export function isCancel(value: unknown): value is Cancel {
  return isKind(value, "cancel");
}

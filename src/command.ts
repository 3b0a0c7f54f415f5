/**
 * A command: a unit of work that somebody wants done. It is made by calling a contract, is immutable, and is nothing
 * but data until it is pushed. Its options sit on it, since hooks return commands too and a list of commands has one
 * set for each.
 */

import type { AnyContract } from "./define-command.ts";
import type { Json } from "./json.ts";
import {
  type Keys,
  maxDelayMs,
  maxPriority,
  maxRetries,
  maxTimeoutMs,
  requireInteger,
  requireMs,
  requireQueue,
  requireTime,
  shown,
} from "./limits.ts";

/**
 * The key under which a command, and its id, carry the type of the command's output. It exists for the compiler only:
 * there is no such property. It is required, or a contract that nobody called would pass for a command.
 */
export declare const outputOf: unique symbol;

/**
 * The key by which contracts, handlers and ends are known at run time. It is registered, so that two copies of this
 * library in one process know each other's.
 */
export const kind: unique symbol = Symbol.for("orchestratum.kind");

/** What this library makes. */
export type Kind = "contract" | "handler" | "snooze" | "cancel" | "finished" | "event contract";

/** Whether `value` was made by this library as the named kind of thing. Never throws, not even for a hostile proxy. */
export function isKind(value: unknown, name: Kind): boolean {
  if ((typeof value !== "object" && typeof value !== "function") || value === null) return false;
  try {
    return (value as { [kind]?: unknown })[kind] === name;
  } catch {
    return false;
  }
}

/** A command, as calling its contract makes it. Frozen. */
export interface Command<out Output = unknown> {
  /** For the compiler only. */
  readonly [outputOf]: Output;
  readonly contract: AnyContract;
  /** What the caller gave, neither validated nor copied yet: push does both. */
  readonly input: unknown;
  readonly options: CommandOptions;
}

/** The id of a command, a UUID, which knows the type of the command's output. */
export type CommandId<Output = unknown> = string & { readonly [outputOf]: Output };

/** The type of what a command (or its id, or what its contract makes) ends with. */
export type OutputOf<C> = C extends { readonly [outputOf]: infer Output }
  ? Output
  : C extends (...args: never) => Command<infer Output>
    ? Output
    : never;

/** What may be said about a command besides its input. What is undefined counts as not said. */
export interface CommandOptions {
  /**
   * A UUID of the caller's, by which a push can be repeated without doubling the command. Follow-ups cannot have one.
   *
   * @default a new UUID of version 7
   */
  readonly id?: string | undefined;
  /**
   * 1 to 100 characters without white space.
   *
   * @default the contract's, which is "default"
   */
  readonly queue?: string | undefined;
  /**
   * 0 (first) to 9 (last).
   *
   * @default the contract's, which is 5
   */
  readonly priority?: number | undefined;
  /**
   * When it is due, from 1970 to 9999, by the database's clock; a time in the past is now. Not together with `delayMs`.
   *
   * @default now
   */
  readonly runAt?: Date | undefined;
  /**
   * How long from now it is due, in ms: 0 to a hundred years. Not together with `runAt`.
   *
   * @default 0
   */
  readonly delayMs?: number | undefined;
  /**
   * How long one attempt may take, in ms: 1 to 2,147,483,647 (24.8 days).
   *
   * @default the contract's, which is 60,000
   */
  readonly timeoutMs?: number | undefined;
  /**
   * Further attempts after a first one that failed, 0 to 32,766; 0 starts the command at most once.
   *
   * @default the contract's, which is 3
   */
  readonly retries?: number | undefined;
  /** What travels along the chain, laid key by key over what is inherited. At most 8 KiB as JSON. */
  readonly metadata?: Metadata | undefined;
}

export const commandKeys: Keys<CommandOptions> = {
  id: true,
  queue: true,
  priority: true,
  runAt: true,
  delayMs: true,
  timeoutMs: true,
  retries: true,
  metadata: true,
};

/** Who caused something. */
export type Actor = { readonly id: string; readonly type: string };

/** What travels along a chain of commands. Beside the named fields it may hold any JSON. */
export interface Metadata {
  /** One for the whole chain: follow-ups inherit it. */
  readonly correlationId?: string | undefined;
  /** The id of the command or event that caused this one. */
  readonly causationId?: string | undefined;
  /** Who wanted it. */
  readonly actor?: Actor | undefined;
  /** Where it came from: a service, a page, a file. */
  readonly source?: string | undefined;
  /** When the chain began, as an ISO 8601 text: said by whoever begins it, or by nobody. */
  readonly issuedAt?: string | undefined;
  /** W3C Trace Context. */
  readonly traceparent?: string | undefined;
  /** W3C Trace Context. */
  readonly tracestate?: string | undefined;
  readonly [key: string]: Json | undefined;
}

/** Whether `value` is a command: what a contract answers when it is called. Never throws. */
export function isCommand(value: unknown): value is Command {
  try {
    return typeof value === "object" && value !== null && isKind((value as Command).contract, "contract");
  } catch {
    return false;
  }
}

/**
 * Refuses options that are out of their limits, but for `id` and `metadata`, which are a matter of where they are used.
 * `attempt` says what cannot be done: `Cannot push command "a"`.
 *
 * @throws TypeError for a wrong type, or `runAt` and `delayMs` together; RangeError for what is out of range.
 */
export function requireOptions(attempt: string, options: CommandOptions): void {
  const { queue, priority, runAt, delayMs, timeoutMs, retries } = options;
  if (queue !== undefined) requireQueue(attempt, queue);
  if (priority !== undefined) requireInteger(attempt, "priority", priority, 0, maxPriority);
  if (timeoutMs !== undefined) requireInteger(attempt, "timeoutMs", timeoutMs, 1, maxTimeoutMs);
  if (retries !== undefined) requireInteger(attempt, "retries", retries, 0, maxRetries);
  if (delayMs !== undefined) requireMs(attempt, "delayMs", delayMs, maxDelayMs);
  if (runAt === undefined) return;
  requireTime(attempt, "runAt", runAt);
  if (delayMs !== undefined) {
    throw new TypeError(`${attempt}: it has both runAt and delayMs (${shown(delayMs)}), of which it can have one`);
  }
}

/**
 * Middleware: what is laid around every push and publish of an orchestrator, and around every attempt that runs in its workers. The
 * orchestrator's first is the outermost; a handler's own come within those. What is inside is reached by `next`, once,
 * and its result stands: middleware refuses by throwing, and otherwise looks on.
 */
import type { Command, CommandId, CommandOptions, Metadata } from "./command.ts";
import { isNewEvent, type NewEvent } from "./define-event.ts";
import type { Awaitable, Logger } from "./handler.ts";
import { shown } from "./limits.ts";
import type { Appended, AppendOptions, Published, Publishing, PublishOptions } from "./publish.ts";

/** A command that is about to be pushed. */
export interface PushingCommand {
  readonly name: string;
  readonly version: number;
  /** What the caller gave, not validated yet. */
  readonly input: unknown;
  readonly queue: string;
  /** Its own, laid over that of the push's options. */
  readonly metadata: Metadata;
}

/** One call of push. */
export interface Pushing {
  readonly commands: readonly PushingCommand[];
}

/**
 * Goes on with the push, and answers the ids of what was pushed, in order. `change` answers the metadata that a command
 * is to have in place of what it has; undefined leaves it.
 */
export type PushNext = (
  change?: (command: PushingCommand) => Metadata | undefined,
) => Promise<readonly { readonly id: CommandId }[]>;

/** An event that is about to be published, or appended. */
export interface PublishingEvent {
  readonly topic: string;
  /** What the caller gave, not validated yet. */
  readonly data: unknown;
  /** Its own, laid over that of the call's options. */
  readonly metadata: Metadata;
}

/** One call of publish, or of append. */
export interface PublishingEvents {
  /** The stream that they are appended to; undefined where they are published. */
  readonly stream: string | undefined;
  readonly events: readonly PublishingEvent[];
}

/**
 * Goes on, and answers the ids of what was published, in order. `metadata` is laid over that of the call's options, and
 * each event's own over that.
 */
export type PublishNext = (metadata?: Metadata) => Promise<readonly { readonly id: string }[]>;

/** One attempt at a command. */
export interface Executing {
  /** Of the command that runs; of a hook that is a command its own, and `parentId` is the one that ended. */
  readonly id: CommandId;
  readonly parentId: string | undefined;
  readonly name: string;
  /** As it was pushed, which may be older than the handler's. */
  readonly version: number;
  readonly attempt: number;
  readonly fence: number;
  readonly queue: string;
  /** The id of the worker that runs it; undefined where `execute` runs it without the queue. */
  readonly worker: string | undefined;
  /** Set where `onFailure` or `onCancellation` runs as a command of its own. */
  readonly hook: "failure" | "cancellation" | undefined;
  /** As it was pushed, neither upgraded nor parsed. Of a hook: `{ input, status, error }` of the command that ended. */
  readonly rawInput: unknown;
  readonly metadata: Metadata;
  readonly signal: AbortSignal;
  readonly logger: Logger;
}

/** What an attempt came to. Whether it is tried again is decided after it; an attempt that was aborted may end as anything. */
export type Attempted =
  /** `output` is as it is recorded, parsed at each look; undefined where the contract has none, and of a hook. */
  | { readonly kind: "succeeded"; readonly output: unknown }
  /** Recorded by `finish` in a transaction of the handler's own, of which only the database knows whether it committed. */
  | { readonly kind: "finished" }
  | { readonly kind: "snoozed"; readonly until: Date | undefined; readonly delayMs: number | undefined }
  | { readonly kind: "cancelled"; readonly reason: string | undefined }
  /** `error` is what was thrown; `permanent` says that no other attempt is made. */
  | { readonly kind: "failed"; readonly error: unknown; readonly permanent: boolean };

/**
 * Runs the handler, and answers what it came to, also where it threw. Rejects with what a layer further in threw.
 * `metadata` takes the place of what the command has: for what is further in, for its log, and for what follows from
 * this attempt. What is stored with the command stays, so another attempt, or its hook, sees nothing of it.
 */
export type ExecuteNext = (metadata?: Metadata) => Promise<Attempted>;

export interface Middleware {
  /** For messages. */
  readonly name?: string;
  /**
   * Around one call of `push`, before anything is validated or sent. What it throws is what push rejects with; where it
   * throws after `next`, the commands are pushed all the same, unless a transaction holds them.
   */
  push?(pushing: Pushing, next: PushNext): Awaitable<unknown>;
  /** Around one call of `publish` or `append`, as `push` is around one of those. */
  publish?(publishing: PublishingEvents, next: PublishNext): Awaitable<unknown>;
  /**
   * Around one attempt of a handler, and around each hook that is a command of its own. Its time counts for the
   * attempt's. What it throws, before `next` or after, makes the attempt fail: for good with `PermanentFailure`.
   */
  execute?(executing: Executing, next: ExecuteNext): Awaitable<unknown>;
}

/** Middleware of one handler: it is asked neither about pushes nor about what is published. */
export type HandlerMiddleware = Omit<Middleware, "push" | "publish">;

type Part = "push" | "publish" | "execute";

/** Refuses what is no list of middleware. `attempt` says what cannot be done. @throws TypeError */
export function requireMiddleware(attempt: string, given: unknown, parts: readonly Part[]): void {
  if (given === undefined) return;
  if (!Array.isArray(given)) throw new TypeError(`${attempt}: middleware must be a list, got ${shown(given)}`);
  for (const [index, one] of (given as unknown[]).entries()) {
    const field = `middleware[${index}]`;
    if (typeof one !== "object" || one === null) {
      throw new TypeError(`${attempt}: ${field} must be an object with ${parts.join(" or ")}, got ${shown(one)}`);
    }
    const { push, publish, execute } = one as { readonly [P in Part]?: unknown };
    for (const [part, value] of Object.entries({ push, publish, execute })) {
      if (value !== undefined && typeof value !== "function") {
        throw new TypeError(`${attempt}: ${field}.${part} must be a function, got ${shown(value)}`);
      }
      if (value !== undefined && !(parts as readonly string[]).includes(part)) {
        throw new TypeError(`${attempt}: ${field} cannot have ${part}: give it to createOrchestrator`);
      }
    }
    if (push === undefined && publish === undefined && execute === undefined) {
      throw new TypeError(`${attempt}: ${field} must have ${parts.join(" or ")}, got none`);
    }
  }
}

/** What messages call middleware without a name, once its list is part of a longer one. */
interface Labelled extends Middleware {
  readonly label?: string;
}

/** The same middleware, each of which messages call by its place in this list. `whose` follows the place. */
export function labelled(given: readonly Middleware[], whose = ""): readonly Middleware[] {
  return given.map((one, index): Labelled => {
    if (one.name !== undefined) return one;
    return {
      label: `middleware[${index}]${whose}`,
      ...(one.push && { push: (pushing, next) => one.push?.(pushing, next) }),
      ...(one.publish && { publish: (publishing, next) => one.publish?.(publishing, next) }),
      ...(one.execute && { execute: (executing, next) => one.execute?.(executing, next) }),
    };
  });
}

/** By its place where nothing else is known: in a list that is not part of another. */
const labelOf = (one: Labelled, index: number): string =>
  one.name === undefined ? (one.label ?? `middleware[${index}]`) : `middleware "${one.name}"`;

/** What middleware is laid around, and how. */
interface Around<Result, Told> {
  readonly part: Part;
  /** Calls that part of one that has it. `label` is what messages call this one. */
  call(one: Middleware, next: () => Promise<Told>, label: string): Awaitable<unknown>;
  inner(): Promise<Result>;
  /** What a layer hears of the result. */
  told(result: Result): Told;
}

/**
 * Runs `inner` within the middleware that has this part, the first outermost, and answers what `inner` did: no layer can
 * replace it, nor swallow what it threw. What a layer throws counts when everything further in has ended: two attempts at
 * a command must not overlap because a layer was in a hurry.
 */
async function runWithin<Result, Told>(
  attempt: string,
  middleware: readonly Middleware[],
  { part, call, inner, told }: Around<Result, Told>,
): Promise<Result> {
  const layers = middleware
    .map((one, index) => ({ one, label: labelOf(one, index) }))
    .filter(({ one }) => one[part] !== undefined);
  const enter = async (depth: number): Promise<Result> => {
    const layer = layers[depth];
    if (!layer) return await inner();
    let entered: Promise<Result> | undefined;
    let twice: Promise<never> | undefined;
    const next = () => {
      if (entered) {
        twice = Promise.reject(new Error(`${attempt}: ${layer.label} called next twice`));
        twice.catch(() => {});
        return twice;
      }
      entered = enter(depth + 1);
      const answered = entered.then(told);
      // Where the layer throws before it looks, that is what counts, and nobody looks at these any more.
      entered.catch(() => {});
      answered.catch(() => {});
      return answered;
    };
    try {
      await call(layer.one, next, layer.label);
    } catch (error) {
      await entered?.catch(() => {});
      throw error;
    }
    if (!entered) throw new Error(`${attempt}: ${layer.label} neither called next nor threw`);
    const result = await entered;
    await twice;
    return result;
  };
  return await enter(0);
}

/** Pushes within the middleware that asks for it. `send` gets the commands with the metadata that they are to have. */
export async function pushWithin<Pushed extends { readonly id: CommandId }>(
  middleware: readonly Middleware[],
  given: readonly Command[],
  defaults: CommandOptions,
  send: (commands: readonly Command[]) => Promise<readonly Pushed[]>,
): Promise<readonly Pushed[]> {
  // What the push's options say is written to the commands, or a key that middleware takes out would come in again.
  let commands = given.map((command) => withMetadata(command, { ...defaults.metadata, ...command.options.metadata }));
  const described = (): PushingCommand[] =>
    commands.map(({ contract, input, options }) => ({
      name: contract.name,
      version: contract.version,
      input,
      queue: options.queue ?? defaults.queue ?? contract.defaults.queue,
      metadata: options.metadata ?? {},
    }));
  return await runWithin<readonly Pushed[], readonly Pushed[]>("Cannot push", middleware, {
    part: "push",
    call(one, next) {
      const pushing = { commands: described() };
      return one.push?.(pushing, (change) => {
        if (change !== undefined) {
          commands = commands.map((command, index) => {
            const metadata = change(pushing.commands[index] as PushingCommand);
            return metadata === undefined ? command : withMetadata(command, metadata);
          });
        }
        return next();
      });
    },
    inner: () => send(commands),
    told: (pushed) => pushed,
  });
}

/** Publishes and appends within the middleware that asks for it. */
export function publishingWithin(middleware: readonly Middleware[], inner: Publishing): Publishing {
  if (middleware.every(({ publish }) => publish === undefined)) return inner;
  async function within<Result, Options extends PublishOptions>(
    attempt: string,
    stream: string | undefined,
    given: NewEvent | readonly NewEvent[],
    options: Options,
    send: (options: Options) => Promise<Result>,
    told: (result: Result) => readonly { readonly id: string }[],
  ): Promise<Result> {
    const list = isNewEvent(given) ? [given] : given;
    // What is no event, and what are no options, is refused by what is within.
    if (!Array.isArray(list) || !list.every(isNewEvent)) return await send(options);
    if (typeof options !== "object" || options === null || Array.isArray(options)) return await send(options);
    let { metadata } = options;
    return await runWithin(attempt, middleware, {
      part: "publish",
      call(one, next) {
        const events = list.map(({ contract, data, options: own }) => ({
          topic: contract.topic,
          data,
          metadata: { ...metadata, ...own.metadata },
        }));
        return one.publish?.({ stream, events }, (change) => {
          if (change !== undefined) metadata = { ...metadata, ...change };
          return next();
        });
      },
      inner: () => send({ ...options, metadata }),
      told,
    });
  }

  const publish = (given: NewEvent | readonly NewEvent[], options: PublishOptions = {}): Promise<unknown> =>
    within<Published | readonly Published[], PublishOptions>(
      "Cannot publish",
      undefined,
      given,
      options,
      // Which of the two it is, is what it is called with.
      (changed) => inner.publish(given as NewEvent, changed),
      (published) => (Array.isArray(published) ? published : [published as Published]),
    );
  const append: Publishing["append"] = (stream, given, options = {}) =>
    within<Appended, AppendOptions>(
      "Cannot append",
      stream,
      given,
      options,
      (changed) => inner.append(stream, given, changed),
      ({ ids }) => ids.map((id) => ({ id })),
    );
  return { publish: publish as Publishing["publish"], append };
}

function withMetadata(command: Command, metadata: Metadata): Command {
  return Object.freeze({ ...command, options: Object.freeze({ ...command.options, metadata }) });
}

/** Runs an attempt within `middleware`. What a layer throws is thrown. */
export async function executeWithin<Result>(
  middleware: readonly Middleware[],
  executing: Executing,
  inner: () => Promise<Result>,
  told: (result: Result) => Attempted,
  change: (metadata: Metadata) => void,
): Promise<Result> {
  return await runWithin(`Cannot execute command "${executing.name}"`, middleware, {
    part: "execute",
    call: (one, next, label) =>
      one.execute?.(executing, (metadata) => {
        if (metadata === undefined) return next();
        if (typeof metadata !== "object" || metadata === null || Array.isArray(metadata)) {
          throw new TypeError(`Cannot go on with ${label}: metadata must be an object, got ${shown(metadata)}`);
        }
        change(metadata);
        return next();
      }),
    inner,
    told,
  });
}

/**
 * Middleware: what is laid around every push of an orchestrator, and around every attempt that runs in its workers. The
 * orchestrator's first is the outermost; a handler's own come within those. What is inside is reached by `next`, once,
 * and its result stands: middleware refuses by throwing, and otherwise looks on.
 */
import type { Command, CommandId, CommandOptions, Metadata } from "./command.ts";
import type { Awaitable, Logger } from "./handler.ts";
import { shown } from "./limits.ts";

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
  | { readonly kind: "succeeded" }
  /** Recorded by `finish` in a transaction of the handler's own, of which only the database knows whether it committed. */
  | { readonly kind: "finished" }
  | { readonly kind: "snoozed"; readonly until: Date | undefined; readonly delayMs: number | undefined }
  | { readonly kind: "cancelled"; readonly reason: string | undefined }
  /** `error` is what was thrown; `permanent` says that no other attempt is made. */
  | { readonly kind: "failed"; readonly error: unknown; readonly permanent: boolean };

/** Runs the handler, and answers what it came to, also where it threw. Rejects with what a layer further in threw. */
export type ExecuteNext = () => Promise<Attempted>;

export interface Middleware {
  /** For messages. */
  readonly name?: string;
  /**
   * Around one call of `push`, before anything is validated or sent. What it throws is what push rejects with; where it
   * throws after `next`, the commands are pushed all the same, unless a transaction holds them.
   */
  push?(pushing: Pushing, next: PushNext): Awaitable<unknown>;
  /**
   * Around one attempt of a handler, and around each hook that is a command of its own. Its time counts for the
   * attempt's. What it throws, before `next` or after, makes the attempt fail: for good with `PermanentFailure`.
   */
  execute?(executing: Executing, next: ExecuteNext): Awaitable<unknown>;
}

/** Middleware of one handler: it is not asked about pushes. */
export type HandlerMiddleware = Omit<Middleware, "push">;

/** Refuses what is no list of middleware. `attempt` says what cannot be done. @throws TypeError */
export function requireMiddleware(attempt: string, given: unknown, parts: readonly ("push" | "execute")[]): void {
  if (given === undefined) return;
  if (!Array.isArray(given)) throw new TypeError(`${attempt}: middleware must be a list, got ${shown(given)}`);
  for (const [index, one] of (given as unknown[]).entries()) {
    const field = `middleware[${index}]`;
    if (typeof one !== "object" || one === null) {
      throw new TypeError(`${attempt}: ${field} must be an object with ${parts.join(" or ")}, got ${shown(one)}`);
    }
    const { push, execute } = one as { readonly push?: unknown; readonly execute?: unknown };
    for (const [part, value] of Object.entries({ push, execute })) {
      if (value !== undefined && typeof value !== "function") {
        throw new TypeError(`${attempt}: ${field}.${part} must be a function, got ${shown(value)}`);
      }
      if (value !== undefined && !(parts as readonly string[]).includes(part)) {
        throw new TypeError(`${attempt}: ${field} cannot have ${part}: give it to createOrchestrator`);
      }
    }
    if (push === undefined && execute === undefined) {
      throw new TypeError(`${attempt}: ${field} must have ${parts.join(" or ")}, got neither`);
    }
  }
}

/**
 * Runs `inner` within all of `layers`, the first outermost, and answers what `inner` did: no layer can replace it, nor
 * swallow what it threw.
 */
async function runWithin<Result, Told>(
  layers: readonly {
    readonly name: string | undefined;
    run(next: () => Promise<Told>): Awaitable<unknown>;
  }[],
  inner: () => Promise<Result>,
  told: (result: Result) => Told,
  attempt: string,
): Promise<Result> {
  const enter = async (depth: number): Promise<Result> => {
    const layer = layers[depth];
    if (!layer) return await inner();
    let entered: Promise<Result> | undefined;
    await layer.run(() => {
      if (entered) return Promise.reject(new Error(`${attempt}: ${named(layer.name, depth)} called next twice`));
      entered = enter(depth + 1);
      const answered = entered.then(told);
      // Where the layer throws before it looks, that is what counts, and nobody looks at these any more.
      entered.catch(() => {});
      answered.catch(() => {});
      return answered;
    });
    if (!entered) throw new Error(`${attempt}: ${named(layer.name, depth)} neither called next nor threw`);
    return await entered;
  };
  return await enter(0);
}

const named = (name: string | undefined, index: number): string =>
  name === undefined ? `middleware[${index}]` : `middleware "${name}"`;

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
  const layers = middleware
    .filter(({ push }) => push !== undefined)
    .map((one) => ({
      name: one.name,
      run: (next: () => Promise<readonly Pushed[]>) => {
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
    }));
  return await runWithin(
    layers,
    () => send(commands),
    (pushed) => pushed,
    "Cannot push",
  );
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
): Promise<Result> {
  const layers = middleware
    .filter(({ execute }) => execute !== undefined)
    .map((one) => ({ name: one.name, run: (next: ExecuteNext) => one.execute?.(executing, () => next()) }));
  return await runWithin(layers, inner, told, `Cannot execute command "${executing.name}"`);
}

/** The orchestrator: what an application embeds. It puts the parts together and holds nothing but them. */
import { type Asking, createAsking } from "./asking.ts";
import { encodeAll } from "./batch.ts";
import type { CancelResult } from "./cancel.ts";
import { type Clock, systemClock } from "./clock.ts";
import {
  type Command,
  type CommandId,
  type CommandOptions,
  commandKeys,
  isCommand,
  isKind,
  type OutputOf,
} from "./command.ts";
import { type Control, createControl } from "./control.ts";
import { createDatabase, type Database, ownDatabase } from "./database.ts";
import { createDeadLetters, type DeadLetters } from "./dead-letters.ts";
import { type AnyContract, type Contract, isContract } from "./define-command.ts";
import type { Driver, Queryable } from "./driver.ts";
import { encodeCommand } from "./encode-command.ts";
import { createEventAsking, type EventAsking } from "./event-status.ts";
import { createExecuteOnce, type ExecuteOnce } from "./execute-once.ts";
import { createExplaining, type Explaining } from "./explain.ts";
import { createFleet, type Fleet } from "./fleet.ts";
import { type CommandSnapshot, type CommandStatus, getCommands } from "./get.ts";
import { type Handler, handlersOf, withMiddleware } from "./handler.ts";
import { createHints } from "./hints.ts";
import {
  type Keys,
  requireBoolean,
  requireDb,
  requireFunction,
  requireKeys,
  requireObject,
  requireQueue,
  requireQueues,
  requireSignal,
  shown,
} from "./limits.ts";
import { labelled, type Middleware, publishingWithin, pushWithin, requireMiddleware } from "./middleware.ts";
import { type MigrateResult, migrate } from "./migrate.ts";
import { createObservers, type Observation, type Observer } from "./observation.ts";
import { type CommandOutcome, readOutcome } from "./outcome.ts";
import { createWatcher } from "./progress.ts";
import { createPublishing, type Publishing } from "./publish.ts";
import { createPusher } from "./push.ts";
import { createLogReader } from "./read-log.ts";
import { createEventStore, type EventStore } from "./readers.ts";
import { createRegistry } from "./registry.ts";
import { checkSchemaName } from "./schema-name.ts";
import { createStatistics, type Statistics } from "./statistics.ts";
import { createSubscriptions, type Subscriptions } from "./subscriptions.ts";
import type { Telemetry } from "./telemetry.ts";
import { createTicking, type Ticking } from "./tick.ts";
import { requireId } from "./uuid.ts";
import { StoppedError, type WaitOptions } from "./wait-errors.ts";
import { createWaiter, waitKeys } from "./wait-for.ts";
import {
  type Budget,
  createWorker,
  type OwnWorker,
  requireStopOptions,
  type StopOptions,
  type Worker,
} from "./worker.ts";
import type { WorkerOptions } from "./worker-options.ts";

export interface OrchestratorOptions {
  /** Made by an adapter: `postgresJs(sql)`, `await pglite("./data")`. Who opened it closes it, after `stop()`. */
  readonly database: Driver;
  /** What runs here: a list, or a module's exports (`import * as handlers from "./handlers.ts"`). @default none */
  readonly handlers?: readonly Handler[] | Readonly<Record<string, unknown>>;
  /** Contracts that are pushed and waited for here and handled elsewhere. @default none */
  readonly commands?: readonly AnyContract[] | Readonly<Record<string, unknown>>;
  /** What is laid around every push, and around every attempt here; the first is the outermost. @default none */
  readonly middleware?: readonly Middleware[];
  /** `^[a-z_][a-z0-9_]{0,47}$` @default "orchestratum" */
  readonly schema?: string;
  /** A name of this process among its fleet. A worker serves the queue of that name, too. @default none */
  readonly instance?: string;
  /** Receives everything that the orchestrator has to say; it never writes to the console. */
  readonly observe?: Observer;
  /** Traces and measures what it does: `openTelemetry()` of `orchestratum/opentelemetry`. @default none, which costs nothing */
  readonly telemetry?: Telemetry;
  /** For tests: the clock that distances are measured by. @default the platform's */
  readonly clock?: Clock;
}

const orchestratorKeys: Keys<OrchestratorOptions> = {
  database: true,
  handlers: true,
  commands: true,
  middleware: true,
  schema: true,
  instance: true,
  observe: true,
  telemetry: true,
  clock: true,
};

/** Options of a push: where, and defaults for all its commands. An id belongs to one command, and is among its own options. */
export interface PushOptions extends Omit<CommandOptions, "id"> {
  /** The caller's open transaction, as an adapter gives it: the commands become visible with its commit. */
  readonly db?: Queryable | undefined;
}

const { id: _, ...defaultKeys } = commandKeys;
const pushKeys: Keys<PushOptions> = { ...defaultKeys, db: true };
const countKeys: Keys<NonNullable<Parameters<Orchestrator["counts"]>[0]>> = { finished: true, hooks: true };
const noOptions: PushOptions = Object.freeze({});

/** A command that was pushed. */
export interface Pushed<Output = unknown> {
  readonly id: CommandId<Output>;
}

/** How many commands there are of one status in one queue. */
export interface CommandCount {
  readonly queue: string;
  readonly status: CommandStatus;
  readonly count: number;
}

export interface Orchestrator
  extends Asking,
    Statistics,
    Fleet,
    Explaining,
    Control,
    ExecuteOnce,
    Ticking,
    Publishing,
    Subscriptions,
    EventAsking,
    DeadLetters,
    EventStore,
    AsyncDisposable {
  /** Brings the schema up to date. Safe when many processes start at once. */
  migrate(): Promise<MigrateResult>;

  /**
   * Puts one command, or many, into the queue. Everything is validated before any I/O. Up to 1,000 commands and 8 MB of
   * one call are one statement, all or nothing; of more, each such part commits for itself, unless `db` holds them
   * together.
   *
   * @throws InvalidInputError with every issue; TypeError and RangeError for options out of their limits;
   * CommandConflictError for an id that was pushed before with another name or input.
   */
  push<C extends Command<any>>(command: C, options?: PushOptions): Promise<Pushed<OutputOf<C>>>;
  push<const L extends readonly Command<any>[]>(
    commands: L,
    options?: PushOptions,
  ): Promise<{ [K in keyof L]: Pushed<OutputOf<L[K]>> }>;

  /** Reads a command, live or finished; undefined where there is none. */
  get(id: string): Promise<CommandSnapshot | undefined>;

  /**
   * Waits for the end of a command. Its output is typed by the id that `push` gave, or by the contract; it is raw where
   * neither is known here. Do not wait inside a handler for what the same workers must run: with all slots waiting,
   * nothing moves. Of many it waits for all, and answers in their order; the first that cannot be waited for ends it.
   *
   * @throws UnknownCommandError, WaitTimeoutError, InvalidOutputError (with the raw output), StoppedError, or the reason
   * of `signal`.
   */
  waitFor<Output>(id: CommandId<Output>, options?: WaitOptions): Promise<CommandOutcome<Output>>;
  waitFor<C extends AnyContract>(contract: C, id: string, options?: WaitOptions): Promise<CommandOutcome<OutputOf<C>>>;
  waitFor(id: string, options?: WaitOptions): Promise<CommandOutcome>;
  waitFor<const L extends readonly CommandId<any>[]>(
    ids: L,
    options?: WaitOptions,
  ): Promise<{ [K in keyof L]: CommandOutcome<OutputOf<L[K]>> }>;
  waitFor(ids: readonly string[], options?: WaitOptions): Promise<CommandOutcome[]>;

  /**
   * How many commands there are, by queue and status.
   *
   * @throws TypeError for an option that is no boolean; NotMigratedError.
   */
  counts(options?: {
    /** Count what has finished, too, which reads all of history. @default true */
    readonly finished?: boolean;
    /** Count hook commands, too. @default false */
    readonly hooks?: boolean;
  }): Promise<CommandCount[]>;

  /**
   * Tells workers everywhere to look at these queues at once: for those who pushed by plain SQL without a notification.
   *
   * @throws TypeError for what is no list, TypeError or RangeError for what is no name of a queue.
   */
  wake(queues: readonly string[]): void;

  /** Starts a worker. It takes up its work as soon as the database lets it; `started` tells when. */
  startWorker(options?: WorkerOptions): Worker;
  /** Those that have not been stopped. */
  readonly workers: readonly Worker[];
  /** Whether a worker of this orchestrator runs. */
  readonly isRunning: boolean;
  /** Whether `stop()` was called: what is built around an orchestrator ends by it. */
  readonly isStopped: boolean;

  /** Adds an observer; the result takes it away. */
  observe(observer: Observer): () => void;

  /** Tells observers something: for what is built around an orchestrator, as its HTTP router is. */
  report(observation: Observation): void;

  /** The contracts of `handlers` and `commands`: what may be pushed by name. */
  readonly contracts: readonly AnyContract[];

  /** Stops workers (see `Worker.stop`), timers and listening, and ends all waiting with `StoppedError`. */
  stop(options?: StopOptions): Promise<void>;
}

/**
 * Whatever takes options refuses what it does not know with a TypeError that names it, before any I/O.
 *
 * @throws TypeError for two handlers of one name and version, and for what is not what its option asks for.
 * @example
 * const orchestrator = createOrchestrator({ database: await pglite("./data"), handlers: [sendEmailHandler] });
 * await orchestrator.migrate();
 * orchestrator.startWorker();
 * const { id } = await orchestrator.push(sendEmail({ to: "ada@example.com" }));
 */
export function createOrchestrator(options: OrchestratorOptions): Orchestrator {
  requireObject("Cannot create orchestrator", "options", options);
  requireKeys("Cannot create orchestrator", options, orchestratorKeys);
  const { database: driver, schema = "orchestratum", instance, telemetry, clock = systemClock } = options;
  if (typeof driver?.query !== "function" || typeof driver.script !== "function") {
    throw new TypeError(
      `Cannot create orchestrator: database must be a driver, as postgresJs(sql) or await pglite() makes one, got ${shown(driver)}`,
    );
  }
  checkSchemaName(schema);
  if (instance !== undefined) requireQueue("Cannot create orchestrator with this instance", instance);

  requireMiddleware("Cannot create orchestrator", options.middleware, ["push", "publish", "execute"]);
  requireTelemetry(telemetry);
  if (options.observe !== undefined) requireFunction("Cannot create orchestrator", "observe", options.observe);
  const middleware = [...(telemetry ? [telemetry.middleware] : []), ...labelled(options.middleware ?? [])];
  const pushMiddleware = middleware.filter(({ push }) => push !== undefined);
  const given = options.handlers === undefined ? [] : handlersOf(options.handlers);
  const isWrapped = middleware.some(({ execute }) => execute !== undefined);
  const running = new Map(given.map((handler) => [handler, isWrapped ? withMiddleware(handler, middleware) : handler]));
  const handlers = [...running.values()];
  const contracts = new Map<string, AnyContract>();
  const learn = (contract: AnyContract) => {
    contracts.set(`${contract.name}\n${contract.version}`, contract);
    contracts.set(contract.name, contract);
  };
  for (const contract of contractsOf(options.commands)) learn(contract);
  for (const handler of handlers) learn(handler.contract);
  const known = new Set(contracts.values());

  const observers = createObservers();
  const { report } = observers;
  if (telemetry) observers.add(telemetry.observe);
  if (options.observe) observers.add(options.observe);
  const database = createDatabase(driver, schema, clock, report);
  /** For what goes on by itself; what somebody asks for is theirs to wait for. */
  const own = ownDatabase(database, clock);
  const hints = createHints(own, clock, report);
  const pusher = createPusher(database, clock, hints, report);
  const waiter = createWaiter(own, clock, hints, report);
  const watcher = createWatcher(own, clock, report);
  const asking = createAsking(database, watcher);
  const registry = createRegistry(handlers);
  const events = createEventStore({ database, clock, hints, report, instance });
  const workers = new Set<Worker>();
  let isStopped = false;

  async function push(given: Command | readonly Command[], pushOptions?: PushOptions): Promise<Pushed | Pushed[]> {
    const list = isCommand(given) ? [given] : given;
    // Told before the options are: in `push("a", { b: 1 })` they are not what is wrong.
    if (!Array.isArray(list)) {
      const got = isKind(given, "contract")
        ? "a contract: call it with an input"
        : `${shown(given)}: call a contract with an input, as \`push(defineCommand({ name: "a" })(input))\` does`;
      throw new TypeError(`Cannot push: a command, or a list of commands, is wanted, got ${got}`);
    }
    // An id is refused with each command, which says where it belongs.
    if ((pushOptions as CommandOptions | undefined)?.id === undefined) {
      requireKeys("Cannot push", pushOptions, pushKeys);
    }
    const { db, ...defaults } = pushOptions ?? noOptions;
    requireDb("Cannot push", db);
    const pushed =
      pushMiddleware.length > 0 && list.every(isCommand)
        ? await pushWithin(pushMiddleware, list, defaults, (commands) => {
            return send(commands, { ...defaults, metadata: undefined }, db);
          })
        : await send(list, defaults, db);
    return isCommand(given) ? (pushed[0] as Pushed) : [...pushed];
  }

  async function send(
    list: readonly Command[],
    defaults: CommandOptions,
    db: Queryable | undefined,
  ): Promise<Pushed[]> {
    const encoded = await encodeAll(list, (command) => encodeCommand(command, { defaults }));
    for (const command of list) learn(command.contract);
    await pusher.push(encoded, db);
    return encoded.map(({ id }) => ({ id: id as CommandId }));
  }

  async function waitFor(
    first: string | AnyContract | readonly string[],
    second?: string | WaitOptions,
    third?: WaitOptions,
  ): Promise<CommandOutcome | CommandOutcome[]> {
    const isById = typeof first === "string" || Array.isArray(first);
    const waitOptions = (isById ? second : third) as WaitOptions | undefined;
    requireKeys("Cannot wait", waitOptions, waitKeys);
    if (waitOptions?.signal !== undefined) requireSignal("Cannot wait", waitOptions.signal);
    if (Array.isArray(first)) return await waitForMany(first, waitOptions);
    return isById
      ? await waitForOne(undefined, first, waitOptions)
      : await waitForOne(first as AnyContract, second, waitOptions);
  }

  async function waitForMany(ids: readonly string[], waitOptions: WaitOptions = {}): Promise<CommandOutcome[]> {
    for (const id of ids) requireId("Cannot wait", id);
    const { signal, ...others } = waitOptions;
    // Whoever waits for all has no use for the rest once one cannot be waited for. A signal each: platforms take a signal
    // that more than ten listen to for a leak.
    const controllers = ids.map(() => new AbortController());
    const abort = () => {
      for (const controller of controllers) controller.abort(signal?.reason);
    };
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
    try {
      return await Promise.all(
        ids.map((id, place) => {
          return waitForOne(undefined, id, { ...others, signal: (controllers[place] as AbortController).signal });
        }),
      );
    } finally {
      signal?.removeEventListener("abort", abort);
      abort();
    }
  }

  async function waitForOne(
    contract: AnyContract | undefined,
    id: unknown,
    waitOptions: WaitOptions | undefined,
  ): Promise<CommandOutcome> {
    requireId("Cannot wait", id);
    const row = await waiter.wait(id.toLowerCase(), waitOptions);
    const known = contracts.get(`${row.name}\n${row.version}`) ?? contracts.get(row.name);
    return await readOutcome(row, contract ?? known);
  }

  function startWorker(
    attempt: string,
    within: Database,
    workerOptions: WorkerOptions | undefined,
    budget?: Budget,
  ): OwnWorker {
    if (isStopped) throw new StoppedError(`${attempt}: the orchestrator was stopped`);
    if (handlers.length === 0) {
      throw new TypeError(`${attempt}: the orchestrator has no handlers: pass them to createOrchestrator`);
    }
    const stopped = () => void workers.delete(worker);
    const surroundings = { database: within, clock, hints, registry, observers, instance, stopped };
    const worker = createWorker(surroundings, workerOptions, budget);
    workers.add(worker);
    return worker;
  }

  const orchestrator: Orchestrator = {
    async migrate() {
      return await migrate(driver, { schema });
    },
    push: push as Orchestrator["push"],
    waitFor: waitFor as Orchestrator["waitFor"],
    async get(id) {
      requireId("Cannot get command", id);
      return (await getCommands([id], database)).get(id.toLowerCase());
    },
    async counts(countOptions) {
      requireKeys("Cannot count commands", countOptions, countKeys);
      const { finished = true, hooks = false } = countOptions ?? {};
      requireBoolean("Cannot count commands", "finished", finished);
      requireBoolean("Cannot count commands", "hooks", hooks);
      const rows = await database.run<{ queue: string; status: CommandStatus; count: string }>("countCommands", [
        finished,
        hooks,
      ]);
      return rows.map((row) => ({ ...row, count: Number(row.count) }));
    },
    wake(queues) {
      requireQueues("Cannot wake queues", queues);
      hints.wake(queues);
    },
    ...createStatistics(database, clock),
    ...createFleet(database),
    ...createExplaining(database),
    startWorker: (workerOptions) => startWorker("Cannot start worker", database, workerOptions),
    ...createTicking({
      database,
      clock,
      hints,
      report,
      startWorker: (within, workerOptions, budget) => startWorker("Cannot tick", within, workerOptions, budget),
    }),
    get workers() {
      return [...workers];
    },
    get isRunning() {
      return [...workers].some((worker) => worker.isRunning);
    },
    get isStopped() {
      return isStopped;
    },
    ...asking,
    ...createControl({
      database,
      clock,
      hints,
      report,
      contractOf: (name, version) => contracts.get(`${name}\n${version}`),
    }),
    ...createExecuteOnce({ handlers: running, registry, clock, report }),
    ...publishingWithin(middleware, createPublishing({ database, clock, hints, report })),
    ...createSubscriptions({
      database,
      clock,
      hints,
      report,
      log: createLogReader(database, clock),
      cancel: (filter, cancelOptions) => orchestrator.cancel(filter, cancelOptions),
    }),
    ...createEventAsking(database),
    ...createDeadLetters({ database, clock, hints, report }),
    ...events.store,
    get startedReaders() {
      return events.store.startedReaders;
    },
    observe(observer) {
      requireFunction("Cannot observe", "observer", observer);
      return observers.add(observer);
    },
    report,
    contracts: [...known],
    async stop(stopOptions) {
      requireStopOptions("Cannot stop", stopOptions);
      isStopped = true;
      await Promise.all([...[...workers].map((worker) => worker.stop(stopOptions)), events.stop(stopOptions)]);
      waiter.close();
      watcher.close();
      await hints.close();
      await own.end(new StoppedError("Cannot ask the database: the orchestrator was stopped"), 1_000);
      detach?.();
    },
    [Symbol.asyncDispose]: () => orchestrator.stop(),
  };
  const detach = telemetry?.attach(orchestrator);
  return orchestrator;
}

function requireTelemetry(given: unknown): void {
  if (given === undefined) return;
  const { middleware, observe, attach } = (given ?? {}) as { [Key in keyof Telemetry]?: unknown };
  if (typeof middleware === "object" && typeof observe === "function" && typeof attach === "function") return;
  throw new TypeError(
    `Cannot create orchestrator: telemetry must be as openTelemetry() makes it, got ${shown(given)}: call it`,
  );
}

function contractsOf(source: OrchestratorOptions["commands"]): AnyContract[] {
  if (source === undefined) return [];
  if (typeof source !== "object" || source === null) {
    throw new TypeError(
      `Cannot create orchestrator: commands must be a list of contracts, or a module's exports, got ${shown(source)}`,
    );
  }
  const values: readonly unknown[] = Array.isArray(source) ? source : Object.values(source).filter(isContract);
  for (const value of values) {
    if (isContract(value)) continue;
    throw new TypeError(`Cannot create orchestrator: commands must be contracts, got ${shown(value)}`);
  }
  return values as AnyContract[];
}

export type { CancelResult, Contract };

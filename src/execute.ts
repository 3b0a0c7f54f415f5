/**
 * One attempt at a command: parse its input, run the handler, check what it returned, run `onSuccess`, and encode what
 * follows. It knows nothing of queues or leases and never throws: everything that can go wrong is a result.
 */
import { type Command, type CommandId, isCommand, isKind, kind, type Metadata } from "./command.ts";
import { isNewEvent, type NewEvent } from "./define-event.ts";
import type { Queryable } from "./driver.ts";
import { type EncodedCommand, encodeCommand } from "./encode-command.ts";
import { type EncodedEvent, encodeEvent } from "./encode-event.ts";
import type { ErrorRecord } from "./failure.ts";
import { isPermanentFailure } from "./failure.ts";
import type {
  Awaitable,
  Cancel,
  CancellationContext,
  FailureContext,
  Finished,
  FinishOptions,
  FollowUps,
  Handler,
  HandlerContext,
  Logger,
  Snooze,
  SuccessContext,
} from "./handler.ts";
import { isCancel, isSnooze } from "./handler.ts";
import { toJson } from "./json.ts";
import { type Keys, maxBatchBytes, maxFollowUps, maxOutputBytes, maxPublished, requireKeys } from "./limits.ts";
import { type Attempted, type Executing, executeWithin, type Middleware } from "./middleware.ts";
import { type EncodedAppend, encodeAppends } from "./publish.ts";
import { InvalidEventError, type RecordedEvent } from "./recorded-event.ts";
import { deliveredEvent } from "./subscribe.ts";
import { uuidv7 } from "./uuid.ts";
import { formatIssues, type Validated, validate } from "./validate.ts";

/** What is executed, and what its surroundings offer it. */
export interface Execution {
  readonly id: string;
  readonly name: string;
  readonly version: number;
  readonly hook: "failure" | "cancellation" | null;
  readonly fence: number;
  readonly attempt: number;
  readonly parentId: string | null;
  /** JSON, as it was pushed; null where there is none. */
  readonly input: string | null;
  /** JSON. Middleware may write another before the handler looks. */
  metadata: string | null;
  readonly queue: string;
  /** Undefined where it runs without the queue. */
  readonly worker: string | undefined;
  // Made when somebody looks at them: most handlers do not, and each costs as much as the rest of a small command.
  readonly deadline: Date;
  readonly signal: AbortSignal;
  readonly progress: (value: unknown) => void;
  readonly logger: Logger;
  /** The handler, or a hook that is a command of its own, is about to be called: false where its attempt is over, for the signal's reason. */
  begin(): boolean;
  /** Records a success within the handler's own transaction. Absent where nobody holds a lease. */
  readonly record?: (db: Queryable, success: Success) => Promise<void>;
  /** Is told of each follow-up, with the id it was promised and the metadata it inherits. */
  readonly followed?: (command: Command, id: string | undefined, inherited: Metadata) => void;
  /** The same of each event. */
  readonly published?: (event: NewEvent, id: string | undefined, inherited: Metadata) => void;
  /** Reads an event that is too large to travel with its delivery. Absent where there is no database. */
  readonly readEvent?: (id: string) => Promise<RecordedEvent>;
}

/** What an attempt that succeeds leaves behind. */
export interface Success {
  /** JSON; undefined where the contract has no output. */
  readonly output: string | undefined;
  readonly followUps: readonly EncodedCommand[];
  readonly events: readonly EncodedEvent[];
  /** What goes to streams, within the handler's own transaction. */
  readonly appends?: readonly EncodedAppend[];
}

/** How an attempt came out. */
export type ExecutionResult =
  | ({ readonly kind: "succeeded" } & Success)
  /** Recorded within the handler's own transaction, if that was committed; what it failed with, if it was not. */
  | { readonly kind: "finished"; readonly error: unknown; readonly permanent: boolean }
  | { readonly kind: "snoozed"; readonly end: Snooze }
  | { readonly kind: "cancelled"; readonly end: Cancel }
  | { readonly kind: "failed"; readonly error: unknown; readonly permanent: boolean };

/** The input, or the output, is not what the handler's version of the contract takes. */
class ContractError extends Error {
  override readonly name = "ContractError";
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

export function execute(handler: Handler, execution: Execution): Promise<ExecutionResult> {
  const { middleware } = handler;
  return middleware === undefined ? attempt(handler, execution) : attemptWithin(middleware, handler, execution);
}

async function attemptWithin(
  middleware: readonly Middleware[],
  handler: Handler,
  execution: Execution,
): Promise<ExecutionResult> {
  let result: ExecutionResult | undefined;
  const inner = async () => {
    result = await attempt(handler, execution);
    return result;
  };
  try {
    const change = (metadata: Metadata) => {
      execution.metadata = JSON.stringify(metadata);
    };
    return await executeWithin(middleware, new WithinContext(execution), inner, attempted, change);
  } catch (error) {
    const isRecorded = (result as ExecutionResult | undefined)?.kind === "finished";
    return { kind: isRecorded ? "finished" : "failed", error, permanent: isPermanentFailure(error) };
  }
}

/** A result as middleware sees it: of what is written nothing but the output, which is parsed where somebody looks. */
function attempted(result: ExecutionResult): Attempted {
  switch (result.kind) {
    case "succeeded":
      return {
        kind: "succeeded",
        get output() {
          return parseJson(result.output ?? null);
        },
      };
    case "snoozed":
      return { kind: "snoozed", until: result.end.until, delayMs: result.end.delayMs };
    case "cancelled":
      return { kind: "cancelled", reason: result.end.reason };
    case "failed":
      return result;
    default:
      return { kind: result.kind };
  }
}

async function attempt(handler: Handler, execution: Execution): Promise<ExecutionResult> {
  const followUps = new Followers(execution);
  try {
    if (execution.hook) return await executeHook(handler, execution, followUps);
    const raw = parseJson(execution.input);
    const parsed = handler.subscription
      ? deliveredEvent(handler.subscription, raw, (id) => readEvent(execution, id))
      : parseInput(handler, execution.name, execution.version, raw);
    const input = parsed instanceof Promise ? await parsed : parsed;
    requireBegun(execution);
    const context = new Context(input, execution, followUps, handler);
    const returned = await handler.run(context);
    followUps.close();
    if (followUps.recorded) return rolledBack(execution.name);
    if (isSnooze(returned)) return { kind: "snoozed", end: returned };
    if (isCancel(returned)) return { kind: "cancelled", end: returned };
    if (!handler.contract.output && !handler.onSuccess && followUps.isEmpty) return empty;
    return { kind: "succeeded", ...(await successOf(handler, execution, followUps, input, returned)) };
  } catch (error) {
    followUps.close();
    const permanent =
      isPermanentFailure(error) ||
      error instanceof InvalidEventError ||
      (error instanceof ContractError && error.code === invalidInput);
    return { kind: followUps.recorded ? "finished" : "failed", error, permanent };
  }
}

function requireBegun(execution: Execution): void {
  if (!execution.begin()) throw execution.signal.reason;
}

/** The output as it is recorded, and what follows, `onSuccess` asked. */
async function successOf(
  handler: Handler,
  execution: Execution,
  followUps: Followers,
  input: unknown,
  returned: unknown,
): Promise<Success> {
  const output = handler.contract.output ? await encodeOutput(handler, returned) : undefined;
  if (handler.onSuccess) {
    followUps.add(
      await handler.onSuccess(
        new AfterContext(execution, execution.id, {
          input,
          output: await parseOutput(handler.contract, output),
        }) as unknown as SuccessContext,
      ),
    );
  }
  return { output, ...(followUps.isEmpty ? nothing : await followUps.all()) };
}

/** The transaction in which the outcome was recorded did not commit. */
class RolledBackError extends Error {
  override readonly name = "RolledBackError";
  readonly code = "rolled_back";
  constructor(name: string) {
    super(`Cannot record the success of command "${name}": the transaction of its finish(db, output) was rolled back`);
  }
}

/** What an attempt comes to whose outcome was recorded in a transaction that did not commit. */
export function rolledBack(name: string): ExecutionResult {
  return { kind: "finished", error: new RolledBackError(name), permanent: false };
}

function hasAppend(output: unknown): boolean {
  return typeof output === "object" && output !== null && Object.hasOwn(output, "append");
}

const finishKeys: Keys<FinishOptions> = { append: true };
const finished: Finished = Object.freeze({ [kind]: "finished" as const });

const invalidInput = "invalid_input";
const nothing: Pick<Success, "followUps" | "events"> = { followUps: [], events: [] };
/** The plainest success. */
const empty: ExecutionResult = { kind: "succeeded", output: undefined, ...nothing };

async function readEvent(execution: Execution, id: string): Promise<RecordedEvent> {
  if (execution.readEvent) return await execution.readEvent(id);
  throw new TypeError(
    `Cannot execute command "${execution.name}": it carries the id of an event, and there is no store`,
  );
}

/** A hook that is a command of its own. Its input tells of the command that ended; a hook that is gone succeeds. */
async function executeHook(handler: Handler, execution: Execution, followUps: Followers): Promise<ExecutionResult> {
  const ended = parseJson(execution.input) as { input?: unknown; status: string; error: ErrorRecord | null };
  let input: unknown;
  try {
    const parsed = parseInput(handler, execution.name, execution.version, ended.input);
    input = parsed instanceof Promise ? await parsed : parsed;
  } catch {
    // This version refuses what the command was pushed with, which may be why it failed: rawInput shows it.
  }
  const context: unknown = new AfterContext(execution, execution.parentId ?? execution.id, {
    input,
    rawInput: ended.input,
    status: ended.status,
    error: ended.error ?? undefined,
  });
  requireBegun(execution);
  followUps.add(
    await (execution.hook === "failure"
      ? handler.onFailure?.(context as FailureContext)
      : handler.onCancellation?.(context as CancellationContext)),
  );
  return { kind: "succeeded", output: undefined, ...(await followUps.all()) };
}

function parseJson(text: string | null): unknown {
  return text === null ? undefined : JSON.parse(text);
}

/** What travels along the chain; what was not said when the chain began follows from the command itself. */
export function metadataOf(execution: Pick<Execution, "id" | "metadata">): Metadata {
  const metadata = parseJson(execution.metadata) as Metadata | undefined | null;
  return { correlationId: execution.id, ...metadata };
}

/** Answers at once where it can: an ordinary schema costs no turn of the event loop. */
function parseInput({ contract }: Handler, name: string, version: number, raw: unknown): unknown {
  if (version < contract.version && contract.upgrade) return upgradeInput(contract, name, version, raw);
  return validInput(contract, name, raw);
}

async function upgradeInput(
  contract: Handler["contract"],
  name: string,
  version: number,
  raw: unknown,
): Promise<unknown> {
  return await validInput(contract, name, await contract.upgrade?.(raw, version));
}

function validInput({ input }: Handler["contract"], name: string, raw: unknown): unknown {
  if (!input) return raw;
  const valueOf = (result: Validated<unknown>): unknown => {
    if (!result.issues) return result.value;
    const issues = formatIssues(result.issues);
    throw new ContractError(invalidInput, `Cannot execute command "${name}": its input is invalid: ${issues}`);
  };
  const result = validate(input, raw);
  return result instanceof Promise ? result.then(valueOf) : valueOf(result);
}

/** The JSON of what the handler returned, which must be what the contract's output takes. */
async function encodeOutput({ contract }: Handler, returned: unknown): Promise<string | undefined> {
  if (!contract.output) return undefined;
  const attempt = `Cannot record the output of command "${contract.name}"`;
  // An output that may be nothing is nothing: JSON has no undefined.
  const text = returned === undefined ? undefined : toJson(returned, maxOutputBytes);
  if (text?.issues) throw new ContractError("invalid_output", `${attempt}: ${formatIssues(text.issues)}`);
  const result = validate(contract.output, returned);
  const { issues } = result instanceof Promise ? await result : result;
  if (issues) throw new ContractError("invalid_output", `${attempt}: it is invalid: ${formatIssues(issues)}`);
  return text?.json;
}

/** An output as `waitFor` and `onSuccess` give it. */
export async function parseOutput(contract: Handler["contract"], output: string | undefined): Promise<unknown> {
  if (!contract.output) return undefined;
  const result = validate(contract.output, output === undefined ? undefined : JSON.parse(output));
  const { value, issues } = (result instanceof Promise ? await result : result) as { value?: unknown; issues?: [] };
  if (issues) {
    throw new ContractError(
      "invalid_output",
      `Cannot read the output of command "${contract.name}": ${formatIssues(issues)}`,
    );
  }
  return value;
}

/** The commands that are to follow an attempt that succeeds, and the events it publishes, whoever asked for them. */
class Followers {
  readonly #execution: Execution;
  #commands: Awaitable<EncodedCommand>[] | undefined;
  #events: Awaitable<EncodedEvent>[] | undefined;
  #inherited: Metadata | undefined;
  #closed = false;
  /** Whether an outcome was recorded within a transaction of the handler's. */
  recorded = false;
  /** Whether one is being recorded: what is pushed now would not be among it. */
  finishing = false;

  constructor(execution: Execution) {
    this.#execution = execution;
  }

  get isEmpty(): boolean {
    return this.#commands === undefined && this.#events === undefined;
  }

  /** How much there is, for {@link rewind}. */
  get size(): readonly [commands: number, events: number] {
    return [this.#commands?.length ?? 0, this.#events?.length ?? 0];
  }

  publish(events: readonly NewEvent[]): { readonly id: string }[] {
    this.#requireOpen("publish an event");
    return events.map((event) => {
      const newId = uuidv7();
      this.#encodeEvent(event, newId);
      return { id: newId };
    });
  }

  #requireOpen(attempt: string): void {
    if (this.#closed) {
      throw new Error(`Cannot ${attempt} of command "${this.#execution.name}": its handler has returned already`);
    }
    if (this.finishing || this.recorded) {
      throw new Error(`Cannot ${attempt} of command "${this.#execution.name}" after its finish(db, output)`);
    }
  }

  /** As push and publish, under an id that was promised elsewhere. */
  pushAs(followUp: Command | NewEvent, id: string = uuidv7()): void {
    if (isNewEvent(followUp)) this.#encodeEvent(followUp, id);
    else this.#encode(followUp, id);
  }

  push(command: Command): { readonly id: CommandId<never> } {
    this.#requireOpen("push a follow-up");
    const newId = uuidv7();
    this.#encode(command, newId);
    return { id: newId as CommandId<never> };
  }

  add(followUps: FollowUps): void {
    if (followUps === undefined || followUps === null) return;
    if (isCommand(followUps)) return this.#encode(followUps);
    if (isNewEvent(followUps)) return this.#encodeEvent(followUps);
    if (!Array.isArray(followUps)) {
      const got = isKind(followUps, "contract") ? "a contract: call it with an input" : typeof followUps;
      throw new TypeError(
        `Cannot follow command "${this.#execution.name}": its hook must return commands or events, got ${got}`,
      );
    }
    for (const one of followUps as readonly (Command | NewEvent)[]) {
      if (isNewEvent(one)) this.#encodeEvent(one);
      else this.#encode(one);
    }
  }

  close(): void {
    this.#closed = true;
  }

  /** Forgets what came after `size`. */
  rewind([commands, events]: readonly [commands: number, events: number]): void {
    this.#commands?.splice(commands);
    this.#events?.splice(events);
  }

  /** What follows inherits from this command, whose id is its cause. */
  get inherited(): Metadata {
    this.#inherited ??= { ...metadataOf(this.#execution), causationId: this.#execution.id };
    return this.#inherited;
  }

  #encodeEvent(event: NewEvent, newId?: string): void {
    this.#events ??= [];
    const { id, name } = this.#execution;
    if (this.#events.length >= maxPublished) {
      throw new RangeError(
        `Cannot publish more than ${maxPublished} events of command "${name}": let a command go on with the rest`,
      );
    }
    const encoded = encodeEvent(event, { inherited: this.inherited, parentId: id, newId });
    this.#execution.published?.(event, newId, this.inherited);
    if (encoded instanceof Promise) encoded.catch(() => {});
    this.#events.push(encoded);
  }

  #encode(command: Command, newId?: string): void {
    this.#commands ??= [];
    if (this.#commands.length >= maxFollowUps) {
      throw new RangeError(
        `Cannot follow command "${this.#execution.name}" by more than ${maxFollowUps} commands: let a command go on with the rest`,
      );
    }
    const encoded = encodeCommand(command, { inherited: this.inherited, followUp: true, newId });
    this.#execution.followed?.(command, newId, this.inherited);
    // A refusal that comes later is met by all(); until then it must not count as unhandled.
    if (encoded instanceof Promise) encoded.catch(() => {});
    this.#commands.push(encoded);
  }

  async all(): Promise<Pick<Success, "followUps" | "events">> {
    const { id, name } = this.#execution;
    const encoded = await Promise.all(this.#commands ?? []);
    const events = await Promise.all(this.#events ?? []);
    let bytes = 0;
    for (const one of [...encoded, ...events]) bytes += one.bytes;
    if (bytes > maxBatchBytes) {
      throw new RangeError(
        `Cannot follow command "${name}" by ${bytes} bytes of commands and events: at most ${maxBatchBytes} are allowed, let a command go on with the rest`,
      );
    }
    const followUps = encoded.map((command) => {
      return { ...command, json: `{"parent_id":"${id}",${command.json.slice(1)}` };
    });
    return { followUps, events };
  }
}

/** What a handler gets. Everything that costs something is made when somebody looks at it, and can be destructured. */
class Context implements HandlerContext {
  readonly input: unknown;
  readonly id: CommandId;
  readonly name: string;
  readonly attempt: number;
  readonly fence: number;
  readonly #execution: Execution;
  readonly #followUps: Followers;
  readonly #handler: Handler;

  constructor(input: unknown, execution: Execution, followUps: Followers, handler: Handler) {
    this.input = input;
    this.id = execution.id as CommandId;
    this.name = execution.name;
    this.attempt = execution.attempt;
    this.fence = execution.fence;
    this.#execution = execution;
    this.#followUps = followUps;
    this.#handler = handler;
  }
  static executionOf(context: object): Execution | undefined {
    return #execution in context ? context.#execution : undefined;
  }
  static pushAs(context: object, followUp: Command | NewEvent, id: string | undefined): void {
    if (#followUps in context) context.#followUps.pushAs(followUp, id);
  }
  get metadata(): Metadata {
    return metadataOf(this.#execution);
  }
  get signal(): AbortSignal {
    return this.#execution.signal;
  }
  get deadline(): Date {
    return this.#execution.deadline;
  }
  get logger(): Logger {
    return this.#execution.logger;
  }
  get progress(): (value: unknown) => void {
    return this.#execution.progress;
  }
  /** What a subscription's handler gets. */
  get event(): unknown {
    return this.input;
  }
  get push(): HandlerContext["push"] {
    return (command) => this.#followUps.push(command);
  }
  get publish(): HandlerContext["publish"] {
    return (...events) => this.#followUps.publish(events);
  }
  get finish(): HandlerContext["finish"] {
    return async (db, output, options: FinishOptions = {}) => {
      const { name, record } = this.#execution;
      if (!record) throw new TypeError(`Cannot finish command "${name}" in a transaction: it runs without a lease`);
      if (typeof db?.query !== "function") {
        throw new TypeError(
          `Cannot finish command "${name}": db must be the open transaction, as postgresJs(tx) makes it`,
        );
      }
      // Without an output schema what stands in the output's place is dropped, and so would these events be.
      if (this.#handler.contract.output === undefined && hasAppend(output)) {
        throw new TypeError(
          `Cannot finish command "${name}": options come third, after the output: finish(db, undefined, { append })`,
        );
      }
      // A transaction that was rolled back may be tried again, and then `onSuccess` says anew what follows.
      const { size } = this.#followUps;
      this.#followUps.finishing = true;
      try {
        const appends = await this.#appendsOf(options);
        const success = await successOf(this.#handler, this.#execution, this.#followUps, this.input, output);
        await record(db, appends.length === 0 ? success : { ...success, appends });
        this.#followUps.recorded = true;
      } finally {
        this.#followUps.finishing = false;
        this.#followUps.rewind(size);
      }
      return finished;
    };
  }

  async #appendsOf(options: FinishOptions): Promise<EncodedAppend[]> {
    const attempt = `Cannot finish command "${this.name}"`;
    requireKeys(attempt, options, finishKeys);
    const { append } = options;
    if (append === undefined) return [];
    return await encodeAppends(attempt, append, { inherited: this.#followUps.inherited, parentId: this.id });
  }
}

/** What is executed, of what a handler or a hook got; undefined where it is no context of this library's. */
export function executionOf(context: object): Execution | undefined {
  return Context.executionOf(context) ?? AfterContext.executionOf(context);
}

/** As a handler's `push` and `publish`, under an id that was promised where the handler ran. */
export const pushAs: (context: object, followUp: Command | NewEvent, id: string | undefined) => void = Context.pushAs;

/** What middleware gets. */
class WithinContext implements Executing {
  readonly id: CommandId;
  readonly parentId: string | undefined;
  readonly name: string;
  readonly version: number;
  readonly attempt: number;
  readonly fence: number;
  readonly hook: "failure" | "cancellation" | undefined;
  readonly queue: string;
  readonly #execution: Execution;

  constructor(execution: Execution) {
    this.id = execution.id as CommandId;
    this.parentId = execution.parentId ?? undefined;
    this.name = execution.name;
    this.version = execution.version;
    this.attempt = execution.attempt;
    this.fence = execution.fence;
    this.hook = execution.hook ?? undefined;
    this.queue = execution.queue;
    this.#execution = execution;
  }
  get worker(): string | undefined {
    return this.#execution.worker;
  }
  get rawInput(): unknown {
    return parseJson(this.#execution.input);
  }
  get metadata(): Metadata {
    return metadataOf(this.#execution);
  }
  get signal(): AbortSignal {
    return this.#execution.signal;
  }
  get logger(): Logger {
    return this.#execution.logger;
  }
}

/** What a hook gets, `fields` beside what is common to all of them. */
class AfterContext {
  readonly id: string;
  readonly name: string;
  readonly #execution: Execution;

  constructor(execution: Execution, id: string, fields: Readonly<Record<string, unknown>>) {
    this.id = id;
    this.name = execution.name;
    this.#execution = execution;
    Object.assign(this, fields);
  }
  static executionOf(context: object): Execution | undefined {
    return #execution in context ? context.#execution : undefined;
  }
  get logger(): Logger {
    return this.#execution.logger;
  }
  get metadata(): Metadata {
    return metadataOf(this.#execution);
  }
  get signal(): AbortSignal {
    return this.#execution.signal;
  }
}

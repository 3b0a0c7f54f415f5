/** Running a handler once, without the queue: for tests, scripts, and whoever wants the outcome at once. */
import { type AttemptFacts, attemptOnce } from "./attempt-once.ts";
import type { Clock } from "./clock.ts";
import { type Command, isCommand, isKind, type Metadata, type OutputOf } from "./command.ts";
import type { NewEvent } from "./define-event.ts";
import { encodeCommand } from "./encode-command.ts";
import { type ExecutionResult, metadataOf, parseOutput } from "./execute.ts";
import { type ErrorRecord, errorRecord } from "./failure.ts";
import type { Handler } from "./handler.ts";
import type { AttemptAbortedError } from "./lease.ts";
import { type Keys, requireInteger, requireKeys, requireSignal, shown } from "./limits.ts";
import type { Observer } from "./observation.ts";
import type { Registry } from "./registry.ts";
import { uuidv7 } from "./uuid.ts";

export interface ExecuteOptions {
  /** The attempt that the handler is told, 1 to 32,767. @default 1 */
  readonly attempt?: number | undefined;
  /** Cancels it: the handler's signal is aborted, and any end but success is then `cancelled`. @default none */
  readonly signal?: AbortSignal | undefined;
}

const executeKeys: Keys<ExecuteOptions> = { attempt: true, signal: true };

/** What a handler came to that ran once. */
export type ExecuteOutcome<Output = unknown> =
  | { readonly status: "succeeded"; readonly output: Output }
  /** `thrown` is what the handler threw; `error` what would be recorded of it. */
  | { readonly status: "failed" | "timed_out"; readonly error: ErrorRecord; readonly thrown: unknown }
  | { readonly status: "cancelled"; readonly error: ErrorRecord | undefined; readonly thrown: unknown }
  | { readonly status: "snoozed"; readonly until: Date | undefined; readonly delayMs: number | undefined };

/** A command that would have followed. It can be looked at, and pushed or executed as it is. */
export interface FollowUp extends Command {
  readonly name: string;
}

export interface Executed<Output = unknown> {
  readonly outcome: ExecuteOutcome<Output>;
  /** Those of the handler and `onSuccess` where it succeeded, else those of the hook that ran. */
  readonly followUps: readonly FollowUp[];
  /** The events that would have been published, as `followUps`. They can be looked at, and published as they are. */
  readonly events: readonly NewEvent[];
  /** What became of `onFailure` or `onCancellation`, where one ran. */
  readonly hook: { readonly kind: "failure" | "cancellation"; readonly outcome: ExecuteOutcome } | undefined;
}

export interface ExecuteOnce {
  /**
   * Runs the handler of a command once, here and now, without any statement of the database: the input is validated,
   * timeout and middleware count, and `onSuccess` runs. Nothing tries again, so a failure is final, and `onFailure` or
   * `onCancellation` runs after it. What would follow is answered, not pushed. Push middleware is not asked: what it
   * would put into the metadata is given with the command.
   *
   * The handler sees the command's `id`, or a new one, `attempt` as the options say, and a `fence` of 1; its `finish`
   * throws, since there is no lease.
   *
   * @throws TypeError where no handler here knows the command; InvalidInputError as push does.
   */
  execute<C extends Command<any>>(command: C, options?: ExecuteOptions): Promise<Executed<OutputOf<C>>>;
  /**
   * The handler that would execute a command of this name and version: of the very version, else the nearest newer one
   * that can upgrade. Without a version the newest.
   */
  handlerOf(name: string, version?: number): Handler | undefined;
}

export interface ExecuteOnceParts {
  /** As they were given, and as they run: with the orchestrator's middleware around them. */
  readonly handlers: ReadonlyMap<Handler, Handler>;
  readonly registry: Registry;
  readonly clock: Clock;
  readonly report: Observer;
}

export function createExecuteOnce({ handlers, registry, clock, report }: ExecuteOnceParts): ExecuteOnce {
  const given = new Map(Array.from(handlers, ([own, running]) => [running, own]));

  async function attempt(
    handler: Handler,
    facts: Omit<AttemptFacts, "fence">,
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): Promise<{
    result: ExecutionResult;
    followUps: FollowUp[];
    events: NewEvent[];
    reason: AttemptAbortedError | undefined;
  }> {
    const followUps: FollowUp[] = [];
    const events: NewEvent[] = [];
    const { result, reason } = await attemptOnce(
      handler,
      { ...facts, fence: 1 },
      {
        clock,
        report,
        timeoutMs,
        signal,
        followed: (command, id, inherited) => void followUps.push(followUpOf(command, id, inherited)),
        published: (event, id, inherited) => void events.push(eventOf(event, id, inherited)),
      },
    );
    return { result, ...(result.kind === "succeeded" ? { followUps, events } : { followUps: [], events: [] }), reason };
  }

  async function executeOnce(command: Command, options?: ExecuteOptions): Promise<Executed> {
    requireKeys("Cannot execute", options, executeKeys);
    const { attempt: number = 1, signal } = options ?? {};
    requireInteger("Cannot execute", "attempt", number, 1, 32_767);
    if (signal !== undefined) requireSignal("Cannot execute", signal);
    if (!isCommand(command)) {
      const got = isKind(command, "contract") ? "a contract: call it with an input" : shown(command);
      throw new TypeError(`Cannot execute: a command is wanted, got ${got}`);
    }
    const { contract } = command;
    const handler = registry.find(contract.name, contract.version);
    if (!handler) {
      throw new TypeError(
        `Cannot execute command "${contract.name}" version ${contract.version}: no handler is registered here, pass one to createOrchestrator`,
      );
    }
    const { id, queue, json } = await encodeCommand(command);
    const row = JSON.parse(json) as { input?: unknown; null_input?: true; metadata?: unknown; timeout_ms?: number };
    const raw = row.null_input ? null : row.input;
    const metadata = row.metadata === undefined ? null : JSON.stringify(row.metadata);
    const timeoutMs = row.timeout_ms ?? 60_000;
    const { name, version } = contract;
    const input = raw === undefined ? null : JSON.stringify(raw);
    const facts = { id, name, version, hook: null, attempt: number, parentId: null, input, metadata, queue };
    const { result, followUps, events, reason } = await attempt(handler, facts, timeoutMs, signal);
    const outcome = await outcomeOf(handler, result, reason);
    const kind = hookAfter(outcome);
    const hook = kind === "failure" ? handler.onFailure : kind && handler.onCancellation;
    if (!kind || !hook) return { outcome, followUps, events, hook: undefined };

    const error = "error" in outcome ? outcome.error : undefined;
    const ended = await attempt(
      handler,
      {
        ...facts,
        id: uuidv7(),
        hook: kind,
        attempt: 1,
        parentId: id,
        input: JSON.stringify({ input: raw, status: outcome.status, error: error ?? null }),
        metadata: JSON.stringify({ ...metadataOf(facts), causationId: id }),
      },
      timeoutMs,
      undefined,
    );
    const hookOutcome = await outcomeOf(handler, ended.result, ended.reason, true);
    return { outcome, followUps: ended.followUps, events: ended.events, hook: { kind, outcome: hookOutcome } };
  }

  return {
    execute: executeOnce as ExecuteOnce["execute"],
    handlerOf(name, version) {
      const newest = registry.handlers
        .filter(({ contract }) => contract.name === name)
        .toSorted((a, b) => b.contract.version - a.contract.version)[0];
      const found = version === undefined ? newest : registry.find(name, version);
      return found && (given.get(found) ?? found);
    },
  };
}

/** A follow-up with what it inherits written to it, and the id that the handler was promised. */
function followUpOf(command: Command, id: string | undefined, inherited: Metadata): FollowUp {
  const metadata = { ...inherited, ...command.options.metadata };
  const options = Object.freeze({ ...command.options, ...(id === undefined ? {} : { id }), metadata });
  return Object.freeze({ ...command, name: command.contract.name, options });
}

/** An event with what it inherits written to it, and the id that the handler was promised. */
function eventOf(event: NewEvent, id: string | undefined, inherited: Metadata): NewEvent {
  const metadata = { ...inherited, ...event.options.metadata };
  return Object.freeze({
    ...event,
    options: Object.freeze({ ...event.options, ...(id === undefined ? {} : { id }), metadata }),
  });
}

async function outcomeOf(
  handler: Handler,
  result: ExecutionResult,
  reason: AttemptAbortedError | undefined,
  isHook = false,
): Promise<ExecuteOutcome> {
  switch (result.kind) {
    case "succeeded":
      // Of a hook nothing is recorded, whatever its contract says of outputs.
      return { status: "succeeded", output: isHook ? undefined : await parseOutput(handler.contract, result.output) };
    case "snoozed":
      return { status: "snoozed", until: result.end.until, delayMs: result.end.delayMs };
    case "cancelled": {
      const { reason: why } = result.end;
      return {
        status: "cancelled",
        error: errorRecord(why ?? "Cancelled by its handler", "cancelled"),
        thrown: undefined,
      };
    }
    default: {
      const { error: thrown } = result;
      if (reason?.code === "ORCHESTRATUM_CANCELLED") {
        return { status: "cancelled", error: thrown === reason ? undefined : errorRecord(thrown), thrown };
      }
      if (reason && thrown === reason) {
        const { name, message } = reason;
        return { status: "timed_out", error: { code: "timed_out", name, message }, thrown };
      }
      return { status: "failed", error: errorRecord(thrown), thrown };
    }
  }
}

function hookAfter({ status }: ExecuteOutcome): "failure" | "cancellation" | undefined {
  if (status === "cancelled") return "cancellation";
  return status === "failed" || status === "timed_out" ? "failure" : undefined;
}

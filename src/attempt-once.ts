/** One attempt of a handler without a lease: for whoever runs it at once, and for calls that come signed from a worker. */
import type { Clock } from "./clock.ts";
import { type Execution, type ExecutionResult, execute } from "./execute.ts";
import type { Handler, Logger } from "./handler.ts";
import { toJson } from "./json.ts";
import { AttemptAbortedError, observed } from "./lease.ts";
import { maxProgressBytes } from "./limits.ts";
import type { Observer } from "./observation.ts";
import { formatIssues } from "./validate.ts";

/** What is attempted. */
export type AttemptFacts = Pick<
  Execution,
  "id" | "name" | "version" | "hook" | "fence" | "attempt" | "parentId" | "input" | "metadata" | "queue"
>;

export interface AttemptOnceOptions {
  readonly clock: Clock;
  readonly report: Observer;
  readonly timeoutMs: number;
  /** By how much it is ended later than that, so that somebody else may do it first. @default 0 */
  readonly lateMs?: number;
  /** Ends it from outside, for this reason. */
  readonly signal?: AbortSignal | undefined;
  readonly reason?: () => AttemptAbortedError;
  /** Is told of each follow-up, until it is over. */
  readonly followed?: NonNullable<Execution["followed"]>;
  /** The same of each event that it publishes. */
  readonly published?: NonNullable<Execution["published"]>;
}

/** Runs a handler once. The attempt is over at its timeout, whatever the handler does. Never throws. */
export async function attemptOnce(
  handler: Handler,
  facts: AttemptFacts,
  options: AttemptOnceOptions,
): Promise<{ result: ExecutionResult; reason: AttemptAbortedError | undefined }> {
  const { clock, report, timeoutMs, lateMs = 0, signal } = options;
  const controller = new AbortController();
  const log =
    (level: keyof Logger): Logger[keyof Logger] =>
    (message, fields) =>
      report({ type: "log", level, message, ...(fields ? { fields } : {}), ...observed(execution) });
  let over = false;
  let reason: AttemptAbortedError | undefined;
  const abort = (error: AttemptAbortedError): AttemptAbortedError => {
    reason ??= error;
    controller.abort(reason);
    return reason;
  };
  const end = (): void => {
    abort(options.reason?.() ?? new AttemptAbortedError("ORCHESTRATUM_CANCELLED", "Its cancellation was requested"));
  };
  if (signal?.aborted) end();
  signal?.addEventListener("abort", end, { once: true });
  let timeOut: (result: ExecutionResult) => void = () => {};
  const timedOut = new Promise<ExecutionResult>((resolve) => {
    timeOut = resolve;
  });
  const timer = clock.after(timeoutMs + lateMs, () => {
    const message = `The attempt took longer than its timeout of ${timeoutMs} ms`;
    const error = abort(new AttemptAbortedError("ORCHESTRATUM_TIMED_OUT", message));
    timeOut({ kind: "failed", error, permanent: false });
  });
  const execution: Execution = {
    ...facts,
    worker: undefined,
    deadline: new Date(Date.now() + timeoutMs),
    signal: controller.signal,
    begin: () => reason === undefined,
    progress: (value) => {
      const text = toJson(value, maxProgressBytes);
      if (!text.issues) return;
      throw new TypeError(`Cannot note the progress of command "${facts.name}": ${formatIssues(text.issues)}`);
    },
    logger: { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") },
    followed: (followUp, id, inherited) => {
      if (!over) options.followed?.(followUp, id, inherited);
    },
    published: (event, id, inherited) => {
      if (!over) options.published?.(event, id, inherited);
    },
  };
  try {
    const result = await Promise.race([execute(handler, execution), timedOut]);
    return { result, reason };
  } finally {
    over = true;
    timer.cancel();
    signal?.removeEventListener("abort", end);
  }
}

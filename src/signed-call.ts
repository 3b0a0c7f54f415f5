/**
 * What the two sides of a signed call share: the body of the call, and the outcome that is its answer. Both are JSON that
 * other languages can read and write; docs/serverless.md has them field by field.
 */
import { type Command, type CommandOptions, isKind, type Metadata } from "./command.ts";
import { defineCommand } from "./define-command.ts";
import { defineEvent, type NewEvent } from "./define-event.ts";
import type { EncodedCommand } from "./encode-command.ts";
import type { EncodedEvent } from "./encode-event.ts";
import { type ErrorRecord, permanent, retryAfterMs } from "./failure.ts";
import type { Json } from "./json.ts";
import { maxDelayMs, maxFollowUps, maxOutputBytes, shown } from "./limits.ts";
import type { Bytes } from "./signature.ts";
import { isUuid } from "./uuid.ts";

/** The body of a call. */
export interface Call {
  /** Where it was sent to: whoever got it elsewhere refuses it. */
  readonly url: string;
  readonly id: string;
  readonly fence: number;
  readonly name: string;
  readonly version: number;
  readonly attempt: number;
  readonly queue: string;
  /** For a hook that is a command of its own: which, and of which command. Its input then is `{ input, status, error }`. */
  readonly hook?: "failure" | "cancellation";
  readonly parentId?: string;
  /** How long the caller waits, in ms from its sending, and until when, by the caller's clock. */
  readonly timeoutMs: number;
  readonly deadline: string;
  readonly metadata: { readonly [key: string]: Json | undefined };
  /** As it was pushed; missing where there was none. */
  readonly input?: unknown;
}

/** The answer to a call. */
export type CallOutcome =
  | {
      readonly status: "succeeded";
      readonly output?: unknown;
      readonly followUps?: readonly CalledFollowUp[];
      readonly events?: readonly CalledEvent[];
    }
  | {
      readonly status: "failed";
      readonly error: Partial<ErrorRecord>;
      /** Whether another attempt may help. @default true */
      readonly retry?: boolean;
      readonly retryAfterMs?: number;
    }
  | { readonly status: "snoozed"; readonly delayMs?: number; readonly until?: string }
  | { readonly status: "cancelled"; readonly reason?: string };

/** A command that follows. What is left out is as for a contract that says nothing: queue "default", priority 5, … */
export interface CalledFollowUp {
  readonly name: string;
  readonly version?: number;
  readonly input?: unknown;
  /** Promised where the handler ran. */
  readonly id?: string;
  readonly queue?: string;
  readonly priority?: number;
  readonly runAt?: string;
  readonly delayMs?: number;
  readonly timeoutMs?: number;
  readonly retries?: number;
  readonly metadata?: unknown;
}

/** An event that is published with the outcome. */
export interface CalledEvent {
  readonly topic: string;
  readonly data?: unknown;
  /** Promised where the handler ran. */
  readonly id?: string;
  readonly metadata?: unknown;
}

/** An output or an input of 256 KiB, and 64 KiB for what stands around it. */
export const maxCallBytes: number = maxOutputBytes + 64 * 1024;

/** An attempt that failed at an endpoint, or on the way there. */
export class EndpointError extends Error {
  override readonly name: string = "EndpointError";
  /**
   * The code of the endpoint's own error, or what became of the call: `endpoint_unreachable`, `endpoint_unavailable`,
   * `endpoint_redirects`, `endpoint_refuses`, `endpoint_answer`.
   */
  readonly code: string;
  /** The HTTP status, where there was one. */
  readonly status: number | undefined;

  constructor(
    code: string,
    message: string,
    options: { status?: number; isPermanent?: boolean; retryAfterMs?: number | undefined; cause?: unknown } = {},
  ) {
    super(message, "cause" in options ? { cause: options.cause } : {});
    this.code = code;
    this.status = options.status;
    // Not declared above: their keys stand in another module, which a declaration without inference cannot name.
    Object.assign(this, { [permanent]: options.isPermanent ?? false, [retryAfterMs]: options.retryAfterMs });
  }
}

/** What the endpoint's handler threw, as if it had been thrown here. */
export function failureOf(outcome: CallOutcome & { status: "failed" }): EndpointError {
  const { error, retry = true } = outcome;
  const options = { status: 200, isPermanent: !retry, retryAfterMs: outcome.retryAfterMs };
  const failure = new EndpointError(error.code ?? "error", error.message ?? "It failed at its endpoint", options);
  for (const key of ["name", "stack"] as const) {
    if (error[key] !== undefined) Object.defineProperty(failure, key, { value: error[key] });
  }
  return failure;
}

/** A follow-up as it travels. */
export function wireFollowUp({ json }: EncodedCommand): CalledFollowUp {
  const row = JSON.parse(json) as Record<string, any>;
  return {
    id: row.id,
    name: row.name,
    version: row.version ?? 1,
    queue: row.queue ?? "default",
    priority: row.priority ?? 5,
    ...(row.due_at === undefined ? {} : { runAt: row.due_at }),
    ...(row.delay_ms === undefined ? {} : { delayMs: row.delay_ms }),
    timeoutMs: row.timeout_ms ?? 60_000,
    retries: (row.max_attempts ?? 4) - 1,
    ...(row.metadata === undefined ? {} : { metadata: row.metadata }),
    ...(row.null_input ? { input: null } : row.input === undefined ? {} : { input: row.input }),
  };
}

/** An event as it travels. */
export function wireEvent({ json }: EncodedEvent): CalledEvent {
  const { id, topic, data, null_data, metadata } = JSON.parse(json) as Record<string, any>;
  return {
    id,
    topic,
    ...(metadata === undefined ? {} : { metadata }),
    ...(null_data ? { data: null } : data === undefined ? {} : { data }),
  };
}

/** Refuses an id that is none of those that this library makes: one that stands elsewhere would be taken for a repeat. */
function requireNewId(attempt: string, id: unknown): void {
  if (id === undefined || (isUuid(id) && (id as string)[14] === "7")) return;
  throw new TypeError(`${attempt}: id must be a UUID of version 7, got ${shown(id)}`);
}

/** The other way round: an event whose contract nobody here need know. */
export function eventOf({ topic, data, id, metadata }: CalledEvent): { event: NewEvent; id: string | undefined } {
  requireNewId(`Cannot publish event ${shown(topic)}`, id);
  const event = defineEvent({ topic })(data as Json | undefined, { metadata: metadata as Metadata | undefined });
  return { event, id };
}

/** The same of a command. The id is checked, and kept beside it. */
export function commandOf(followUp: CalledFollowUp): { command: Command; id: string | undefined } {
  const { name, version, input, id, runAt, ...others } = followUp;
  requireNewId(`Cannot push command ${shown(name)}`, id);
  const { queue, priority, delayMs, timeoutMs, retries, metadata } = others;
  const options = { queue, priority, delayMs, timeoutMs, retries, metadata, ...(runAt && { runAt: new Date(runAt) }) };
  const contract = defineCommand({ name, version });
  return { command: contract(input as Json | undefined, options as CommandOptions), id };
}

/** Reads what the endpoint answered. `undefined` for what is no outcome. */
export function readOutcome(value: unknown): CallOutcome | undefined {
  if (!isRecord(value)) return undefined;
  switch (value.status) {
    case "succeeded": {
      const { followUps = [], events = [] } = value;
      for (const list of [followUps, events]) {
        if (!Array.isArray(list) || list.length > maxFollowUps || !list.every(isRecord)) return undefined;
      }
      return value as unknown as CallOutcome;
    }
    case "failed": {
      const { error = {}, retry, retryAfterMs: ms } = value;
      if (!isRecord(error) || !["undefined", "boolean"].includes(typeof retry)) return undefined;
      if (ms !== undefined && !(typeof ms === "number" && ms >= 0 && ms <= maxDelayMs)) return undefined;
      if (["code", "message", "name", "stack"].some((key) => !["undefined", "string"].includes(typeof error[key]))) {
        return undefined;
      }
      return { ...value, error } as unknown as CallOutcome;
    }
    case "snoozed":
      return (value.delayMs === undefined) !== (value.until === undefined)
        ? (value as unknown as CallOutcome)
        : undefined;
    case "cancelled":
      return ["undefined", "string"].includes(typeof value.reason) ? (value as unknown as CallOutcome) : undefined;
    default:
      return undefined;
  }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !isKind(value, "contract");
}

/** The bytes of a body, up to `maxBytes`; undefined for more. What is left of it is not read. */
export async function readBytes(message: Request | Response, maxBytes: number): Promise<Bytes | undefined> {
  if (message.body === null) return new Uint8Array();
  const reader = message.body.getReader();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.byteLength;
    if (size > maxBytes) {
      // Not waited for: whoever sends too much may not end either.
      reader.cancel().catch(() => {});
      return undefined;
    }
    chunks.push(value);
  }
  return joined(chunks, size);
}

/** The parts of a body as one, `size` bytes together. */
export function joined(parts: readonly Uint8Array[], size: number): Bytes {
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}

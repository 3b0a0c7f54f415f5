/**
 * The endpoint's side of a signed call: verifies it, runs its handler once, and answers the outcome with what is to
 * follow. It needs no database, so a platform without one can host handlers; whoever called commits the outcome.
 *
 * What is verified: the signature over the raw bytes, a time within 300 s either way, the URL that stands in the body,
 * and that the id is new. An id stands for one lease: a call that comes again under it is answered as the first time.
 */
import { attemptOnce } from "./attempt-once.ts";
import { type CallStore, createMemory, createOnce } from "./call-store.ts";
import { type Clock, systemClock } from "./clock.ts";
import type { ExecutionResult } from "./execute.ts";
import { errorRecord, retryAfterOf } from "./failure.ts";
import { type Handler, handlersOf, withMiddleware } from "./handler.ts";
import { AttemptAbortedError } from "./lease.ts";
import {
  type Keys,
  maxBatchBytes,
  maxTimeoutMs,
  maxVersion,
  requireInteger,
  requireKeys,
  requireName,
  requireObject,
  requireQueue,
  shown,
} from "./limits.ts";
import { type Middleware, requireMiddleware } from "./middleware.ts";
import { createObservers, type Observer } from "./observation.ts";
import { createRegistry } from "./registry.ts";
import { createSigner, readSignature, type SigningKeys, unknownSignature } from "./signature.ts";
import {
  type Call,
  type CallOutcome,
  isRecord,
  maxCallBytes,
  readBytes,
  wireEvent,
  wireFollowUp,
} from "./signed-call.ts";
import { isUuid, uuidv7 } from "./uuid.ts";

export interface ReceivingOptions {
  /** Of those who call, as `callEndpoint` has them; one must have signed. At most eight. */
  readonly keys: SigningKeys;
  /**
   * The URL, or URLs, under which this endpoint is called. To be said where the request does not show it: behind a proxy
   * that changes it, and where nobody in front checks the Host header.
   *
   * @default the request's
   */
  readonly url?: string | readonly string[];
  /** @default 100,000 ids and 64 MB of answers in the memory of this instance */
  readonly store?: CallStore;
  /** Largest call, in bytes, 1,024 to 8,000,000. @default 327_680, an input of 256 KiB and what stands around it */
  readonly maxBodyBytes?: number;
}

export interface ReceiveCallOptions extends ReceivingOptions {
  /** What runs here: a list, or a module's exports. */
  readonly handlers: readonly Handler[] | Readonly<Record<string, unknown>>;
  /** What is laid around every attempt; the first is the outermost. @default none */
  readonly middleware?: readonly Middleware[];
  /** Receives what handlers log, and what went wrong here. */
  readonly observe?: Observer;
  /** For tests: the clock that timeouts are measured by. @default the platform's */
  readonly clock?: Clock;
  /** For tests: the time of day, in ms since 1970. @default the platform's */
  readonly now?: () => number;
}

const receiveKeys: Keys<ReceiveCallOptions> = {
  keys: true,
  url: true,
  store: true,
  maxBodyBytes: true,
  handlers: true,
  middleware: true,
  observe: true,
  clock: true,
  now: true,
};

/** Takes a request, gives a response: what web standards and Hono, Deno, Bun and edge platforms have. Never rejects. */
export type CallReceiver = (request: Request) => Promise<Response>;

const attempt = "Cannot receive calls";
/** How long the body of a call may take to arrive. */
const bodyMs = 10_000;
/** Whoever calls times out by itself, and hangs up: this is for where nobody notices that. */
const timeoutLateMs = 1_000;

/** A call that is refused: a status, and what it says. */
class Refusal extends Error {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  constructor(status: number, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.status = status;
    this.headers = headers;
  }
}

/**
 * Makes an endpoint of handlers.
 *
 * @throws TypeError or RangeError for options out of their limits.
 * @example
 * const receive = receiveCall({ handlers: [resizeImage.handle(resize)], keys: [key] });
 * export default { fetch: (request: Request) => receive(request) };
 */
export function receiveCall(options: ReceiveCallOptions): CallReceiver {
  requireObject(attempt, "options", options);
  requireKeys(attempt, options, receiveKeys);
  requireMiddleware(attempt, options.middleware, ["push", "publish", "execute"]);
  const middleware = [...(options.middleware ?? [])];
  const isWrapped = middleware.some(({ execute }) => execute !== undefined);
  const handlers = handlersOf(options.handlers);
  const registry = createRegistry(isWrapped ? handlers.map((one) => withMiddleware(one, middleware)) : handlers);
  const { add, report } = createObservers();
  if (options.observe) add(options.observe);
  const { keys, clock = systemClock, now = Date.now, maxBodyBytes = maxCallBytes } = options;
  const { store = createMemory(now) } = options;
  const signer = createSigner(attempt, keys);
  const urls = options.url === undefined ? undefined : [options.url].flat().map(normalised);
  requireInteger(attempt, "maxBodyBytes", maxBodyBytes, 1_024, maxBatchBytes);
  const once = createOnce(store, () => {
    const text = "The call is under way elsewhere, or its answer is gone";
    return new Refusal(409, text, { "retry-after": "1" });
  });

  async function receive(request: Request): Promise<Response> {
    if (request.method !== "POST") throw new Refusal(405, "A call is a POST", { allow: "POST" });
    if (!/^application\/json\s*(;|$)/i.test(request.headers.get("content-type") ?? "")) {
      throw new Refusal(415, "A call is application/json");
    }
    const signature = readSignature(request.headers, now());
    if (typeof signature === "string") throw new Refusal(401, signature);
    const body = await bodyOf(request);
    const { id, timestamp, signatures } = signature;
    if (!(await signer.verify(id, timestamp, body, signatures))) throw new Refusal(401, unknownSignature);
    const call = callOf(body);
    if (id !== `${call.id}.${call.fence}`) throw new Refusal(400, "The call's webhook-id is not that of its body");
    const own = urls ?? [normalised(request.url)];
    if (!own.includes(normalised(call.url))) throw new Refusal(421, "The call was made to another URL");
    const handler = registry.find(call.name, call.version);
    if (!handler) throw new Refusal(404, "There is no handler here for the call's command and version");
    return json(await once(id, () => run(call, handler, request.signal)));
  }

  async function bodyOf(request: Request): Promise<Uint8Array<ArrayBuffer>> {
    const tooLarge = () => new Refusal(413, `A call has at most ${maxBodyBytes} bytes`);
    if (Number(request.headers.get("content-length") ?? 0) > maxBodyBytes) throw tooLarge();
    let tooSlow: (refusal: Refusal) => void = () => {};
    const late = new Promise<never>((_, reject) => {
      tooSlow = reject;
    });
    const timer = clock.after(bodyMs, () => tooSlow(new Refusal(408, `A call arrives within ${bodyMs} ms`)));
    try {
      const bytes = await Promise.race([readBytes(request, maxBodyBytes), late]);
      if (!bytes) throw tooLarge();
      return bytes;
    } catch (error) {
      throw error instanceof Refusal ? error : new Refusal(400, "The call broke off");
    } finally {
      timer.cancel();
    }
  }

  async function run(call: Call, handler: Handler, signal: AbortSignal): Promise<string> {
    const { id, name, version, fence, queue } = call;
    const { result, reason } = await attemptOnce(
      handler,
      {
        id,
        name,
        version,
        fence,
        queue,
        hook: call.hook ?? null,
        attempt: call.attempt,
        parentId: call.parentId ?? null,
        input: call.input === undefined ? null : JSON.stringify(call.input),
        metadata: JSON.stringify(call.metadata),
      },
      {
        clock,
        report,
        timeoutMs: call.timeoutMs,
        lateMs: timeoutLateMs,
        signal,
        reason: () => new AttemptAbortedError("ORCHESTRATUM_LEASE_LOST", "Whoever called does not wait any longer"),
      },
    );
    return outcomeOf(result, reason);
  }

  return async (request) => {
    try {
      return await receive(request);
    } catch (error) {
      if (error instanceof Refusal) return problem(error.status, error.message, error.headers);
      const instance = uuidv7();
      report({ type: "internal_error", operation: `receiveCall ${instance}`, error });
      return problem(500, "Something went wrong here", {}, instance);
    }
  };
}

function outcomeOf(result: ExecutionResult, reason: AttemptAbortedError | undefined): string {
  switch (result.kind) {
    case "succeeded": {
      const output = result.output === undefined ? "" : `,"output":${result.output}`;
      const followUps = JSON.stringify(result.followUps.map(wireFollowUp));
      return `{"status":"succeeded"${output},"followUps":${followUps},"events":${JSON.stringify(result.events.map(wireEvent))}}`;
    }
    case "snoozed": {
      const { until, delayMs } = result.end;
      return toText(
        until ? { status: "snoozed", until: until.toISOString() } : { status: "snoozed", delayMs: delayMs ?? 0 },
      );
    }
    case "cancelled":
      return toText({ status: "cancelled", ...(result.end.reason === undefined ? {} : { reason: result.end.reason }) });
    default: {
      const { error, permanent } = result;
      const isTimeout = reason?.code === "ORCHESTRATUM_TIMED_OUT" && error === reason;
      const ms = retryAfterOf(error);
      return toText({
        status: "failed",
        error: errorRecord(error, isTimeout ? "timed_out" : undefined),
        retry: !permanent,
        ...(ms > 0 ? { retryAfterMs: ms } : {}),
      });
    }
  }
}

const toText = (outcome: CallOutcome): string => JSON.stringify(outcome);

/** What a call says, each field within its limits. */
function callOf(body: Uint8Array): Call {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch {
    throw new Refusal(400, "The call is not JSON");
  }
  if (!isRecord(value)) throw new Refusal(400, "The call is no object");
  const call = { queue: "default", metadata: {}, ...value } as Record<keyof Call, unknown>;
  try {
    const what = "Cannot take call";
    if (typeof call.url !== "string" || !URL.canParse(call.url)) throw new TypeError(`${what}: url must be a URL`);
    requireName(what, call.name);
    requireQueue(what, call.queue);
    requireInteger(what, "version", call.version, 1, maxVersion);
    requireInteger(what, "fence", call.fence, 1, 2 ** 31 - 1);
    requireInteger(what, "attempt", call.attempt, 1, maxVersion);
    requireInteger(what, "timeoutMs", call.timeoutMs, 1, maxTimeoutMs);
    if (!isUuid(call.id)) throw new TypeError(`${what}: id must be a UUID`);
    if (call.parentId !== undefined && !isUuid(call.parentId)) throw new TypeError(`${what}: parentId must be a UUID`);
    if (!isRecord(call.metadata)) throw new TypeError(`${what}: metadata must be an object`);
    if (!["failure", "cancellation", undefined].includes(call.hook as undefined)) {
      throw new TypeError(`${what}: hook must be "failure" or "cancellation"`);
    }
    if (call.hook !== undefined && !isRecord(call.input))
      throw new TypeError(`${what}: input of a hook must be an object`);
  } catch (error) {
    throw new Refusal(400, (error as Error).message);
  }
  return call as unknown as Call;
}

function normalised(url: unknown): string {
  try {
    const parsed = new URL(String(url));
    parsed.hash = "";
    return parsed.href;
  } catch {
    throw new TypeError(`${attempt}: url must be an absolute URL, got ${shown(url)}`);
  }
}

const common = { "cache-control": "no-store", "x-content-type-options": "nosniff" };

function json(text: string): Response {
  return new Response(text, { status: 200, headers: { "content-type": "application/json", ...common } });
}

/** A problem document (RFC 9457). It never shows what was sent. */
function problem(
  status: number,
  title: string,
  headers: Readonly<Record<string, string>>,
  instance?: string,
): Response {
  const text = JSON.stringify({
    type: "about:blank",
    title,
    status,
    ...(instance === undefined ? {} : { instance: `urn:uuid:${instance}` }),
  });
  return new Response(text, { status, headers: { "content-type": "application/problem+json", ...common, ...headers } });
}

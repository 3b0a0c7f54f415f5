/**
 * A handler that is an HTTP endpoint: each attempt is a signed POST, and its answer is what the attempt comes to. The
 * endpoint needs no database: what is to follow comes with its answer, and commits here with the outcome.
 */
import { type Execution, executionOf, metadataOf, pushAs } from "./execute.ts";
import { cancel, type HookContext, snooze } from "./handler.ts";
import { type Keys, maxBatchBytes, requireInteger, requireKeys, requireObject, shown } from "./limits.ts";
import { type Bytes, createSigner, type SigningKeys } from "./signature.ts";
import { commandOf, EndpointError, eventOf, failureOf, maxCallBytes, readBytes, readOutcome } from "./signed-call.ts";

/** How a call leaves the process: `guardedFetch()` of orchestratum/guarded-fetch, or the `fetch` of an edge platform. */
export type Fetch = (
  url: string,
  init: {
    readonly method: "POST";
    readonly headers: Record<string, string>;
    readonly body: Uint8Array<ArrayBuffer>;
    readonly redirect: "manual";
    readonly signal: AbortSignal;
  },
) => Promise<Response>;

export interface CallEndpointOptions {
  /** Where the endpoint is: https, without a user or password. It stands in the body, and the endpoint compares it. */
  readonly url: string | URL;
  /**
   * `whsec_` and 24 to 64 bytes in base64. While keys rotate several, at most eight: a call then has a signature by each,
   * of which the endpoint must know one.
   */
  readonly keys: SigningKeys;
  /**
   * How the call is sent. On Node, Deno and Bun `guardedFetch()`, which refuses private addresses, also where a name
   * resolves to one; on an edge platform its own `fetch`, which cannot reach any.
   */
  readonly fetch: Fetch;
  /** Whether the URL may be http: for private networks and tests. What is sent can be read on the way. @default false */
  readonly allowHttp?: boolean;
  /** Largest answer, in bytes, 1,024 to 8,000,000. @default 327_680, an output of 256 KiB and what stands around it */
  readonly maxAnswerBytes?: number;
}

const endpointKeys: Keys<CallEndpointOptions> = {
  url: true,
  keys: true,
  fetch: true,
  allowHttp: true,
  maxAnswerBytes: true,
};

/**
 * A handler, and a hook. What it answers is what the endpoint answered: an output, an end of another kind, or the
 * commands that follow.
 */
export type EndpointCall = (context: HookContext) => Promise<any>;

/** A wait that an endpoint asks for is no longer than this. */
const maxRetryAfterMs = 24 * 60 * 60 * 1000;
/** Of 4xx those that may pass without another command: keys, routes and loads are put right. */
const passing: readonly number[] = [401, 403, 404, 407, 408, 409, 421, 423, 425, 429];

/**
 * Makes a handler that calls an endpoint, signed by Standard Webhooks. The same function serves as `onFailure` and
 * `onCancellation` where those hooks are the endpoint's, too; its `onSuccess` is part of the attempt there.
 *
 * @throws TypeError or RangeError for options out of their limits. An attempt fails with `EndpointError`.
 * @example
 * const images = callEndpoint({ url: "https://images.example.com/execute", keys: [key], fetch: guardedFetch() });
 * const handlers = [resizeImage.handle(images, { onFailure: images })];
 */
export function callEndpoint(options: CallEndpointOptions): EndpointCall {
  const attempt = "Cannot call endpoint";
  requireObject(attempt, "options", options);
  requireKeys(attempt, options, endpointKeys);
  const { keys, fetch: send, allowHttp = false, maxAnswerBytes = maxCallBytes } = options;
  const url = urlOf(attempt, options.url, allowHttp);
  const signer = createSigner(attempt, keys);
  if (typeof send !== "function") {
    throw new TypeError(
      `${attempt}: fetch must be a function, got ${shown(send)}: pass guardedFetch(), or an edge platform's own fetch`,
    );
  }
  requireInteger(attempt, "maxAnswerBytes", maxAnswerBytes, 1_024, maxBatchBytes);

  async function post(execution: Execution): Promise<Response> {
    const body = new TextEncoder().encode(bodyOf(url, execution));
    const { signal, id, fence } = execution;
    signal.throwIfAborted();
    const signed = await signer.sign(`${id}.${fence}`, Math.floor(Date.now() / 1000), body);
    const headers = { "content-type": "application/json", accept: "application/json", ...signed };
    try {
      return await send(url, { method: "POST", headers, body, redirect: "manual", signal });
    } catch (cause) {
      signal.throwIfAborted();
      throw new EndpointError("endpoint_unreachable", `${attempt}: ${messageOf(cause)}`, { cause });
    }
  }

  return async (context) => {
    const execution = executionOf(context);
    if (!execution)
      throw new TypeError(`${attempt}: it is to be called with the context of a handler or a hook, as it is`);
    const response = await post(execution);
    if (response.status !== 200) throw refusalOf(attempt, response);
    let bytes: Bytes | undefined;
    try {
      bytes = await readBytes(response, maxAnswerBytes);
    } catch (cause) {
      execution.signal.throwIfAborted();
      throw new EndpointError("endpoint_unreachable", `${attempt}: ${messageOf(cause)}`, { cause });
    }
    if (!bytes) throw answerError(`${attempt}: its answer has more than ${maxAnswerBytes} bytes`);
    const outcome = readOutcome(parsed(bytes));
    if (!outcome) throw answerError(`${attempt}: its answer is no outcome of a command`);
    switch (outcome.status) {
      case "succeeded": {
        const followUps = (outcome.followUps ?? []).map(commandOf);
        const events = (outcome.events ?? []).map(eventOf);
        if (execution.hook) return [...followUps.map(({ command }) => command), ...events.map(({ event }) => event)];
        for (const { command, id } of followUps) pushAs(context, command, id);
        for (const { event, id } of events) pushAs(context, event, id);
        return outcome.output;
      }
      case "failed":
        throw failureOf(outcome);
      case "snoozed":
        return snooze(outcome.until === undefined ? { delayMs: outcome.delayMs as number } : new Date(outcome.until));
      case "cancelled":
        return cancel(outcome.reason);
    }
  };
}

function answerError(message: string): EndpointError {
  return new EndpointError("endpoint_answer", message, { status: 200 });
}

function urlOf(attempt: string, given: unknown, allowHttp: boolean): string {
  let url: URL;
  try {
    url = new URL(String(given));
  } catch {
    throw new TypeError(`${attempt}: url must be an absolute URL, got ${shown(given)}`);
  }
  if (url.protocol !== "https:" && !(allowHttp && url.protocol === "http:")) {
    throw new TypeError(`${attempt}: url must be https, got "${url.protocol}": in a private network set allowHttp`);
  }
  if (url.username !== "" || url.password !== "") {
    throw new TypeError(`${attempt}: url must be free of a user and password: calls are signed instead`);
  }
  url.hash = "";
  return url.href;
}

/** Pieced together from texts: input and metadata go as they were pushed. */
function bodyOf(url: string, execution: Execution): string {
  const { id, fence, name, version, attempt, queue, hook, parentId, deadline, input } = execution;
  const head = {
    url,
    id,
    fence,
    name,
    version,
    attempt,
    queue,
    ...(hook ? { hook } : {}),
    ...(parentId ? { parentId } : {}),
    timeoutMs: Math.max(Math.round(deadline.getTime() - Date.now()), 1),
    deadline: deadline.toISOString(),
    metadata: metadataOf(execution),
  };
  return `${JSON.stringify(head).slice(0, -1)}${input === null ? "" : `,"input":${input}`}}`;
}

function refusalOf(attempt: string, response: Response): EndpointError {
  const { status, type } = response;
  // Nobody reads it: without this its connection stays.
  response.body?.cancel().catch(() => {});
  if (type === "opaqueredirect" || (status >= 300 && status < 400)) {
    return new EndpointError(
      "endpoint_redirects",
      `${attempt}: it redirects, which is not followed: name its final URL`,
      {
        status,
      },
    );
  }
  if (status >= 400 && status < 500 && !passing.includes(status)) {
    const message = `${attempt}: it refuses the call with status ${status}`;
    return new EndpointError("endpoint_refuses", message, { status, isPermanent: true });
  }
  if (status < 400)
    return new EndpointError("endpoint_answer", `${attempt}: it answers ${status} without an outcome`, { status });
  const ms = retryAfterMsOf(response.headers.get("retry-after"));
  return new EndpointError("endpoint_unavailable", `${attempt}: it answers with status ${status}`, {
    status,
    retryAfterMs: ms,
  });
}

/** Of seconds, or a date. */
function retryAfterMsOf(text: string | null): number | undefined {
  if (text === null) return undefined;
  const ms = /^\d{1,9}$/.test(text.trim()) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return ms > 0 ? Math.min(ms, maxRetryAfterMs) : undefined;
}

function parsed(bytes: Bytes): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}

/** `fetch failed` says nothing: what its cause says does. */
function messageOf(error: unknown): string {
  const { message, cause } = (error ?? {}) as { message?: unknown; cause?: { message?: unknown } };
  return [message, cause?.message].filter((text) => typeof text === "string" && text !== "").join(": ") || "it failed";
}

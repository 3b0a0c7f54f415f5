/** Requests of the client: an address, a token, and another try where the network or the server had trouble. */
import { requireInteger } from "../../src/limits.ts";

/** What went wrong, by the problem document (RFC 9457) that the server answered. */
export class HttpProblemError extends Error {
  override readonly name = "HttpProblemError";
  readonly code = "ORCHESTRATUM_HTTP_PROBLEM";
  readonly status: number;
  /** `urn:orchestratum:problem:…`, or `about:blank` where the answer was no problem document. */
  readonly type: string;
  readonly detail: string | undefined;
  /** What is wrong with what was sent, by its place. */
  readonly issues: readonly { readonly path: string; readonly message: string }[];
  /** The whole document. */
  readonly document: Readonly<Record<string, unknown>>;

  constructor(attempt: string, status: number, document: Readonly<Record<string, unknown>>) {
    const { title, detail, issues } = document as {
      title?: string;
      detail?: string;
      issues?: HttpProblemError["issues"];
    };
    const told = (issues ?? []).slice(0, 5).map(({ path, message }) => (path === "" ? message : `${path}: ${message}`));
    super([`${attempt}: ${status} ${title ?? "refused"}`, detail, ...told].filter(Boolean).join("; "));
    this.status = status;
    this.type = typeof document.type === "string" ? document.type : "about:blank";
    this.detail = detail;
    this.issues = issues ?? [];
    this.document = document;
  }
}

/** The server did not answer, or not in time, although it was asked several times. */
export class ServerUnreachableError extends Error {
  override readonly name = "ServerUnreachableError";
  readonly code = "ORCHESTRATUM_SERVER_UNREACHABLE";

  constructor(attempt: string, host: string, cause: unknown) {
    super(`${attempt}: ${host} did not answer: ${told(cause)}`, { cause });
  }
}

/** Whether the same request may be answered another time: a deployment, an overload, a network. */
export const isPassingFailure = (error: unknown): boolean =>
  error instanceof ServerUnreachableError || (error instanceof HttpProblemError && isPassing(error.status));

export interface TransportOptions {
  /** Where the router is mounted: `https://app.example.com/orchestratum`. */
  readonly url: string | URL;
  /** Sent as a bearer token; a function is asked before each request. @default none */
  readonly token?: string | (() => string | Promise<string>) | undefined;
  /** Sent with each request. @default none */
  readonly headers?: Readonly<Record<string, string>>;
  /** @default the platform's */
  readonly fetch?: (input: string, init: RequestInit) => Promise<Response>;
  /** Further tries after network errors, 408, 425, 429 and 5xx, 0 to 20. @default 4 */
  readonly retries?: number;
  /** How long one request may take, in ms, beside what it waits for. 100 to 3,600,000. @default 30_000 */
  readonly timeoutMs?: number;
}

export interface Ask {
  readonly method?: "GET" | "POST" | "DELETE";
  readonly query?: Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Sent as it is, in place of `body`. */
  readonly text?: string;
  readonly signal?: AbortSignal | undefined;
  /**
   * Whether it may be sent again although it may have been done: it reads, has an idempotency key, or comes to the same.
   * What was only put off (425, 429) is sent again in any case.
   *
   * @default whether it is a GET
   */
  readonly repeatable?: boolean;
  /** Hears that it is sent again although it may have been done. */
  readonly onRepeat?: () => void;
  /** Whether a refusal is an answer, which no repetition changes. @default it is by its status */
  readonly isFinal?: (problem: HttpProblemError) => boolean;
  /** How long the server may take beside the network, in ms; Infinity for streams. @default 0 */
  readonly waitMs?: number;
  /** Statuses that are answers, beside 2xx. @default none */
  readonly answers?: readonly number[];
}

export interface Transport {
  /** The answer, whatever its body. @throws HttpProblemError, the network's error, or the reason of the signal. */
  send(attempt: string, path: string, ask?: Ask): Promise<Response>;
  /** The answer's JSON; undefined where it has none. */
  json(attempt: string, path: string, ask?: Ask): Promise<unknown>;
}

const firstDelayMs = 100;
const maxDelayMs = 10_000;
const maxRetryAfterMs = 60_000;

export function createTransport(options: TransportOptions): Transport {
  const { token, headers: always = {}, retries = 4, timeoutMs = 30_000 } = options;
  const base = baseOf(options.url);
  const fetcher = options.fetch ?? ((input: string, init: RequestInit) => fetch(input, init));
  requireInteger("Cannot create client", "retries", retries, 0, 20);
  requireInteger("Cannot create client", "timeoutMs", timeoutMs, 100, 3_600_000);

  async function once(path: string, ask: Ask): Promise<Response> {
    const { method = "GET", query = {}, body, text, signal, waitMs = 0 } = ask;
    const url = new URL(path, base);
    for (const [key, value] of Object.entries(query)) {
      for (const each of Array.isArray(value) ? value : [value])
        if (each !== undefined) url.searchParams.append(key, String(each));
    }
    const headers = new Headers({ Accept: "application/json", ...always, ...ask.headers });
    const given = typeof token === "function" ? await token() : token;
    if (given !== undefined) headers.set("Authorization", `Bearer ${given}`);
    if (method !== "GET" && !headers.has("Content-Type")) headers.set("Content-Type", "application/json");
    const controller = new AbortController();
    const abort = (): void => controller.abort(signal?.reason);
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
    // Of a stream only the beginning has a limit; its end comes when it comes.
    const limit = Number.isFinite(waitMs) ? timeoutMs + waitMs : timeoutMs;
    const timer = setTimeout(
      () => controller.abort(new DOMException(`No answer within ${limit} ms`, "TimeoutError")),
      limit,
    );
    try {
      const init: RequestInit = { method, headers, signal: controller.signal, redirect: "manual" };
      if (method !== "GET") init.body = text ?? JSON.stringify(body ?? {});
      const response = await fetcher(url.href, init);
      if (!Number.isFinite(waitMs)) return response;
      // Read within the limit: a body that stops half-way would be waited for without end.
      const whole = response.body === null ? null : await response.arrayBuffer();
      return new Response(nullBody(response.status) ? null : whole, response);
    } finally {
      clearTimeout(timer);
      if (Number.isFinite(waitMs)) signal?.removeEventListener("abort", abort);
    }
  }

  async function send(attempt: string, path: string, ask: Ask = {}): Promise<Response> {
    const { repeatable = (ask.method ?? "GET") === "GET", answers = [], signal, isFinal } = ask;
    for (let tries = 0; ; tries++) {
      const mayRepeat = repeatable && tries < retries;
      let isUntouched = false;
      let response: Response | undefined;
      try {
        response = await once(path, ask);
      } catch (error) {
        if (signal?.aborted) throw signal.reason;
        if (!mayRepeat) throw new ServerUnreachableError(attempt, new URL(path, base).host, error);
      }
      if (response !== undefined) {
        if (response.ok || answers.includes(response.status)) return response;
        isUntouched = isPutOff(response.status);
        const goesOn = mayRepeat || (isUntouched && tries < retries);
        if (!goesOn || !isPassing(response.status)) throw await problemOf(attempt, response);
        if (isFinal) {
          const problem = await problemOf(attempt, response);
          if (isFinal(problem)) throw problem;
        } else await response.body?.cancel();
      }
      if (!isUntouched) ask.onRepeat?.();
      // With the jitter on top: all who were told the same time would come back at once.
      await pause(retryAfterMs(response) + delayMs(tries), signal);
    }
  }

  return {
    send,
    async json(attempt, path, ask) {
      return await jsonOf(attempt, await send(attempt, path, ask));
    },
  };
}

function baseOf(url: string | URL): string {
  let base: URL;
  try {
    base = new URL(url);
  } catch {
    throw new TypeError(
      `Cannot create client: url must be an absolute http or https address, got ${JSON.stringify(String(url))}`,
    );
  }
  if (base.protocol !== "http:" && base.protocol !== "https:") {
    throw new TypeError(`Cannot create client: url must be an http or https address, got one of ${base.protocol}`);
  }
  base.search = "";
  base.hash = "";
  if (!base.pathname.endsWith("/")) base.pathname += "/";
  return base.href;
}

const nullBody = (status: number): boolean => status === 204 || status === 205 || status === 304;

const isPassing = (status: number): boolean => isPutOff(status) || status === 408 || status >= 500;

/** Whether nothing was done of what was asked (RFC 6585, RFC 8470). */
const isPutOff = (status: number): boolean => status === 425 || status === 429;

/** Full jitter under an exponential bound. */
const delayMs = (tries: number): number => Math.random() * Math.min(firstDelayMs * 2 ** (tries + 1), maxDelayMs);

function retryAfterMs(response: Response | undefined): number {
  const text = response?.headers.get("retry-after");
  if (!text) return 0;
  const seconds = /^\d+$/.test(text) ? Number(text) : (Date.parse(text) - Date.now()) / 1_000;
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds * 1_000, 0), maxRetryAfterMs) : 0;
}

export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const abort = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", abort, { once: true });
  });
}

/** Undefined where there is no body. */
export async function jsonOf(attempt: string, response: Response): Promise<unknown> {
  const text = await response.text();
  try {
    return text === "" ? undefined : JSON.parse(text);
  } catch (error) {
    // A page, for instance, that is shown for whatever address.
    throw new Error(`${attempt}: the answer is not JSON; is a router mounted at this address?`, { cause: error });
  }
}

export async function problemOf(attempt: string, response: Response): Promise<HttpProblemError> {
  let document: Record<string, unknown> = {};
  try {
    const parsed: unknown = await response.json();
    if (typeof parsed === "object" && parsed !== null) document = parsed as Record<string, unknown>;
  } catch {
    // Something between here and the router has answered.
  }
  return new HttpProblemError(attempt, response.status, document);
}

/** What fetch says is "fetch failed"; what happened is beneath it. */
function told(error: unknown): string {
  const { message, cause } = error as { message?: string; cause?: { message?: string; code?: string } };
  return [message ?? String(error), cause?.message || cause?.code].filter(Boolean).join(": ");
}

/**
 * A fetch for signed calls that refuses private addresses: for Node, Deno and Bun, whose own fetch tells nobody which
 * address it connects to. A name is resolved once, every address that it has is checked, and the connection goes to the
 * one that was checked. So a name that changes its address between the two, and one of which only the second address is
 * private, lead nowhere. Redirects are not followed: each would be a request of its own.
 */
import { lookup } from "node:dns/promises";
import { type IncomingMessage, request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { isIP } from "node:net";
import type { Fetch } from "../src/index.ts";
import { isPublicAddress, isWithin, rangeOf } from "./public-address.ts";

export interface GuardedFetchOptions {
  /**
   * Addresses that are not public and may be called all the same: ranges such as `10.1.0.0/16` and `fd12::/16`, or single
   * addresses.
   *
   * @default none
   */
  readonly allow?: readonly string[];
  /** How long resolving the name and connecting may take, in ms, 1 to 600,000. @default 10_000 */
  readonly connectMs?: number;
  /** How a name is resolved. @default the system's resolver */
  readonly resolve?: (hostname: string) => Promise<readonly string[]>;
}

/** The address is not public, and was not allowed. */
export class AddressRefusedError extends Error {
  readonly code = "ORCHESTRATUM_ADDRESS_REFUSED";
  override readonly name = "AddressRefusedError";
  readonly hostname: string;
  readonly address: string;
  constructor(hostname: string, address: string) {
    super(
      `Cannot connect to "${hostname}": ${address} is no public address: to call it all the same, name it in allow`,
    );
    this.hostname = hostname;
    this.address = address;
  }
}

const attempt = "Cannot make guarded fetch";

/**
 * @throws TypeError or RangeError for options out of their limits. A call that would reach a private address rejects
 * with AddressRefusedError, before anything is sent.
 * @example
 * const call = callEndpoint({ url: "https://images.example.com/execute", keys: [key], fetch: guardedFetch() });
 */
export function guardedFetch(options: GuardedFetchOptions = {}): Fetch {
  const { allow = [], connectMs = 10_000, resolve = resolveName } = options;
  if (!Array.isArray(allow)) throw new TypeError(`${attempt}: allow must be a list of addresses and ranges`);
  const allowed = allow.map(rangeOf);
  if (!(typeof connectMs === "number" && connectMs >= 1 && connectMs <= 600_000)) {
    throw new RangeError(`${attempt}: connectMs must be a number of ms from 1 to 600000, got ${connectMs}`);
  }

  async function addressesOf(hostname: string): Promise<readonly string[]> {
    const addresses = isIP(hostname) ? [hostname] : await resolve(hostname);
    if (addresses.length === 0) throw new Error(`Cannot connect to "${hostname}": it has no address`);
    for (const address of addresses) {
      if (!isPublicAddress(address) && !isWithin(allowed, address)) throw new AddressRefusedError(hostname, address);
    }
    return addresses;
  }

  return async (to, init) => {
    const url = new URL(to);
    const hostname = url.hostname.replace(/^\[|\]$/g, "");
    const limit = AbortSignal.timeout(connectMs);
    const addresses = await unless(limit, unless(init.signal, addressesOf(hostname)));
    let failure: unknown;
    for (const address of addresses) {
      try {
        return await send(url, hostname, address, init, limit);
      } catch (error) {
        // One that does not answer at all may have another address; what was sent is never sent again.
        if (init.signal.aborted || limit.aborted || !(error instanceof NotConnectedError)) throw error;
        failure = error.cause;
      }
    }
    throw failure;
  };
}

/** Nothing was sent. */
class NotConnectedError extends Error {}

async function resolveName(hostname: string): Promise<readonly string[]> {
  const found = await lookup(hostname, { all: true });
  return found.map(({ address }) => address);
}

/** A promise, or the signal's reason where that comes first. */
async function unless<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  signal.throwIfAborted();
  let stop = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

function send(
  url: URL,
  hostname: string,
  address: string,
  init: Parameters<Fetch>[1],
  limit: AbortSignal,
): Promise<Response> {
  const { method, headers, body, signal } = init;
  const isSecure = url.protocol === "https:";
  return new Promise((resolve, reject) => {
    let isConnected = false;
    const request = (isSecure ? requestHttps : requestHttp)({
      // The address that was checked: no name is resolved again.
      host: address,
      port: url.port === "" ? (isSecure ? 443 : 80) : Number(url.port),
      path: `${url.pathname}${url.search}`,
      method,
      headers: { ...headers, host: url.host, "content-length": String(body.byteLength), "accept-encoding": "identity" },
      // Of a name the certificate is asked for and checked; of an address that of the address.
      ...(isSecure && !isIP(hostname) ? { servername: hostname } : {}),
      // A connection of its own, which ends with the answer: others may not have been checked.
      agent: false,
      signal,
    });
    const tooLate = (): void => void request.destroy(limit.reason as Error);
    limit.addEventListener("abort", tooLate, { once: true });
    request.on("socket", (socket) => {
      socket.once(isSecure ? "secureConnect" : "connect", () => {
        isConnected = true;
        limit.removeEventListener("abort", tooLate);
      });
    });
    request.on("response", (message: IncomingMessage) => {
      limit.removeEventListener("abort", tooLate);
      resolve(responseOf(message));
    });
    // Nobody asked for another protocol: it is an answer that a call cannot have.
    request.on("upgrade", (_, socket) => {
      limit.removeEventListener("abort", tooLate);
      socket.destroy();
      resolve(Response.error());
    });
    // For whatever ends without a word: without effect where something else came first.
    request.on("close", () => {
      limit.removeEventListener("abort", tooLate);
      reject(signal.aborted ? signal.reason : new Error("The endpoint closed the connection"));
    });
    request.on("error", (error) => {
      limit.removeEventListener("abort", tooLate);
      if (signal.aborted) reject(signal.reason);
      else reject(isConnected || limit.aborted ? error : new NotConnectedError("Not connected", { cause: error }));
    });
    request.end(body);
  });
}

/** What a Response may be made of; any other status (101, 999) is an error of the endpoint's. */
function responseOf(message: IncomingMessage): Response {
  const status = message.statusCode ?? 0;
  const headers = new Headers();
  for (const [name, value] of Object.entries(message.headers)) {
    if (value !== undefined) headers.set(name, [value].flat().join(", "));
  }
  const isEmpty = [204, 205, 304].includes(status);
  if (isEmpty || status < 200 || status > 599) message.destroy();
  if (status < 200 || status > 599) return Response.error();
  let isLeft = false;
  const body = isEmpty
    ? null
    : new ReadableStream<Uint8Array>({
        start(controller) {
          const fail = (error: unknown) => {
            isLeft = true;
            controller.error(error);
          };
          message.on("data", (chunk: Uint8Array) => {
            // Deno tells of what had arrived before it was destroyed.
            if (isLeft) return;
            controller.enqueue(new Uint8Array(chunk));
            if ((controller.desiredSize ?? 1) <= 0) message.pause();
          });
          message.on("end", () => isLeft || controller.close());
          message.on("error", fail);
          message.on("aborted", () => fail(new Error("The endpoint broke off its answer")));
        },
        pull: () => void message.resume(),
        cancel() {
          isLeft = true;
          message.destroy();
        },
      });
  return new Response(body, { status, headers });
}

/**
 * What stands before every route, in this order: the Host, the browser, the credentials, the media type, the size. Each
 * route has it for itself, so that a router mounted at "/" lays nothing around its neighbours.
 */
import type { Context, MiddlewareHandler } from "hono";
import { secureHeaders } from "hono/secure-headers";
import { shown } from "../../src/limits.ts";
import { joined } from "../../src/signed-call.ts";
import type { Authoriser, Principal, Scope } from "./authorise.ts";
import { Problem } from "./problem.ts";

export interface SecurityOptions {
  readonly authorise: Authoriser;
  /** `Host` headers that are served: `["jobs.example.com", "localhost:3000"]`. @default all */
  readonly hosts?: readonly string[] | undefined;
  /** Other origins whose pages may send what changes something: `["https://admin.example.com"]`. @default none */
  readonly origins?: readonly string[] | undefined;
}

/** What middleware notes about a request. */
export interface Env {
  Variables: {
    principal: Principal;
    /** Of a request that was let in by its signature: its id, and the bytes that were signed. */
    signed?: { readonly id: string; readonly body: Uint8Array };
  };
}

const policy = { defaultSrc: ["'none'"], frameAncestors: ["'none'"], baseUri: ["'none'"], formAction: ["'none'"] };

const withHeaders = (contentSecurityPolicy: Record<string, string[]>): MiddlewareHandler =>
  secureHeaders({
    contentSecurityPolicy,
    xFrameOptions: "DENY",
    // It speaks for the whole host, and that is whoever mounts the router.
    strictTransportSecurity: false,
    originAgentCluster: false,
  });

/** For answers that no browser is meant to show. */
export const dataHeaders: MiddlewareHandler = withHeaders(policy);

/** For the page of documentation: its own script and style, and requests to where it came from. */
export const pageHeaders: MiddlewareHandler = withHeaders({
  ...policy,
  scriptSrc: ["'self'"],
  styleSrc: ["'self'"],
  connectSrc: ["'self'"],
});

/** Refuses a Host that is not listed: a name that somebody has pointed here (DNS rebinding) is not one's own. */
export function requireHost({ hosts }: SecurityOptions): MiddlewareHandler<Env> {
  const served = hosts === undefined ? undefined : new Set(hosts.map((host) => host.toLowerCase()));
  return async (c, next) => {
    if (served !== undefined && !served.has(hostOf(c).toLowerCase())) throw new Problem(421, "wrong_host");
    await next();
  };
}

function hostOf(c: Context): string {
  return c.req.header("host") ?? new URL(c.req.url).host;
}

/** Refuses what a page of another site makes a browser send. Clients that are no browsers send neither header. */
export function requireSameSite({ origins = [] }: SecurityOptions): MiddlewareHandler<Env> {
  const allowed = new Set(origins);
  return async (c, next) => {
    const origin = c.req.header("origin");
    if (origin === undefined || !allowed.has(origin)) {
      const site = c.req.header("sec-fetch-site");
      if (site !== undefined && site !== "same-origin") throw new Problem(403, "cross_site");
      if (origin !== undefined && originHost(origin) !== hostOf(c)) throw new Problem(403, "cross_site");
    }
    await next();
  };
}

/** Without the scheme: behind a proxy that ends TLS it is another one here. */
function originHost(origin: string): string | undefined {
  return URL.canParse(origin) ? new URL(origin).host : undefined;
}

/** Lets in whom the authoriser knows, with the scope that the route wants; and who has signed, where that is enough. */
export function requireScope(
  { authorise }: SecurityOptions,
  scope: Scope,
  isSigned?: (c: Context<Env>) => Promise<boolean>,
): MiddlewareHandler<Env> {
  return async (c, next) => {
    if (await isSigned?.(c)) return await next();
    const principal = await asked(authorise, c.req.raw);
    if (principal === undefined || principal === null) {
      throw new Problem(401, "unauthorised", { headers: { "WWW-Authenticate": "Bearer" } });
    }
    const { name, scopes } = principal;
    if (typeof name !== "string" || name.length < 1 || name.length > 200 || !Array.isArray(scopes)) {
      throw new TypeError(
        `Cannot authorise: an authoriser must answer undefined, or a name of 1 to 200 characters with a list of scopes, got ${shown(name)}`,
      );
    }
    if (!scopes.includes(scope)) {
      const headers = { "WWW-Authenticate": `Bearer error="insufficient_scope", scope="${scope}"` };
      throw new Problem(403, "forbidden", { detail: `It needs the scope "${scope}"`, headers });
    }
    c.set("principal", principal);
    await next();
  };
}

async function asked(authorise: Authoriser, request: Request): Promise<Principal | undefined> {
  try {
    return await authorise(request);
  } catch (error) {
    // Hono takes nothing but errors, and whatever it was, it lets nobody in.
    throw error instanceof Error ? error : new Error("Cannot authorise: what was thrown is no error", { cause: error });
  }
}

/** What changes something comes as JSON, with a body or without: a form of another site cannot say so by itself. */
export function requireMediaType(types: readonly string[]): MiddlewareHandler<Env> {
  return async (c, next) => {
    const given = (c.req.header("content-type") ?? "").split(";")[0]?.trim().toLowerCase();
    if (given === undefined || !types.includes(given)) {
      throw new Problem(415, "media_type", {
        detail: `Content-Type must be ${types.join(" or ")}`,
        headers: { "Accept-Post": types.join(", ") },
      });
    }
    await next();
  };
}

/** How long a body may take that has a limit. */
const bodyTimeoutMs = 30_000;

/** Has the body read by whoever asks hono for it, within its limits. */
export function limitBody(maxBytes: number): MiddlewareHandler<Env> {
  return async (c, next) => {
    const signed = c.get("signed");
    const text = signed ? decodeUtf8(signed.body) : await readBody(c, maxBytes);
    // Where hono looks before it reads the body itself. No body counts as `{}`: most acts have nothing to add.
    c.req.bodyCache.text = Promise.resolve(text === "" ? "{}" : text) as never;
    await next();
  };
}

/** The whole body as text. */
export async function readBody(c: Context, maxBytes: number): Promise<string> {
  return decodeUtf8(await readBytes(c, maxBytes));
}

/** The whole body as JSON. */
export async function readJson(c: Context, maxBytes: number): Promise<unknown> {
  return parseJson(await readBody(c, maxBytes));
}

/** @throws Problem for a text that is no JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Problem(400, "malformed", { detail: "The body is not JSON" });
  }
}

/** The whole body, up to a limit, whatever its headers say of its length. */
export async function readBytes(c: Context, maxBytes: number): Promise<Uint8Array<ArrayBuffer>> {
  const tooLarge = () =>
    new Problem(413, "too_large", { detail: `The body may have ${maxBytes} bytes`, headers: { Connection: "close" } });
  if (Number(c.req.header("content-length") ?? 0) > maxBytes) throw tooLarge();
  const { body } = c.req.raw;
  if (body === null) return new Uint8Array();
  const parts: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const part of withinTime(body, bodyTimeoutMs)) {
      bytes += part.byteLength;
      if (bytes > maxBytes) throw tooLarge();
      parts.push(part);
    }
  } catch (error) {
    if (error instanceof Problem) throw error;
    throw new Problem(400, "malformed", { detail: "The body broke off" });
  }
  return joined(parts, bytes);
}

/** Not with replacement characters: what is stored is what was sent. */
export function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Problem(400, "malformed", { detail: "The body is not UTF-8" });
  }
}

/** The parts of a body that is there within a time. Whoever stops early cancels the rest. */
async function* withinTime(body: ReadableStream<Uint8Array>, timeoutMs: number): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Problem(408, "timeout", { headers: { Connection: "close" } })), timeoutMs);
  });
  late.catch(() => {});
  let ended = false;
  try {
    while (true) {
      const { done, value } = await Promise.race([reader.read(), late]);
      if (done) break;
      yield value;
    }
    ended = true;
  } finally {
    clearTimeout(timer);
    if (!ended) reader.cancel().catch(() => {});
  }
}

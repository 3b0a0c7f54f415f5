/**
 * Who may do what. The router knows nobody by itself: it asks an authoriser, of each request, and will not be made
 * without one. A scope stands for routes of one kind, and none contains another.
 */
import type { Actor } from "../../src/command.ts";
import type { Awaitable } from "../../src/handler.ts";
import { shown } from "../../src/limits.ts";

/**
 * `push`: put commands and events in. `read`: ask about everything, with inputs and outputs. `process`: have commands
 * executed here. `admin`: cancel, retry, pause and the like.
 */
export type Scope = "push" | "read" | "process" | "admin";

export const scopes: readonly Scope[] = ["push", "read", "process", "admin"];

/** Somebody whom an authoriser knows. */
export interface Principal {
  /** For the record of acts and for idempotency keys, which are each principal's own: 1 to 200 characters. */
  readonly name: string;
  readonly scopes: readonly Scope[];
  /** Who is named in the metadata of what is pushed. @default { id: name, type: "principal" } */
  readonly actor?: Actor | undefined;
}

/**
 * Says who sent a request; undefined where that is nobody, and the answer is 401. It MUST NOT read the body. What it
 * throws lets nobody in.
 */
export type Authoriser = (request: Request) => Awaitable<Principal | undefined>;

/** What {@link tokenAuthoriser} lets in. */
export interface Token {
  /** Of the principal. Several tokens may have one name: that is how they are rotated. */
  readonly name: string;
  /** 16 to 1,024 characters of those that a bearer token may have (`A-Za-z0-9-._~+/=`). */
  readonly token: string;
  readonly scopes: readonly Scope[];
}

/**
 * Knows principals by bearer tokens: `Authorization: Bearer …`. Tokens are kept and compared as SHA-256 digests, each
 * of them in full and all of them every time, so that the time taken says nothing.
 *
 * @throws TypeError and RangeError for a token or scope that is none, for no tokens at all, and for one that is there twice.
 * @example
 * const authorise = tokenAuthoriser([{ name: "shop", token: process.env.SHOP_TOKEN, scopes: ["push", "read"] }]);
 */
export function tokenAuthoriser(tokens: readonly Token[]): Authoriser {
  const attempt = "Cannot make a token authoriser";
  if (!Array.isArray(tokens) || tokens.length === 0) {
    throw new TypeError(`${attempt}: tokens must be a list of at least one, got ${shown(tokens)}`);
  }
  for (const { name, token, scopes: given } of tokens as readonly Token[]) {
    if (typeof name !== "string" || name.length < 1 || name.length > 200) {
      throw new TypeError(`${attempt}: name must be a string of 1 to 200 characters, got ${shown(name)}`);
    }
    // Never shown: it is a secret also where it is a wrong one.
    if (typeof token !== "string" || !/^[\w.~+/=-]{16,1024}$/.test(token)) {
      throw new TypeError(`${attempt}: the token of "${name}" must have 16 to 1,024 characters of A-Za-z0-9-._~+/=`);
    }
    if (!Array.isArray(given) || given.length === 0) {
      throw new TypeError(`${attempt}: the scopes of "${name}" must be a list of at least one, got ${shown(given)}`);
    }
    for (const scope of given) {
      if (scopes.includes(scope)) continue;
      throw new RangeError(`${attempt}: a scope of "${name}" must be one of ${scopes.join(", ")}, got ${shown(scope)}`);
    }
  }
  if (new Set(tokens.map(({ token }) => token)).size < tokens.length) {
    throw new RangeError(`${attempt}: a token must be there once, got one twice`);
  }

  const principals = (tokens as readonly Token[]).map(({ name, scopes: given }) => ({
    name,
    scopes: [...given],
    actor: { id: name, type: "token" },
  }));
  // Not digested before somebody asks: workerd allows no waiting while a module is loaded.
  let known: Promise<Uint8Array[]> | undefined;

  return async (request) => {
    const [, token] = /^Bearer +([\w.~+/=-]{1,1024})$/i.exec(request.headers.get("authorization") ?? "") ?? [];
    known ??= Promise.all(tokens.map((one) => digestOf(one.token)));
    const [digests, digest] = await Promise.all([known, digestOf(token ?? "")]);
    let found: Principal | undefined;
    for (const [index, one] of digests.entries()) if (isSame(one, digest)) found = principals[index];
    return token === undefined ? undefined : found;
  };
}

async function digestOf(token: string): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(token)));
}

/** Looks at every byte, whatever the first one was. */
function isSame(one: Uint8Array, other: Uint8Array): boolean {
  let difference = one.length ^ other.length;
  for (let index = 0; index < one.length; index++) difference |= (one[index] as number) ^ (other[index] ?? 0);
  return difference === 0;
}

/**
 * Lets everybody do everything: for development, and for tests. It asks for `NODE_ENV` to say so, and a process that
 * says nothing counts as production.
 *
 * @throws Error where `NODE_ENV` is neither "development" nor "test".
 */
export function unprotected(): Authoriser {
  const environment = readEnvironment();
  if (environment !== "development" && environment !== "test") {
    throw new Error(
      'Cannot leave the router unprotected: NODE_ENV must be "development" or "test", ' +
        `got ${shown(environment)}: pass an authoriser, as tokenAuthoriser() makes one`,
    );
  }
  const principal = { name: "everybody", scopes };
  return () => principal;
}

function readEnvironment(): string | undefined {
  try {
    // Not imported: workerd has no such module unless it is told to.
    const { process } = globalThis as { readonly process?: { readonly env?: Record<string, string | undefined> } };
    return process?.env?.NODE_ENV;
  } catch {
    // Deno without the permission to read it.
    return undefined;
  }
}

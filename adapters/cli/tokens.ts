/** Tokens as the environment has them: for who serves without a module of one's own that says who may do what. */

import { type Scope, scopes, type Token } from "../hono/authorise.ts";
import { MisuseError } from "./misuse.ts";

export const tokensVariable = "ORCHESTRATUM_TOKENS";

/**
 * `shop:push+read:token,ops:read+admin:token`, or a JSON list of `{ name, token, scopes }`.
 *
 * @throws MisuseError that names the entry by its place: what stands in a wrong one may be a token at the wrong place.
 */
export function readTokens(attempt: string, text: string): Token[] {
  const given = text.trimStart().startsWith("[") ? listOf(attempt, text) : text.split(",").map(entryOf);
  const tokens = given.map((entry, index) => tokenOf(`${attempt}: entry ${index + 1} of ${tokensVariable}`, entry));
  if (new Set(tokens.map(({ token }) => token)).size < tokens.length) {
    throw new MisuseError(`${attempt}: ${tokensVariable} has a token twice`);
  }
  return tokens;
}

function listOf(attempt: string, text: string): unknown[] {
  try {
    return JSON.parse(text) as unknown[];
  } catch {
    // Its message may show some of the text.
    throw new MisuseError(`${attempt}: ${tokensVariable} begins as a JSON list, and is none`);
  }
}

function entryOf(text: string): unknown {
  const [name, scopeText, token, ...more] = text.trim().split(":");
  return more.length > 0 ? undefined : { name, scopes: scopeText?.split("+"), token };
}

function tokenOf(place: string, entry: unknown): Token {
  const { name, token, scopes: own } = Object(entry) as { [key in keyof Token]?: unknown };
  if (typeof name !== "string" || name.length < 1 || name.length > 200 || !Array.isArray(own) || own.length === 0) {
    throw new MisuseError(`${place} must be name:scopes:token, as in shop:push+read:…`);
  }
  if (!own.every((scope) => scopes.includes(scope))) {
    throw new MisuseError(`${place} must have scopes of ${scopes.join(", ")}, with + between them`);
  }
  if (typeof token !== "string" || !/^[\w.~+/=-]{16,1024}$/.test(token)) {
    throw new MisuseError(`${place} must have a token of 16 to 1,024 characters of A-Za-z0-9-._~+/=`);
  }
  return { name, token, scopes: own as Scope[] };
}

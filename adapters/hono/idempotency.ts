/**
 * Ids from keys: a request that is repeated with its `Idempotency-Key` pushes the same ids, and the push finds them
 * there. The id is a digest of the principal, the key and the place in the batch, so that keys are each principal's own.
 */
import type { Context } from "hono";
import { Problem } from "./problem.ts";

/** The key of a request; undefined where it has none. */
export function idempotencyKey(c: Context): string | undefined {
  const key = c.req.header("idempotency-key");
  if (key === undefined || /^[\x21-\x7e]{1,255}$/.test(key)) return key;
  const issues = [{ path: "Idempotency-Key", message: "must have 1 to 255 visible characters of ASCII" }];
  throw new Problem(400, "invalid", { issues });
}

/** A UUID of version 8 (RFC 9562): 122 bits of a SHA-256 digest. */
export async function keyedId(principal: string, key: string, place: number): Promise<string> {
  // As JSON, so that no two lists of three run together to one text.
  const text = new TextEncoder().encode(JSON.stringify([principal, key, place]));
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", text)).slice(0, 16);
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

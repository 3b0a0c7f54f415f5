/**
 * Ticks that are signed by Standard Webhooks, in place of a token: for timers that sign what they send. The id of a
 * request stands for one tick, and whoever repeats it gets the answer of the first one. One that failed is done again:
 * senders repeat what was not answered well under its id, and a tick does no harm twice.
 */
import type { Context } from "hono";
import { type CallStore, createMemory, createOnce } from "../../src/call-store.ts";
import type { SigningKeys } from "../../src/index.ts";
import { createSigner, readSignature, unknownSignature } from "../../src/signature.ts";
import { Problem } from "./problem.ts";
import { type Env, readBytes } from "./security.ts";

export interface SignedTicks {
  /**
   * Whether a request is signed, with one of the keys, at about this time. Reads its body, which is kept for who comes
   * next; false, with the body unread, where there is no signature at all.
   *
   * @throws Problem for a signature that is not good: no token makes up for it.
   */
  admit(c: Context<Env>, maxBodyBytes: number): Promise<boolean>;
  /** Ticks, where the request was signed once for its id. */
  answer(c: Context<Env>, tick: () => Promise<object>): Promise<string>;
}

export function createSignedTicks(keys: SigningKeys, store: CallStore = createMemory(Date.now)): SignedTicks {
  const signer = createSigner("Cannot mount the router with tickKeys", keys);
  const once = createOnce(
    store,
    () => {
      const detail = "The tick of this webhook-id is under way elsewhere, or has failed: send another id";
      return new Problem(409, "conflict", { detail, headers: { "Retry-After": "1" } });
    },
    true,
  );
  return {
    async admit(c, maxBodyBytes) {
      if (c.req.header("webhook-signature") === undefined) return false;
      const signature = readSignature(c.req.raw.headers, Date.now());
      if (typeof signature === "string") throw unauthorised(signature);
      const { id, timestamp, signatures } = signature;
      const body = await readBytes(c, maxBodyBytes);
      if (!(await signer.verify(id, timestamp, body, signatures))) {
        throw unauthorised(unknownSignature);
      }
      c.set("signed", { id, body });
      return true;
    },
    async answer(c, tick) {
      const text = async () => JSON.stringify(await tick());
      const signed = c.get("signed");
      return signed === undefined ? await text() : await once(signed.id, text);
    },
  };
}

/** A token would do, too: of signatures there is no scheme to name. */
function unauthorised(detail: string): Problem {
  return new Problem(401, "unauthorised", { detail, headers: { "WWW-Authenticate": "Bearer" } });
}

/**
 * Signatures of calls by the rules of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`, the raw bytes of it, in the
 * headers webhook-id, webhook-timestamp and webhook-signature. While keys rotate a call has a signature by each of them,
 * and one that is known suffices.
 */
import { shown } from "./limits.ts";

/** Keys as they are written: `whsec_` and 24 to 64 bytes in base64. At most eight. */
export type SigningKeys = string | readonly string[];

export interface Signer {
  /** The headers of a call. `timestamp` in seconds since 1970. */
  sign(id: string, timestamp: number, body: Bytes): Promise<Readonly<Record<string, string>>>;
  /** Whether one of the signatures in a header was made by one of the keys. Never throws. */
  verify(id: string, timestamp: number, body: Bytes, signatures: string): Promise<boolean>;
}

export type Bytes = Uint8Array<ArrayBuffer>;

/** What the headers of a signed request say; nothing of it is verified but that the time is good. */
export interface Signature {
  readonly id: string;
  /** In seconds since 1970. */
  readonly timestamp: number;
  readonly signatures: string;
}

/** How far the clocks of the two sides may differ, either way. */
export const toleranceSeconds = 300;
export const unknownSignature = "No signature of the request is by a known key";
const maxIdLength = 64;
const maxSignaturesLength = 4_096;
const prefix = "whsec_";
const minKeyBytes = 24;
const maxKeyBytes = 64;
const maxKeys = 8;
const signatureBytes = 32;
const algorithm = { name: "HMAC", hash: "SHA-256" } as const;

/**
 * @param attempt what cannot be done where a key is refused: `Cannot receive calls`.
 * @throws TypeError or RangeError for what is no key; the message shows none.
 */
export function createSigner(attempt: string, keys: SigningKeys): Signer {
  const list: readonly unknown[] = typeof keys === "string" ? [keys] : keys;
  if (!Array.isArray(list)) throw new TypeError(`${attempt}: keys must be a key or a list of them, got ${shown(keys)}`);
  if (list.length < 1 || list.length > maxKeys) {
    throw new RangeError(`${attempt}: keys must be 1 to ${maxKeys}, got ${list.length}`);
  }
  const secrets = list.map((key) => secretOf(attempt, key));
  let imported: Promise<CryptoKey[]> | undefined;
  const load = (): Promise<CryptoKey[]> => {
    // At the first use: workerd refuses it while a module is loaded.
    imported ??= Promise.all(
      secrets.map((secret) => crypto.subtle.importKey("raw", secret, algorithm, false, ["sign", "verify"])),
    );
    return imported;
  };

  return {
    async sign(id, timestamp, body) {
      const content = contentOf(id, timestamp, body);
      const signatures: string[] = [];
      for (const key of await load()) {
        const made = new Uint8Array(await crypto.subtle.sign("HMAC", key, content));
        signatures.push(`v1,${btoa(String.fromCharCode(...made))}`);
      }
      return {
        "webhook-id": id,
        "webhook-timestamp": String(timestamp),
        "webhook-signature": signatures.join(" "),
      };
    },
    async verify(id, timestamp, body, signatures) {
      const content = contentOf(id, timestamp, body);
      const known = await load();
      // Signatures of other versions are for others. More than there may be keys on both sides are nobody's.
      for (const text of signatures.split(" ").slice(0, 2 * maxKeys)) {
        const signature = text.startsWith("v1,") ? bytesOf(text.slice("v1,".length)) : undefined;
        if (signature?.length !== signatureBytes) continue;
        for (const key of known) if (await crypto.subtle.verify("HMAC", key, signature, content)) return true;
      }
      return false;
    },
  };
}

/** The signature of a request, to be verified over its body; a text where there is none to verify: what is wrong. */
export function readSignature(headers: Headers, nowMs: number): Signature | string {
  const id = headers.get("webhook-id") ?? "";
  const timestamp = headers.get("webhook-timestamp") ?? "";
  const signatures = headers.get("webhook-signature") ?? "";
  if (id === "" || id.length > maxIdLength || !/^\d{1,12}$/.test(timestamp) || signatures === "") {
    return "The request is not signed";
  }
  if (signatures.length > maxSignaturesLength) return "The request has too many signatures";
  if (Math.abs(nowMs / 1000 - Number(timestamp)) > toleranceSeconds) {
    return `The request's timestamp is more than ${toleranceSeconds} s off`;
  }
  return { id, timestamp: Number(timestamp), signatures };
}

function contentOf(id: string, timestamp: number, body: Bytes): Bytes {
  const head = new TextEncoder().encode(`${id}.${timestamp}.`);
  const content = new Uint8Array(head.length + body.length);
  content.set(head);
  content.set(body, head.length);
  return content;
}

function secretOf(attempt: string, key: unknown): Bytes {
  const secret = typeof key === "string" && key.startsWith(prefix) ? bytesOf(key.slice(prefix.length)) : undefined;
  if (secret && secret.length >= minKeyBytes && secret.length <= maxKeyBytes) return secret;
  // Never shown: what is wrong with it may be a letter.
  throw new TypeError(
    `${attempt}: a key must be "${prefix}" and ${minKeyBytes} to ${maxKeyBytes} bytes in base64: make one with \`echo "${prefix}$(openssl rand -base64 32)"\``,
  );
}

/** Of base64; undefined for what is none. */
function bytesOf(base64: string): Bytes | undefined {
  try {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}

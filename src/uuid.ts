/**
 * UUIDs of version 7 (RFC 9562, method 1 of its section 6.2): 48 bits of time in ms, a counter of 42 bits that starts
 * anew in each ms from a random number, and 32 random bits. Within a process they increase, so the rows of a batch land
 * side by side in the index and in the order of their making.
 */
import { shown } from "./limits.ts";

const hex: readonly string[] = Array.from({ length: 256 }, (_, value) => value.toString(16).padStart(2, "0"));

/** Random numbers are fetched for many ids at once: a call for each costs more than all the rest. */
const pool = new Uint32Array(512);
let unused = 0;

function random32(): number {
  // Not filled when the module is loaded: workerd allows no randomness there.
  if (unused === 0) {
    crypto.getRandomValues(pool);
    unused = pool.length;
  }
  return pool[--unused] as number;
}

let lastMs = -1;
/** The counter in its two places: 12 bits after the version, 30 bits after the variant. */
let high = 0;
let low = 0;

/**
 * A new id, greater than any that this process made before, also when the clock goes back.
 *
 * @param nowMs the time that it tells, in ms since 1970.
 * @default nowMs the platform's clock
 */
export function uuidv7(nowMs: number = Date.now()): string {
  if (nowMs > lastMs) {
    lastMs = nowMs;
    // The first bit is 0, which leaves 2^41 ids in one ms before the counter is full.
    high = random32() & 0x7ff;
    low = random32() & 0x3fffffff;
  } else if (low < 0x3fffffff) {
    low++;
  } else {
    low = 0;
    if (high < 0xfff) high++;
    else {
      high = 0;
      lastMs++;
    }
  }
  const random = random32();
  const upper = Math.floor(lastMs / 0x10000);
  return (
    byte(upper >>> 24) +
    byte(upper >>> 16) +
    byte(upper >>> 8) +
    byte(upper) +
    "-" +
    byte((lastMs % 0x10000) >>> 8) +
    byte(lastMs % 0x10000) +
    "-" +
    byte(0x70 | (high >>> 8)) +
    byte(high) +
    "-" +
    byte(0x80 | (low >>> 24)) +
    byte(low >>> 16) +
    "-" +
    byte(low >>> 8) +
    byte(low) +
    byte(random >>> 24) +
    byte(random >>> 16) +
    byte(random >>> 8) +
    byte(random)
  );
}

function byte(bits: number): string {
  return hex[bits & 0xff] as string;
}

/** Whether it is the text of a UUID, of any version and in either case, as PostgreSQL prints one. */
export function isUuid(value: unknown): value is string {
  return typeof value === "string" && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value);
}

/** Refuses what is no UUID. `attempt` says what cannot be done: `Cannot read event`. @throws TypeError */
export function requireId(attempt: string, value: unknown): asserts value is string {
  if (!isUuid(value)) throw new TypeError(`${attempt}: an id is a UUID, got ${shown(value)}`);
}

/** What a database that is not reached is said to be: where it was looked for, and who said so. */

import { reasonOf } from "./reason.ts";

/** Of the network, of postgres.js, and what a server answers who it does not let in. */
const unreachable =
  /^(?:ECONNREFUSED|ECONNRESET|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|CONNECT_TIMEOUT|CONNECTION_CLOSED|28[0-9A-Z]{3}|3D000|53300|57P03|08[0-9A-Z]{3})$/;

/**
 * Runs `work`, and says which database it was where that could not be reached.
 *
 * @param place `127.0.0.1:5432/app (from DATABASE_URL)`, without a password.
 */
export async function reaching<T>(place: string | undefined, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw reached(place, error);
  }
}

/** The error to show in the place of one of a database there: another one where it could not be reached. */
export function reached(place: string | undefined, error: unknown): unknown {
  const { code, syscall } = (error ?? {}) as { code?: unknown; syscall?: unknown };
  // A socket of the file system that is not there, or not for everybody.
  if (place === undefined || !(unreachable.test(String(code)) || syscall === "connect")) return error;
  return new Error(`Cannot reach the database at ${place}: ${reasonOf(error)}`, { cause: error });
}

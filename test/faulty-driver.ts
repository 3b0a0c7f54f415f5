/**
 * A driver around a real one, on which things go wrong as they do between a process and its database: replies are lost,
 * statements are held back, or run late, after whoever sent them was told that they failed. What runs, runs for real.
 */

import type { Driver, Param } from "../src/driver.ts";

/** What is done to statements. Several faults are asked in their order. */
export interface Fault {
  /** Before a statement is sent; where it throws, the statement never is. */
  before?(text: string, params: readonly Param[]): void | Promise<void>;
  /** After the database has answered; where it throws, the reply is lost. */
  after?(text: string, params: readonly Param[]): void | Promise<void>;
  /** In place of sending it; undefined lets it pass. `run` sends it. */
  instead?(run: () => Promise<unknown>, text: string, params: readonly Param[]): Promise<never> | undefined;
}

export interface FaultyDriver extends Driver {
  /** Every statement, in the order that it was asked for. */
  readonly sent: readonly { readonly text: string; readonly params: readonly Param[] }[];
  /** How many statements matched. */
  count(pattern: RegExp): number;
}

/** Statements by their names, as they stand in sql/queries. */
export const calls = (name: string): RegExp => new RegExp(`\\borchestratum"?\\.${name}\\(`);
export const notify = /\bpg_notify\(/;

export function faulty(driver: Driver, ...faults: readonly Fault[]): FaultyDriver {
  const sent: { text: string; params: readonly Param[] }[] = [];
  return {
    name: driver.name,
    sent,
    count: (pattern) => sent.filter(({ text }) => pattern.test(text)).length,
    async query<Row>(text: string, params: readonly Param[], options?: { signal?: AbortSignal }): Promise<Row[]> {
      sent.push({ text, params });
      // Without the signal: whoever gives up, the database goes on, as it may behind a connection that is half open.
      for (const fault of faults) {
        const replaced = fault.instead?.(() => driver.query<Row>(text, params), text, params);
        if (replaced) return await replaced;
      }
      for (const fault of faults) await fault.before?.(text, params);
      const rows = await driver.query<Row>(text, params, options);
      for (const fault of faults) await fault.after?.(text, params);
      return rows;
    },
    script: (text) => driver.script(text),
    ...(driver.listen ? { listen: driver.listen.bind(driver) } : {}),
  };
}

export function connectionReset(): Error {
  return Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" });
}

function nth(pattern: RegExp, n: number, isArmed = () => true): (text: string) => boolean {
  let seen = 0;
  return (text) => pattern.test(text) && isArmed() && ++seen === n;
}

/** The reply to the `n`-th statement that matches is lost: it has taken effect, and an error is what is seen of it. */
export function loseReply(pattern: RegExp, n = 1): Fault {
  const isIt = nth(pattern, n);
  return {
    after(text) {
      if (isIt(text)) throw connectionReset();
    },
  };
}

/** Statements that match fail with `error` as long as `failing` says so: without the database having heard of them. */
export function failWhile(pattern: RegExp, failing: () => boolean, error: () => Error = connectionReset): Fault {
  return {
    before(text) {
      if (pattern.test(text) && failing()) throw error();
    },
  };
}

/** The `n`-th statement that matches while it is armed is held back until it is released; `arrived` tells when it came. */
export function holdBack(
  pattern: RegExp,
  n = 1,
  isArmed?: () => boolean,
): Fault & { readonly arrived: Promise<void>; release(): void } {
  const isIt = nth(pattern, n, isArmed);
  const came = signal();
  const released = signal();
  return {
    arrived: came.promise,
    release: released.resolve,
    async before(text) {
      if (!isIt(text)) return;
      came.resolve();
      await released.promise;
    },
  };
}

/** The `n`-th reply, while it is armed, to a statement that matches is held back until it is released; `arrived` tells when it came. */
export function holdReply(
  pattern: RegExp,
  n = 1,
  isArmed?: () => boolean,
): Fault & { readonly arrived: Promise<void>; release(): void } {
  const { arrived, release, before } = holdBack(pattern, n, isArmed);
  return { arrived, release, after: before as NonNullable<Fault["after"]> };
}

/** The `n`-th statement that matches fails at once, and runs all the same when it is released: `ran` tells when it has. */
export function runLate(pattern: RegExp, n = 1): Fault & { readonly ran: Promise<void>; release(): void } {
  const isIt = nth(pattern, n);
  const ran = signal();
  const released = signal();
  return {
    ran: ran.promise,
    release: released.resolve,
    instead(run, text) {
      if (!isIt(text)) return undefined;
      void released.promise.then(run).then(ran.resolve, ran.resolve);
      return Promise.reject(connectionReset());
    },
  };
}

function signal(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve = (): void => {};
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

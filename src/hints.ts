/**
 * Hints between processes: "something is due in this queue", "this command is to be cancelled", "this one has ended".
 * A hint only shortens a sleep. Each may be lost, doubled or late, and nothing but latency depends on it: whoever gets
 * one asks the database.
 *
 * Outwards: NOTIFY as a statement of its own, after what it tells of has committed, since it takes a lock of the whole
 * database through its commit. Hints of one queue are held together for 5 ms, with a leading and a trailing edge.
 * Inwards: one LISTEN for the process, proven by a notification to itself, because through a transaction pooler LISTEN
 * succeeds and nothing arrives. Workers of this process are told directly.
 *
 * Payloads: `q <queue> <from when, ms since 1970>`, `p <queue>` (paused or resumed; `*` where a
 * name of commands was), `c <id>` (cancel), `f <id>`
 * (finished), `n <nonce>` (a probe).
 */
import type { Clock, Timer } from "./clock.ts";
import type { Database } from "./database.ts";
import type { Listener } from "./driver.ts";
import { parseMicros } from "./marks.ts";
import type { Observer } from "./observation.ts";
import { uuidv7 } from "./uuid.ts";
import { createWakeup, pause } from "./wakeup.ts";

/** Something is due in a queue, from a time in text as the database prints it. */
export interface Due {
  readonly queue: string;
  readonly available_at: string;
}

/** Who wants to be told. */
export interface HintReceiver {
  /** Something is due in `queue` from `fromMicros` on. */
  due?(queue: string, fromMicros: number): void;
  /** `queue` was paused or resumed; `everyQueue`: a name. */
  paused?(queue: string): void;
  cancel?(id: string): void;
  finished?(id: string): void;
  /** Notifications may have been missed: look once. */
  reconnected?(): void;
}

export interface Hints {
  /** Something became due, and that has committed. */
  due(dues: readonly Due[]): void;
  /** Something becomes due when the transaction commits. */
  dueAfter(transactionId: string, dues: readonly Due[]): void;
  /** Tell workers to look at queues at once. */
  wake(queues: readonly string[]): void;
  /** `queue`, or with `everyQueue` a name, was paused or resumed: workers are to ask which. */
  paused(queue: string): void;
  cancel(id: string): void;
  finished(id: string): void;
  /** Adds a receiver, and listens from then on unless `listens` is false; the result takes it away. */
  receive(receiver: HintReceiver, listens?: boolean): () => void;
  /** Whether notifications are known to arrive. */
  readonly proven: boolean;
  /** Proves once more that they do, unless that was done a short while ago. A connection that is silent is replaced. */
  probe(): void;
  /** Resolves when what was to be sent by now has been, in `ms` or 5 s at the latest: for a process that stands still afterwards. */
  flush(ms?: number): Promise<void>;
  close(): Promise<void>;
}

/** In place of a queue: the pause of a name of commands, which may be in any. */
export const everyQueue = "*";

const debounceMs = 5;
/** A probe that is not heard within this time was not heard. */
const probeTimeoutMs = 2_000;
const probeEveryMs = 15_000;
/** How long a silent connection is left before it is replaced, at most. */
const maxSilenceMs = 10 * 60_000;
/** How long closing, or flushing, may take. */
const closeMs = 5_000;
/** How long flushing waits for transactions of callers to commit. */
const flushWatchMs = 100;
/** The latest time that JavaScript knows, in ms. */
const latestMs = 8.64e15;
const maxWatched = 10_000;
/** Most transactions that one query asks for. */
const maxLooked = 1_000;
/** A transaction that is open for longer is left to the poll; one that a failover has lost never ends. */
const maxWatchMs = 60 * 60_000;
const firstLookMs = 5;
const slowestLookMs = 1_000;

/** One for each queue says all that its workers need to know. */
export function earliest(dues: readonly Due[]): Due[] {
  const first = new Map<string, Due>();
  for (const due of dues) {
    const known = first.get(due.queue);
    // As text: in PostgreSQL's form a time without a fraction sorts before one with, and an earlier one before a later.
    if (!known || due.available_at < known.available_at) first.set(due.queue, due);
  }
  return [...first.values()];
}

export function createHints(database: Database, clock: Clock, report: Observer): Hints {
  const receivers = new Set<HintReceiver>();
  const channel = database.schema;
  let closed = false;

  function tell(call: (receiver: HintReceiver) => void): void {
    for (const receiver of receivers) {
      try {
        call(receiver);
      } catch (error) {
        report({ type: "internal_error", operation: "hint", error });
      }
    }
  }

  // Outwards.

  const outgoing = new Set<string>();
  const outgoingWakeup = createWakeup(clock);
  let sending = false;
  const windows = new Map<string, { from: number | undefined }>();
  const timers = new Set<Timer>();

  function send(payload: string): void {
    if (closed) return;
    outgoing.add(payload);
    outgoingWakeup.raise();
  }

  function sendDue(queue: string, fromMs: number): void {
    if (closed) return;
    const window = windows.get(queue);
    if (window) {
      window.from = Math.min(window.from ?? Number.POSITIVE_INFINITY, fromMs);
      return;
    }
    send(`q ${queue} ${fromMs}`);
    openWindow(queue);
  }

  function openWindow(queue: string): void {
    const window: { from: number | undefined } = { from: undefined };
    windows.set(queue, window);
    const timer = clock.after(debounceMs, () => {
      timers.delete(timer);
      windows.delete(queue);
      if (window.from !== undefined) sendDue(queue, window.from);
    });
    timers.add(timer);
  }

  // A loop, and not a call from whoever has a hint, so that statements are sent from no caller's asynchronous context.
  async function sendLoop(): Promise<void> {
    while (!closed || outgoing.size > 0) {
      if (outgoing.size === 0) await outgoingWakeup.sleep();
      const payloads = [...outgoing].slice(0, 500);
      if (payloads.length === 0) continue;
      for (const payload of payloads) outgoing.delete(payload);
      sending = true;
      try {
        await database.run("notify", [channel, JSON.stringify(payloads)], { deadlineMs: 5_000 });
      } catch (error) {
        // Only a hint: those who poll find what it told of.
        report({ type: "database_trouble", operation: "notify", error, attempt: 1 });
        if (closed) return;
        await pause(clock, 100);
      } finally {
        sending = false;
      }
    }
  }

  function due(dues: readonly Due[]): void {
    for (const { queue, available_at } of dues) {
      const fromMicros = parseMicros(available_at);
      if (fromMicros === Number.POSITIVE_INFINITY) continue;
      // Rounded down: whoever hears it looks from there.
      const fromMs = Math.floor(fromMicros / 1000);
      tell((receiver) => receiver.due?.(queue, fromMs * 1000));
      sendDue(queue, fromMs);
    }
  }

  // Transactions of callers: their commit is looked for, since nobody says when it happens.

  const watched = new Map<string, { dues: Due[]; lookAt: number; delayMs: number; readonly until: number }>();
  const watchWakeup = createWakeup(clock);

  async function watchLoop(): Promise<void> {
    while (!closed) {
      const now = clock.now();
      let next = Number.POSITIVE_INFINITY;
      for (const watch of watched.values()) next = Math.min(next, watch.lookAt);
      if (next > now) {
        await watchWakeup.sleep(next - now);
        continue;
      }
      // One query for all that are open, whichever is due: that costs nothing more.
      const ids = [...watched.keys()].slice(0, maxLooked);
      try {
        const rows = await database.run<{ transaction_id: string; status: string }>("lookAtTransactions", [
          JSON.stringify(ids),
        ]);
        for (const row of rows) {
          const watch = watched.get(row.transaction_id);
          if (!watch || (row.status === "in progress" && clock.now() < watch.until)) continue;
          watched.delete(row.transaction_id);
          if (row.status === "committed") due(watch.dues);
        }
      } catch (error) {
        report({ type: "database_trouble", operation: "lookAtTransactions", error, attempt: 1 });
      }
      const later = clock.now();
      for (const id of ids) {
        const watch = watched.get(id);
        if (!watch) continue;
        watch.delayMs = Math.min(watch.delayMs * 2, slowestLookMs);
        watch.lookAt = later + watch.delayMs;
        // To the end: with more than one query may ask for, the others come first next time.
        watched.delete(id);
        watched.set(id, watch);
      }
      if (watched.size > maxLooked) await watchWakeup.sleep(firstLookMs);
    }
  }

  // Inwards.

  let listener: Listener | undefined;
  let listening: Promise<void> | undefined;
  /** Gives up a connection that is still being opened. */
  const opening = new AbortController();
  let proven = false;
  let said: boolean | undefined;
  let nonce = "";
  let probeTimer: Timer | undefined;
  const listenWakeup = createWakeup(clock);
  /** Connections in a row on which nothing was heard. */
  let silences = 0;
  let probedAt = Number.NEGATIVE_INFINITY;

  function prove(result: boolean): void {
    probeTimer?.cancel();
    probeTimer = undefined;
    proven = result;
    if (result) silences = 0;
    if (said !== result) {
      said = result;
      report({ type: "listening", proven: result });
      // Who slept because notifications would come sleeps no longer than a poll from now on.
      if (!result) tell((receiver) => receiver.reconnected?.());
    }
  }

  function probe(force = false): void {
    if (!listener || closed) return;
    if (!force && (probeTimer || clock.now() - probedAt < probeEveryMs)) return;
    // One that is out was lost with the connection before.
    probeTimer?.cancel();
    probedAt = clock.now();
    nonce = uuidv7();
    send(`n ${nonce}`);
    probeTimer = clock.after(probeTimeoutMs, () => {
      probeTimer = undefined;
      prove(false);
      silences++;
      void replace();
    });
  }

  function receivePayload(payload: string): void {
    const [kind, name, rest] = payload.split(" ");
    if (name === undefined) return;
    if (kind === "q") {
      const fromMs = Number(rest);
      // Anybody may notify: what is no time counts as long ago, which only makes the receivers look at everything.
      const from = fromMs >= 0 && fromMs <= latestMs ? fromMs : 0;
      tell((receiver) => receiver.due?.(name, from * 1000));
    }
    if (kind === "p") tell((receiver) => receiver.paused?.(name));
    else if (kind === "c") tell((receiver) => receiver.cancel?.(name));
    else if (kind === "f") tell((receiver) => receiver.finished?.(name));
    else if (kind === "n" && name === nonce) {
      report({ type: "notification_heard", lagMs: clock.now() - probedAt });
      prove(true);
    }
  }

  function reconnected(): void {
    // What was sent while the connection was away is lost.
    tell((receiver) => receiver.reconnected?.());
    probe(true);
  }

  /** A connection that is half open never says so: its place is taken by a new one. */
  async function replace(): Promise<void> {
    const old = listener;
    listener = undefined;
    try {
      await old?.close();
    } catch (error) {
      report({ type: "database_trouble", operation: "listen", error, attempt: 1 });
    }
    // Behind a pooler the next one will be as silent: it is tried less and less often.
    if (silences > 1) await listenWakeup.sleep(Math.min(probeTimeoutMs * 2 ** silences, maxSilenceMs));
    listening = undefined;
    if (!closed && receivers.size > 0) await listen();
  }

  function listen(): Promise<void> {
    listening ??= (async () => {
      for (let attempt = 1; !closed && database.driver.listen; attempt++) {
        try {
          let early = false;
          const onListen = () => {
            if (listener) reconnected();
            else early = true;
          };
          const opened = await database.driver.listen(channel, receivePayload, onListen, { signal: opening.signal });
          if (closed) return await opened.close();
          listener = opened;
          if (early) reconnected();
          return;
        } catch (error) {
          if (closed) return;
          report({ type: "database_trouble", operation: "listen", error, attempt });
          await listenWakeup.sleep(Math.min(30_000, 250 * 2 ** attempt) * (0.5 + clock.random() / 2));
        }
      }
    })();
    return listening;
  }

  const loops = Promise.all([sendLoop(), watchLoop()]);
  let closing: Promise<void> | undefined;

  return {
    due,
    dueAfter(transactionId, dues) {
      // More open transactions than anybody has: the poll finds what they push.
      if (watched.size >= maxWatched || closed) return;
      const watch = watched.get(transactionId);
      if (watch) watch.dues = earliest([...watch.dues, ...dues]);
      else {
        const now = clock.now();
        watched.set(transactionId, {
          dues: [...dues],
          lookAt: now + firstLookMs,
          delayMs: firstLookMs,
          until: now + maxWatchMs,
        });
        watchWakeup.raise();
      }
    },
    wake(queues) {
      for (const queue of queues) {
        tell((receiver) => receiver.due?.(queue, 0));
        sendDue(queue, 0);
      }
    },
    paused(queue) {
      tell((receiver) => receiver.paused?.(queue));
      send(`p ${queue}`);
    },
    cancel(id) {
      tell((receiver) => receiver.cancel?.(id));
      send(`c ${id}`);
    },
    finished(id) {
      tell((receiver) => receiver.finished?.(id));
      send(`f ${id}`);
    },
    receive(receiver, listens = true) {
      receivers.add(receiver);
      if (listens) void listen();
      return () => void receivers.delete(receiver);
    },
    get proven() {
      return proven;
    },
    probe,
    async flush(ms = closeMs) {
      const since = clock.now();
      const until = since + Math.min(ms, closeMs);
      const isDone = () =>
        outgoing.size === 0 &&
        !sending &&
        windows.size === 0 &&
        (watched.size === 0 || clock.now() >= since + flushWatchMs);
      while (!closed && !isDone() && clock.now() < until) await pause(clock, 1);
    },
    close() {
      closing ??= close();
      return closing;
    },
  };

  async function close(): Promise<void> {
    closed = true;
    for (const timer of timers) timer.cancel();
    // What a trailing edge still held goes out now: it may tell of what a stopping worker handed back.
    for (const [queue, window] of windows) if (window.from !== undefined) outgoing.add(`q ${queue} ${window.from}`);
    windows.clear();
    probeTimer?.cancel();
    outgoingWakeup.raise();
    watchWakeup.raise();
    listenWakeup.raise();
    opening.abort();
    let ended = false;
    const end = Promise.all([loops, listening, listener?.close()])
      .catch((error: unknown) => report({ type: "database_trouble", operation: "close", error, attempt: 1 }))
      .finally(() => {
        ended = true;
      });
    // A database that does not answer must not keep anybody from stopping.
    const limit = createWakeup(clock);
    void end.then(() => limit.raise());
    await limit.sleep(closeMs);
    if (!ended) report({ type: "database_unresponsive", operation: "close", afterMs: closeMs });
  }
}

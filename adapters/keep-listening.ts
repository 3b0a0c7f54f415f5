/**
 * A LISTEN connection that is opened anew whenever it ends. Attempts after the first wait longer and longer, at random,
 * so that a fleet does not come back all at once; one that gets no answer is given up, since a half-open connection
 * never says so.
 */
import type { Listener } from "../src/driver.ts";

/** A connection that is being opened to listen. */
export interface ListeningConnection {
  /** Resolves when it listens; rejects where it cannot. */
  readonly listening: PromiseLike<unknown>;
  /** Resolves when it has ended, however that came. */
  readonly lost: Promise<void>;
  /** Ends it in whatever state it is, without waiting for an answer of the server. A second call is harmless. */
  end(): Promise<void>;
}

/** How long a connection that ended waits before it is opened again, at most. The first time it does not wait. */
const maxReconnectMs = 5_000;
/** How long a connection may take until it listens. */
export const connectWithinMs = 15_000;

export const unanswered = (): Error =>
  new Error(`Cannot listen: the server did not answer within ${connectWithinMs} ms`);

/**
 * Fails where the first connection does, and where `signal` aborts before that listens. Once it is closed nothing is told
 * any more, whatever still arrives.
 */
export async function keepListening(
  open: (notify: (payload: string) => void) => ListeningConnection,
  onNotify: (payload: string) => void,
  onListen: () => void,
  signal?: AbortSignal,
): Promise<Listener> {
  signal?.throwIfAborted();
  let closed = false;
  let current: ListeningConnection;
  let stopWaiting = (): void => {};

  const wait = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      stopWaiting = () => {
        clearTimeout(timer);
        resolve();
      };
    });

  const connect = async (): Promise<void> => {
    const connection = open((payload) => {
      if (!closed) onNotify(payload);
    });
    current = connection;
    const late = wait(connectWithinMs).then(() => {
      signal?.throwIfAborted();
      throw unanswered();
    });
    try {
      await Promise.race([connection.listening, late]);
    } catch (error) {
      await connection.end().catch(() => {});
      throw error;
    } finally {
      late.catch(() => {});
      stopWaiting();
    }
  };

  const reconnect = async (): Promise<void> => {
    while (!closed) {
      await current.lost;
      await current.end().catch(() => {});
      let connected = false;
      for (let failures = 0; !closed && !connected; failures += 1) {
        if (failures > 0) await wait(Math.random() * Math.min(100 * 2 ** failures, maxReconnectMs));
        if (!closed) {
          connected = await connect().then(
            () => true,
            () => false,
          );
        }
      }
      if (connected && closed) await current.end().catch(() => {});
      else if (connected) onListen();
    }
  };

  const giveUp = (): void => stopWaiting();
  signal?.addEventListener("abort", giveUp, { once: true });
  try {
    await connect();
  } finally {
    signal?.removeEventListener("abort", giveUp);
  }
  onListen();
  void reconnect();
  return {
    async close() {
      closed = true;
      stopWaiting();
      await current.end();
    },
  };
}

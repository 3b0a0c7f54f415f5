/** What the programs of the benchmark over HTTP tell each other. */

export const benchToken = "a-token-of-the-benchmark-0123456789";

/** What the server has taken since it was started. */
export interface ServerFigures {
  /** In bytes. */
  readonly rss: number;
  readonly heapUsed: number;
  readonly cpuSeconds: number;
  /** How many it has sent to PostgreSQL. */
  readonly statements: number;
}

/** What one side did in its time. */
export interface Load {
  /** Commands, or questions. */
  readonly count: number;
  readonly seconds: number;
  /** Of the process that asked. */
  readonly cpuSeconds: number;
  /** How long each request, or call, took, in ms. */
  readonly p50: number;
  readonly p99: number;
}

/** What is asked for: `push` one each, `list` and `lines` a thousand at a time, `status` of one command. */
export type Doing = "push" | "list" | "lines" | "status";

/** Of one batch. */
export const batchSize = 1_000;

/** How many requests, or calls, are under way at the same time. */
export const lanesOf: Readonly<Record<Doing, number>> = { push: 16, list: 4, lines: 4, status: 1 };

/**
 * Commands under test: an orchestrator on an in-memory PGlite, whose commands run when the test says so.
 *
 * One PGlite serves all test orchestrators of a process, since opening it takes seconds; each has a schema of its own in
 * it, which takes a tenth of one. What is closed leaves its schema to the next.
 */

import {
  type AnyContract,
  type CommandId,
  type CommandOptions,
  type Contract,
  createOrchestrator,
  type Driver,
  type ErrorRecord,
  type EventContract,
  type Handler,
  type Metadata,
  type Observation,
  type Orchestrator,
  type OrchestratorOptions,
  type RecordedEvent,
  type StandardSchemaV1,
  type Verdict,
} from "../src/index.ts";
import { type EventRow, recordedEvent } from "../src/recorded-event.ts";
import { type PgliteDatabase, pglite } from "./pglite.ts";

export interface TestOptions extends Omit<OrchestratorOptions, "database" | "schema"> {}

export interface DrainOptions {
  /** Brings what is due later forward, the earliest first, until nothing is left. @default false */
  readonly forward?: boolean;
  /** How many attempts may run before it is given up: a command that follows itself never ends. @default 1_000 */
  readonly maxAttempts?: number;
}

/** An attempt that ran. */
export interface Ran {
  readonly id: string;
  readonly name: string;
  readonly attempt: number;
  /** What became of it. */
  readonly verdict: Verdict;
  readonly error?: ErrorRecord;
}

/** A command as it was pushed, by whomever. */
export interface PushedCommand<Input = unknown> {
  readonly id: CommandId;
  readonly input: Input;
  readonly options: Required<Pick<CommandOptions, "queue" | "priority" | "timeoutMs" | "retries">> & {
    readonly runAt: Date;
  };
  readonly metadata: Metadata;
  /** The command that it follows, if any. */
  readonly parentId: string | undefined;
}

type InputOf<Input extends StandardSchemaV1 | undefined> = Input extends StandardSchemaV1
  ? StandardSchemaV1.InferInput<Input>
  : unknown;

export interface TestOrchestrator extends AsyncDisposable {
  /** For everything that an application does. No worker of it runs, but within `drain`. */
  readonly orchestrator: Orchestrator;
  readonly push: Orchestrator["push"];
  /**
   * Works off everything that is due and has a handler here, follow-ups among it, and answers the attempts that ran.
   * What is paused, by its queue or its name, waits.
   *
   * @throws Error where more than `maxAttempts` ran, and where the orchestrator was stopped before all was done.
   */
  drain(options?: DrainOptions): Promise<Ran[]>;
  /** What was pushed of a command so far, follow-ups among it, in order. */
  pushed<Input extends StandardSchemaV1 | undefined, Output extends StandardSchemaV1 | undefined>(
    contract: Contract<Input, Output>,
  ): Promise<PushedCommand<InputOf<Input>>[]>;
  /** The events of a contract so far, published or appended, in the order of their times, with their data as it was given. */
  published<Topic extends string, Data extends StandardSchemaV1 | undefined>(
    contract: EventContract<Topic, Data>,
  ): Promise<(RecordedEvent<InputOf<Data>> & { readonly topic: Topic })[]>;
  /** All attempts that ran so far. */
  readonly ran: readonly Ran[];
  /** Forgets all commands, and what ran. Takes milliseconds: for use between two tests. */
  reset(): Promise<void>;
  /** Stops the orchestrator and frees its part of the database. A second call is harmless. */
  close(): Promise<void>;
}

let shared: Promise<PgliteDatabase> | undefined;
let schemas = 0;
const free: string[] = [];

/**
 * @example
 * await using test = await createTestOrchestrator({ handlers: [sendEmailHandler] });
 * await test.push(sendEmail({ to: "ada@example.com" }));
 * await test.drain(); // [{ name: "send_email", attempt: 1, verdict: "succeeded", … }]
 */
export async function createTestOrchestrator(options: TestOptions = {}): Promise<TestOrchestrator> {
  shared ??= pglite();
  const database: Driver = await shared;
  const schema = free.pop() ?? `test_${++schemas}`;
  const orchestrator = createOrchestrator({ ...options, database, schema });
  await orchestrator.migrate();
  // A worker would store these when it starts; here none does before the first drain.
  for (const handler of Object.values(options.handlers ?? {}) as (Partial<Handler> | undefined)[]) {
    if (handler?.subscription) await orchestrator.addSubscription(handler as Handler);
  }

  const ran: Ran[] = [];
  let changed = (): void => {};
  orchestrator.observe((observation: Observation) => {
    if (observation.type === "lease_lost" || observation.type === "worker_stopped") changed();
    if (observation.type !== "command_finished") return;
    const { id, name, attempt, verdict, error } = observation;
    // What has no handler here is claimed and put off; nothing of it ran.
    if (verdict !== "unknown") ran.push({ id, name, attempt, verdict, ...(error ? { error } : {}) });
    changed();
  });

  interface Live {
    readonly id: string;
    readonly name: string;
    readonly version: number;
    readonly queue: string;
    readonly due: boolean;
  }

  /** What is not over and could run here, the earliest first. */
  async function live(): Promise<Live[]> {
    const rows = await database.query<Live>(
      `select c.id::text as id, c.name, c.version::int as version, c.queue,
          c.available_at <= clock_timestamp() or c.leased_by is not null as due
        from ${schema}.command c
        where (
            not exists (select from ${schema}.paused_queue p where p.queue = c.queue)
            and not exists (select from ${schema}.paused_name n where n.name = c.name)
          )
          or c.leased_by is not null and c.available_at > clock_timestamp()
        order by c.available_at, c.id`,
      [],
    );
    return rows.filter(({ name, version }) => orchestrator.handlerOf(name, version) !== undefined);
  }

  async function drain({ forward = false, maxAttempts = 1_000 }: DrainOptions = {}): Promise<Ran[]> {
    const before = ran.length;
    const refuse = (left: readonly Live[]): never => {
      const names = [...new Set(left.map(({ name }) => name))].join(", ");
      throw new Error(
        `Cannot drain: after ${ran.length - before} attempts there are still commands (${names}); does one follow itself, or is it put off again and again?`,
      );
    };
    for (let round = 0; ; round++) {
      const left = await live();
      const due = left.filter((command) => command.due);
      if (due.length === 0) {
        const [next] = left;
        if (!forward || !next) return ran.slice(before);
        if (round >= maxAttempts) refuse(left);
        await database.query(
          `update ${schema}.command set available_at = clock_timestamp() where id = $1::text::uuid and leased_by is null`,
          [next.id],
        );
        continue;
      }
      if (ran.length - before >= maxAttempts) refuse(due);
      await work([...new Set(due.map(({ queue }) => queue))], () => ran.length - before >= maxAttempts);
    }
  }

  /** Runs a worker on these queues until nothing in them is due, or it is enough. */
  async function work(queues: readonly string[], isEnough: () => boolean): Promise<void> {
    const worker = orchestrator.startWorker({ queues, pollIntervalMs: 1_000 });
    try {
      await worker.started;
      while (!isEnough()) {
        if (!worker.isRunning) throw new Error("Cannot drain: the orchestrator was stopped before all was done");
        let timer: ReturnType<typeof setTimeout> | undefined;
        const next = new Promise<void>((resolve) => {
          changed = resolve;
          // Of a pause, say, nothing is heard here: it is looked for.
          timer = setTimeout(resolve, 250);
        });
        try {
          if (!(await live()).some(({ due, queue }) => due && queues.includes(queue))) return;
          await next;
        } finally {
          clearTimeout(timer);
        }
      }
    } finally {
      changed = () => {};
      await worker.stop();
    }
  }

  async function pushed(contract: AnyContract): Promise<PushedCommand<never>[]> {
    const rows = await database.query<Record<string, any>>(
      `select a.id::text as id, a.input::text as input, a.metadata::text as metadata, a.queue, a.priority::int as priority,
          a.timeout_ms as "timeoutMs", a.max_attempts::int as attempts, a.parent_id::text as "parentId",
          (extract(epoch from a.due_at) * 1000)::float8 as due
        from ${schema}.all_commands a
        where a.name = $1::text and a.version = $2::int and a.hook is null
        order by a.created_at, a.id`,
      [contract.name, contract.version],
    );
    return rows.map(({ id, input, metadata, queue, priority, timeoutMs, attempts, parentId, due }) => ({
      id,
      input: (input === null ? undefined : JSON.parse(input)) as never,
      options: { queue, priority, timeoutMs, retries: attempts - 1, runAt: new Date(due) },
      metadata: metadata === null ? {} : JSON.parse(metadata),
      parentId: parentId ?? undefined,
    }));
  }

  async function published({ topic }: { readonly topic: string }): Promise<RecordedEvent[]> {
    const rows = await database.query<EventRow & { readonly appended: number }>(
      `select e.id::text as id, e.topic, e.stream, e.version, e.data::text as data, e.metadata::text as metadata,
          (extract(epoch from e.appended_at) * 1000)::float8 as appended
        from ${schema}.event e
        where e.topic = $1::text
        order by e.appended_at, e.version, e.id`,
      [topic],
    );
    return rows.map((row) => recordedEvent(row, new Date(row.appended)));
  }

  /** All but what migrations have put there, and but for these. Counting begins anew with the next command that ends. */
  async function forget(kept: readonly string[]): Promise<void> {
    const rows = await database.query<{ tables: string }>(
      `select string_agg(c.oid::regclass::text, ', ') as tables
        from pg_class c
        where c.relnamespace = '${schema}'::regnamespace
          and c.relkind in ('r', 'p')
          and not c.relispartition
          and c.relname not in (select json_array_elements_text($1::text::json))`,
      [JSON.stringify(["migration", "setting", "statistic_fold", "event_head", ...kept])],
    );
    await database.script(`
      truncate ${rows[0]?.tables};
      update ${schema}.statistic_fold set folded_until = null;`);
    ran.length = 0;
  }

  // As handlers are, subscriptions are declared, and not done.
  const reset = (): Promise<void> => forget(["subscription", "subscription_pattern"]);

  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closing ??= (async () => {
      await orchestrator.stop({ graceMs: 0 });
      await forget([]);
      free.push(schema);
    })();
    return closing;
  };

  return {
    orchestrator,
    push: orchestrator.push,
    drain,
    pushed: pushed as TestOrchestrator["pushed"],
    published: published as TestOrchestrator["published"],
    ran,
    reset,
    close,
    [Symbol.asyncDispose]: close,
  };
}

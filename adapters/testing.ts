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
  type Metadata,
  type Observation,
  type Orchestrator,
  type OrchestratorOptions,
  type StandardSchemaV1,
  type Verdict,
} from "../src/index.ts";
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
   *
   * @throws Error where more than `maxAttempts` ran.
   */
  drain(options?: DrainOptions): Promise<Ran[]>;
  /** What was pushed of a command so far, follow-ups among it, in order. */
  pushed<Input extends StandardSchemaV1 | undefined, Output extends StandardSchemaV1 | undefined>(
    contract: Contract<Input, Output>,
  ): Promise<PushedCommand<InputOf<Input>>[]>;
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

  const ran: Ran[] = [];
  let changed = (): void => {};
  orchestrator.observe((observation: Observation) => {
    if (observation.type === "lease_lost") changed();
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
        const next = new Promise<void>((resolve) => {
          changed = resolve;
        });
        if (!(await live()).some(({ due, queue }) => due && queues.includes(queue))) return;
        await next;
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

  async function reset(): Promise<void> {
    await database.script(
      `truncate ${schema}.command, ${schema}.history, ${schema}.handler, ${schema}.act, ${schema}.paused_queue`,
    );
    ran.length = 0;
  }

  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closing ??= (async () => {
      await orchestrator.stop({ graceMs: 0 });
      await reset();
      free.push(schema);
    })();
    return closing;
  };

  return {
    orchestrator,
    push: orchestrator.push,
    drain,
    pushed: pushed as TestOrchestrator["pushed"],
    ran,
    reset,
    close,
    [Symbol.asyncDispose]: close,
  };
}

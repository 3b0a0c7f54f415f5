/**
 * What every driver, runtime and database must do alike, as a list of named cases. It imports no test framework, so that
 * it also runs where there is none; what wraps it gives a ground to stand on: a migrated database and ways to reach it.
 *
 * Pollers are set to a minute here: a case that waits for a poll instead of a hint runs into its time limit.
 */
import * as v from "valibot";
import {
  type AnyContract,
  type CommandOutcome,
  cancel,
  createOrchestrator,
  type Definition,
  type Driver,
  defineCommand,
  type Handler,
  type Observation,
  type Orchestrator,
  PermanentFailure,
  type Queryable,
  snooze,
  type WorkerOptions,
} from "../src/index.ts";

/** What a case stands on. */
export interface Ground {
  /** On a migrated database. */
  readonly driver: Driver;
  /** Runs `work` in a transaction of the driver's own library; rolls back where it throws. */
  transaction(work: (db: Queryable) => Promise<void>): Promise<void>;
}

export interface Case {
  readonly name: string;
  run(ground: Ground): Promise<void>;
}

export const minute = 60_000;
export const quick = { initialMs: 1, jitter: "none" } as const;

/** Fails where the two differ as JSON; undefined properties do not count. */
export function same(actual: unknown, expected: unknown, what: string): void {
  const [a, e] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== e) throw new Error(`${what}: got ${a}, wanted ${e}`);
}

export function truth(condition: unknown, what: string): asserts condition {
  if (!condition) throw new Error(`It does not hold that ${what}`);
}

export async function rejection(promise: Promise<unknown>): Promise<Error & { code?: string }> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error("It does not hold that the promise rejects");
}

/** Something that happens once; waiting for it has a limit. */
export function signal<T = void>() {
  let resolve!: (value: T) => void;
  const promise = new Promise<T>((done) => {
    resolve = done;
  });
  return {
    give: resolve,
    got: async (limitMs = 20_000): Promise<T> => {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error(`Nothing came within ${limitMs} ms`)), limitMs);
      });
      try {
        return await Promise.race([promise, late]);
      } finally {
        clearTimeout(timer);
      }
    },
  };
}

/** Looks until it holds; the time that it has ends with `what`. */
export async function eventually(
  what: string | (() => string),
  holds: () => boolean | Promise<boolean>,
  limitMs = 20_000,
): Promise<void> {
  const until = performance.now() + limitMs;
  while (!(await holds())) {
    if (performance.now() > until) {
      throw new Error(`It did not come to hold that ${typeof what === "string" ? what : what()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

let scenes = 0;

/** Names and a queue of its own for each case, so that all of them can share a database. */
export class Scene implements AsyncDisposable {
  readonly ground: Ground;
  readonly queue: string;
  readonly observations: Observation[] = [];
  readonly orchestrators: Orchestrator[] = [];

  constructor(ground: Ground) {
    this.ground = ground;
    this.queue = `q${Date.now().toString(36)}${scenes++}`;
  }

  /** A definition whose name and queue are this scene's own. */
  define<const D extends Definition>(definition: D): D & { name: string; queue: string } {
    return { queue: this.queue, backoff: quick, ...definition, name: `${definition.name}_${this.queue}` };
  }

  orchestrator(handlers: readonly Handler[], commands: readonly AnyContract[] = []): Orchestrator {
    const orchestrator = createOrchestrator({
      database: this.ground.driver,
      handlers,
      commands,
      observe: (observation) => void this.observations.push(observation),
    });
    this.orchestrators.push(orchestrator);
    return orchestrator;
  }

  /** An orchestrator with a worker that has begun. */
  async working(handlers: readonly Handler[], options: WorkerOptions = {}): Promise<Orchestrator> {
    const orchestrator = this.orchestrator(handlers);
    await this.work(orchestrator, options);
    return orchestrator;
  }

  async work(orchestrator: Orchestrator, options: WorkerOptions = {}) {
    const worker = orchestrator.startWorker({ queues: [this.queue], pollIntervalMs: minute, ...options });
    await worker.started;
    return worker;
  }

  seen<T extends Observation["type"]>(type: T): Extract<Observation, { type: T }>[] {
    return this.observations.filter((one) => one.type === type) as Extract<Observation, { type: T }>[];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.orchestrators.map((orchestrator) => orchestrator.stop({ graceMs: 0 })));
  }
}

/** Counts at once what has ended so far, as the duty would a minute later. */
export async function fold({ ground: { driver } }: Scene): Promise<void> {
  const query = "select f.more, f.later from orchestratum.fold_history(0) f";
  await eventually("all that has ended is counted", async () => {
    const [step] = await driver.query<{ more: boolean; later: boolean }>(query, []);
    return step !== undefined && !step.more && !step.later;
  });
}

/**
 * The driver, and `heard`, which resolves when somebody who works through it knows that this queue or name is paused:
 * a claim that was under way may still take what is pushed before. Once it is known to be resumed, `heard` is of the
 * next pause.
 */
export function hearingOfPause(
  driver: Driver,
  paused: string,
): {
  readonly database: Driver;
  readonly heard: () => Promise<void>;
} {
  let isKnown = false;
  let known = signal();
  const { listen } = driver;
  const database: Driver = {
    name: driver.name,
    script: (text) => driver.script(text),
    ...(listen ? { listen: listen.bind(driver) } : {}),
    async query<Row>(...statement: Parameters<Driver["query"]>) {
      const rows = await driver.query<Row>(...statement);
      const [text] = statement;
      const isLook = text.includes("paused_queue") && text.includes("paused_name") && !text.includes("paused_names");
      if (isLook) {
        const wasKnown = isKnown;
        isKnown = JSON.stringify(rows).includes(`"${paused}"`);
        if (isKnown) known.give();
        else if (wasKnown) known = signal();
      }
      return rows;
    },
  };
  return { database, heard: () => known.got() };
}

export const limited = { timeoutMs: 20_000 };

export function succeeded<O>(outcome: CommandOutcome<O>): O {
  if (outcome.status !== "succeeded") throw new Error(`Ended as ${outcome.status}: ${JSON.stringify(outcome.error)}`);
  return outcome.output;
}

export function scenario(name: string, play: (scene: Scene) => Promise<void>): Case {
  return {
    name,
    async run(ground) {
      const scene = new Scene(ground);
      try {
        await play(scene);
      } finally {
        await scene[Symbol.asyncDispose]();
      }
    },
  };
}

export const cases: readonly Case[] = [
  scenario("push() then waitFor() gives the output as the contract's schema answers it", async (scene) => {
    const add = defineCommand(
      scene.define({
        name: "add",
        input: v.object({ a: v.number(), b: v.optional(v.number(), 10) }),
        output: v.object({
          sum: v.pipe(
            v.number(),
            v.transform((sum) => `=${sum}`),
          ),
        }),
      }),
    );
    const { push, waitFor } = await scene.working([add.handle(({ input }) => ({ sum: input.a + input.b }))]);
    const { id } = await push(add({ a: 1 }));
    same(succeeded(await waitFor(id, limited)), { sum: "=11" }, "the output");
  }),

  scenario("push() of many gives each its id, and they run in their order", async (scene) => {
    const step = defineCommand(scene.define({ name: "step", input: v.number() }));
    const other = defineCommand(scene.define({ name: "other", input: v.string(), output: v.string() }));
    const order: number[] = [];
    const { push, waitFor } = await scene.working(
      [step.handle(({ input }) => void order.push(input)), other.handle(({ input }) => input.toUpperCase())],
      { concurrency: 1 },
    );
    const numbers = Array.from({ length: 50 }, (_, index) => index);
    await push(numbers.map((number) => step(number)));
    const [, last] = await push([step(50), other("done")]);
    same(succeeded(await waitFor(last.id, limited)), "DONE", "the output");
    same(order, [...numbers, 50], "the order");
  }),

  scenario("the handler sees exactly the input that was pushed", async (scene) => {
    const inputs = [
      null,
      0,
      -1.5e300,
      1e-7,
      9007199254740991,
      "",
      "ünïcödé 🎉 \u2028 ' \" \\ $1 {}",
      [],
      {},
      [[[[]]]],
      { "": 1, "a b": [null, true, false] },
      { long: "x".repeat(200_000) },
      Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`key${index}`, index])),
    ] as const;
    const echo = defineCommand(scene.define({ name: "echo" }));
    const seen = new Map<string, string>();
    const { push, waitFor, get } = await scene.working([
      echo.handle(({ id, input }) => void seen.set(id, JSON.stringify(input))),
    ]);
    const pushed = await push(inputs.map((input) => echo(input)));
    for (const [place, { id }] of pushed.entries()) {
      await waitFor(id, limited);
      same(seen.get(id), JSON.stringify(inputs[place]), `input ${place}`);
      same((await get(id))?.input, inputs[place], `input ${place} as read`);
    }
  }),

  scenario("push() refuses an input that JSON would change, before any statement", async (scene) => {
    const take = defineCommand(scene.define({ name: "take" }));
    const { push, counts } = scene.orchestrator([], [take]);
    class Money {
      cents = 1;
    }
    const cycle: Record<string, unknown> = {};
    cycle.self = cycle;
    let deep: unknown = 1;
    for (let level = 0; level < 65; level++) deep = [deep];
    const bad: [unknown, string][] = [
      [{ a: [{ b: "nul\0" }] }, "a[0].b"],
      [{ a: "\ud800" }, "a"],
      [{ ["\ud800"]: 1 }, ""],
      [JSON.parse('{"x": {"__proto__": 1}}'), "x"],
      [{ n: 10n }, "n"],
      [{ when: new Date(0) }, "when"],
      [{ n: Number.NaN }, "n"],
      [{ m: new Map() }, "m"],
      [{ money: new Money() }, "money"],
      [cycle, "self"],
      [deep, "[0]"],
      [{ f() {} }, "f"],
      [[undefined], "[0]"],
      ["x".repeat(262_144), ""],
    ];
    for (const [input, path] of bad) {
      const error = (await rejection(push(take(input as never)))) as Error & {
        code: string;
        issues: { path: string }[];
      };
      same(error.code, "ORCHESTRATUM_INVALID_INPUT", "the code");
      truth(error.issues[0]?.path.startsWith(path), `the path of ${error.message} begins with ${path}`);
      truth(error.message.includes(`command "take_${scene.queue}"`), "the message names the command");
    }
    // One of a list spoils the list.
    await rejection(push([take(1), take(Number.NaN as never)]));
    same(
      (await counts()).filter((count) => count.queue === scene.queue),
      [],
      "what was pushed",
    );
  }),

  scenario("push() lists every issue of the schema with its path", async (scene) => {
    const send = defineCommand(
      scene.define({
        name: "send",
        input: v.object({ to: v.array(v.pipe(v.string(), v.email())), subject: v.string() }),
      }),
    );
    const { push } = scene.orchestrator([], [send]);
    const error = (await rejection(push(send({ to: ["a@example.com", "b"], subject: 1 as never })))) as Error & {
      issues: { path: string }[];
    };
    same(
      error.issues.map((issue) => issue.path),
      ["to[1]", "subject"],
      "the paths",
    );
  }),

  scenario("push() with an id changes nothing when repeated, and refuses another input", async (scene) => {
    const count = defineCommand(scene.define({ name: "count", input: v.number() }));
    let runs = 0;
    const orchestrator = scene.orchestrator([count.handle(() => void runs++)]);
    const { push, waitFor, counts } = orchestrator;
    const id = crypto.randomUUID();
    await push(count(1, { id }));
    await push(count(1, { id }));
    same((await rejection(push(count(2, { id })))).code, "ORCHESTRATUM_COMMAND_CONFLICT", "while it waits");
    await scene.work(orchestrator);
    await waitFor(id, limited);
    await push(count(1, { id: id.toUpperCase() }));
    same((await rejection(push(count(2, { id })))).code, "ORCHESTRATUM_COMMAND_CONFLICT", "after it has ended");
    const live = await counts();
    same(
      live.filter((one) => one.queue === scene.queue),
      [{ queue: scene.queue, status: "succeeded", count: 1 }],
      "what there is",
    );
    same(runs, 1, "how often it ran");
  }),

  scenario(
    "push() within a transaction becomes visible with its commit, and not at all after a rollback",
    async (scene) => {
      const note = defineCommand(scene.define({ name: "note", input: v.string() }));
      const ran: string[] = [];
      const { push, waitFor, get } = await scene.working([note.handle(({ input }) => void ran.push(input))]);
      let kept = "";
      let lost = "";
      await scene.ground.transaction(async (db) => {
        kept = (await push([note("kept"), note("kept too")], { db }))[0].id;
      });
      same((await waitFor(kept, limited)).status, "succeeded", "what was committed");
      await rejection(
        scene.ground.transaction(async (db) => {
          lost = (await push(note("lost"), { db })).id;
          throw new Error("rolled back");
        }),
      );
      same(await get(lost), undefined, "what was rolled back");
      truth(!ran.includes("lost"), "what was rolled back did not run");
    },
  ),

  scenario("a failed attempt is retried, and each one is in the trail", async (scene) => {
    const flaky = defineCommand(scene.define({ name: "flaky", retries: 5, output: v.number() }));
    const { push, waitFor, get } = await scene.working([
      flaky.handle(({ attempt }) => {
        if (attempt < 3) throw Object.assign(new Error(`no ${attempt}`), { code: "EFLAKY" });
        return attempt;
      }),
    ]);
    const { id } = await push(flaky());
    same(succeeded(await waitFor(id, limited)), 3, "the output");
    const command = await get(id);
    same(
      command?.trail.map(({ code, message, fence, attempt }) => [code, message, fence, attempt]),
      [
        ["EFLAKY", "no 1", 1, 1],
        ["EFLAKY", "no 2", 2, 2],
      ],
      "the trail",
    );
    same([command?.fence, command?.attempt, command?.retriesLeft], [3, 3, 3], "fence, attempt, retries left");
  }),

  scenario("retries: 5 means six attempts, retries: 0 one", async (scene) => {
    const six = defineCommand(scene.define({ name: "six", retries: 5 }));
    const one = defineCommand(scene.define({ name: "one", retries: 0 }));
    const runs = { six: 0, one: 0 };
    const { push, waitFor } = await scene.working([
      six.handle(() => {
        runs.six++;
        throw new Error("always");
      }),
      one.handle(() => {
        runs.one++;
        throw new Error("always");
      }),
    ]);
    const [a, b, c] = await push([six(), one(), six(undefined, { retries: 1 })]);
    const outcomes = await Promise.all([waitFor(a.id, limited), waitFor(b.id, limited), waitFor(c.id, limited)]);
    same(
      outcomes.map((outcome) => outcome.status),
      ["failed", "failed", "failed"],
      "the statuses",
    );
    same(runs, { six: 8, one: 1 }, "the attempts");
  }),

  scenario("backoff can be a function of the attempt and the error", async (scene) => {
    const asked: unknown[] = [];
    const late = defineCommand({
      ...scene.define({ name: "late", retries: 2 }),
      backoff: (attempt, error) => {
        asked.push([attempt, (error as Error).message]);
        return 5;
      },
    });
    const { push, waitFor } = await scene.working([
      late.handle(({ attempt }) => {
        throw new Error(`no ${attempt}`);
      }),
    ]);
    await waitFor((await push(late())).id, limited);
    same(
      asked,
      [
        [1, "no 1"],
        [2, "no 2"],
      ],
      "what it was asked",
    );
  }),

  scenario("a permanent failure is not retried, whatever is thrown is recorded", async (scene) => {
    const fail = defineCommand(scene.define({ name: "fail", input: v.number(), retries: 3 }));
    const hostile = new Proxy(
      {},
      {
        get() {
          throw new Error("no");
        },
        ownKeys() {
          throw new Error("no");
        },
      },
    );
    const thrown: unknown[] = [
      new PermanentFailure("never"),
      null,
      "nul \0 and \ud800",
      hostile,
      new Error("x".repeat(1_000_000)),
    ];
    const runs = thrown.map(() => 0);
    const { push, waitFor } = await scene.working([
      fail.handle(({ input }) => {
        runs[input] = (runs[input] ?? 0) + 1;
        throw thrown[input];
      }),
    ]);
    for (const place of thrown.keys()) {
      const outcome = await waitFor((await push(fail(place))).id, limited);
      truth(outcome.status === "failed" && outcome.error !== undefined, `throwing number ${place} ends as failed`);
    }
    same(runs, [1, 4, 4, 4, 4], "the attempts");
  }),

  scenario("an output that cannot be stored is a failed attempt, never a command that is stuck", async (scene) => {
    const give = defineCommand(scene.define({ name: "give", input: v.number(), output: v.unknown(), retries: 1 }));
    const outputs: unknown[] = [10n, "nul \0", "\udfff", new Date(), { a: new Map() }, "x".repeat(300_000), () => 1];
    const { push, waitFor } = await scene.working([give.handle(({ input }) => outputs[input])]);
    for (const place of outputs.keys()) {
      const outcome = await waitFor((await push(give(place))).id, limited);
      truth(outcome.status === "failed", `output number ${place} ends as failed`);
      same(outcome.error?.code, "invalid_output", `the code of output number ${place}`);
    }
  }),

  scenario(
    "an output that the contract refuses is a failed attempt, and without a contract nothing is stored",
    async (scene) => {
      const typed = defineCommand(scene.define({ name: "typed", output: v.number(), retries: 0 }));
      const free = defineCommand(scene.define({ name: "free" }));
      const cyclic: Record<string, unknown> = {};
      cyclic.self = cyclic;
      const { push, waitFor, get } = await scene.working([
        typed.handle(() => "no" as never),
        free.handle(() => cyclic),
      ]);
      const [a, b] = await push([typed(), free()]);
      same((await waitFor(a.id, limited)).status, "failed", "the typed one");
      same(succeeded(await waitFor(b.id, limited)), undefined, "the free one");
      same((await get(b.id))?.output, undefined, "what is stored of it");
    },
  ),

  scenario("onSuccess is part of the attempt, and its follow-ups commit with the outcome", async (scene) => {
    const parent = defineCommand(scene.define({ name: "parent", output: v.number(), retries: 2 }));
    const child = defineCommand(scene.define({ name: "child", input: v.number() }));
    const done = signal<{ input: number; metadata: unknown }>();
    let hooks = 0;
    const { push, get, waitFor } = await scene.working([
      parent.handle(({ attempt }) => attempt, {
        onSuccess: ({ output }) => {
          hooks++;
          if (output < 2) throw new Error("not yet");
          return [child(output, { priority: 1 })];
        },
      }),
      child.handle(({ input, metadata }) => done.give({ input, metadata })),
    ]);
    const { id } = await push(parent(undefined, { metadata: { actor: { id: "7", type: "user" }, source: "test" } }));
    same(succeeded(await waitFor(id, limited)), 2, "the output");
    const { input, metadata } = await done.got();
    same([input, hooks], [2, 2], "what the follow-up got, and how often the hook ran");
    same(
      metadata,
      { correlationId: id, actor: { id: "7", type: "user" }, source: "test", causationId: id },
      "what travels along",
    );
    same(
      (await get(id))?.trail.map((entry) => entry.message),
      ["not yet"],
      "the trail",
    );
  }),

  scenario("a handler's own pushes commit with its success only", async (scene) => {
    const parent = defineCommand(scene.define({ name: "parent", retries: 1 }));
    const child = defineCommand(scene.define({ name: "child", input: v.number() }));
    const ran: number[] = [];
    let promised = "";
    const done = signal();
    const { push, get, waitFor } = await scene.working([
      parent.handle((context) => {
        promised = context.push(child(context.attempt)).id;
        if (context.attempt === 1) throw new Error("not yet");
      }),
      child.handle(({ input }) => {
        ran.push(input);
        done.give();
      }),
    ]);
    const { id } = await push(parent());
    await waitFor(id, limited);
    await done.got();
    same(ran, [2], "what ran");
    same((await get(promised))?.parentId, id, "the parent of the follow-up, under the id that was promised");
  }),

  scenario("onFailure runs once, after the final failure, as a command of its own", async (scene) => {
    const risky = defineCommand(scene.define({ name: "risky", input: v.string(), retries: 2 }));
    const compensate = defineCommand(scene.define({ name: "compensate", input: v.string() }));
    const done = signal<string>();
    const hooks: unknown[] = [];
    const { push, waitFor } = await scene.working([
      risky.handle(
        ({ attempt }) => {
          throw new Error(`no ${attempt}`);
        },
        {
          onFailure: ({ id, input, status, error }) => {
            hooks.push([id, input, status, error?.message]);
            // A hook that fails has attempts of its own.
            if (hooks.length === 1) throw new Error("the hook fails, too");
            return compensate(`${input}, undone`);
          },
        },
      ),
      compensate.handle(({ input }) => done.give(input)),
    ]);
    const { id } = await push(risky("charged"));
    same((await waitFor(id, limited)).status, "failed", "the status");
    // The hook's command has the contract's backoff.
    same(await done.got(), "charged, undone", "the follow-up");
    same(
      hooks,
      [
        [id, "charged", "failed", "no 3"],
        [id, "charged", "failed", "no 3"],
      ],
      "what the hook got",
    );
  }),

  scenario("snooze() puts a command off and hands its attempt back", async (scene) => {
    const nap = defineCommand(scene.define({ name: "nap", retries: 0, output: v.array(v.number()) }));
    let naps = 0;
    const { push, waitFor, get } = await scene.working([
      nap.handle(({ attempt, fence }) => {
        naps++;
        if (naps === 1) return snooze({ delayMs: 20 });
        if (naps === 2) return snooze(new Date(Date.now() + 20));
        return [attempt, fence];
      }),
    ]);
    const { id } = await push(nap());
    same(succeeded(await waitFor(id, limited)), [1, 3], "attempt and fence");
    same(
      (await get(id))?.trail.map((entry) => entry.code),
      ["snoozed", "snoozed"],
      "the trail",
    );
  }),

  scenario("cancel() returned by a handler ends the command as cancelled", async (scene) => {
    const quit = defineCommand(scene.define({ name: "quit" }));
    const { push, waitFor } = await scene.working([quit.handle(() => cancel("withdrawn"))]);
    const outcome = await waitFor((await push(quit())).id, limited);
    truth(outcome.status === "cancelled", "it is cancelled");
    same(outcome.error?.message, "withdrawn", "the reason");
  }),

  scenario("cancel(id) ends what waits with no worker alive, and its hook runs when one comes", async (scene) => {
    const wait = defineCommand(scene.define({ name: "wait", input: v.string() }));
    const hooked = signal<unknown>();
    const handler = wait.handle(() => {}, {
      onCancellation: ({ input, status }) => hooked.give([input, status]),
    });
    const first = await scene.working([handler]);
    await first.stop();
    const orchestrator = scene.orchestrator([handler]);
    const [a, b] = await orchestrator.push([wait("now"), wait("later", { delayMs: minute })]);
    const results = await orchestrator.cancel([a.id, b.id.toUpperCase()]);
    same([...results.values()], ["cancelled", "cancelled"], "the results");
    same((await orchestrator.waitFor(a.id, limited)).status, "cancelled", "the status");
    same(await orchestrator.cancel(a.id), "finished", "a second cancel");
    same(await orchestrator.cancel(crypto.randomUUID()), "unknown", "an unknown id");
    await scene.work(orchestrator);
    truth(["now", "later"].includes(((await hooked.got()) as string[])[0] as string), "the hook got the input");
  }),

  scenario("cancel(id) aborts the signal of what runs, and the end is cancelled", async (scene) => {
    const long = defineCommand(scene.define({ name: "long" }));
    const begun = signal();
    const hooked = signal<unknown>();
    const {
      push,
      cancel: cancelCommand,
      waitFor,
    } = await scene.working([
      long.handle(
        ({ signal: aborted }) =>
          new Promise((_, reject) => {
            aborted.addEventListener("abort", () => reject(aborted.reason));
            begun.give();
          }),
        { onCancellation: ({ status }) => hooked.give(status) },
      ),
    ]);
    const { id } = await push(long());
    await begun.got();
    const at = performance.now();
    same(await cancelCommand(id), "requested", "the result");
    same((await waitFor(id, limited)).status, "cancelled", "the status");
    truth(performance.now() - at < 10_000, "it did not wait for a heartbeat");
    same(await hooked.got(), "cancelled", "what the hook got");
  }),

  scenario("cancel(id) of another process aborts the signal of what runs, without a heartbeat", async (scene) => {
    const long = defineCommand(scene.define({ name: "long" }));
    const begun = signal();
    const aborted = signal();
    // A heartbeat comes after a third of the lease: too late to tell of it, but where nothing else can.
    const hears = scene.ground.driver.listen !== undefined;
    const worker = await scene.working(
      [
        long.handle(
          ({ signal: ended }) =>
            new Promise((_, reject) => {
              ended.addEventListener("abort", () => {
                aborted.give();
                reject(ended.reason);
              });
              begun.give();
            }),
        ),
      ],
      { leaseMs: hears ? 10 * minute : 30_000 },
    );
    // Nothing but the database is between the two.
    const other = scene.orchestrator([], [long]);
    const { id } = await other.push(long());
    await begun.got();
    if (hears) {
      await eventually("notifications arrive", () => scene.seen("listening").some(({ proven }) => proven));
    }
    same(await other.cancel(id), "requested", "the result");
    await aborted.got();
    same((await worker.waitFor(id, limited)).status, "cancelled", "the status");
  }),

  scenario("a handler that succeeds although it was to be cancelled has succeeded", async (scene) => {
    const stubborn = defineCommand(scene.define({ name: "stubborn", output: v.string() }));
    const begun = signal();
    const {
      push,
      cancel: cancelCommand,
      waitFor,
    } = await scene.working([
      stubborn.handle(
        ({ signal: aborted }) =>
          new Promise<string>((resolve) => {
            aborted.addEventListener("abort", () => resolve("done all the same"));
            begun.give();
          }),
      ),
    ]);
    const { id } = await push(stubborn());
    await begun.got();
    await cancelCommand(id);
    same(succeeded(await waitFor(id, limited)), "done all the same", "the output");
  }),

  scenario("a handler that ignores its cancellation is given up after the grace time", async (scene) => {
    const deaf = defineCommand(scene.define({ name: "deaf" }));
    const begun = signal();
    const release = signal();
    const {
      push,
      cancel: cancelCommand,
      waitFor,
    } = await scene.working(
      [
        deaf.handle(async () => {
          begun.give();
          await release.got();
        }),
      ],
      { abortGraceMs: 100, concurrency: 1 },
    );
    const { id } = await push(deaf());
    await begun.got();
    await cancelCommand(id);
    same((await waitFor(id, limited)).status, "cancelled", "the status");
    same(scene.seen("handler_stuck").length, 1, "what was said");
    release.give();
  }),

  scenario("a timeout aborts the signal and uses up the attempt; the late result has no say", async (scene) => {
    const slow = defineCommand(scene.define({ name: "slow", timeoutMs: 150, retries: 1, output: v.string() }));
    const reasons: unknown[] = [];
    const release = signal();
    const { push, waitFor, stop } = await scene.working(
      [
        slow.handle(async ({ signal: aborted }) => {
          aborted.addEventListener("abort", () => reasons.push((aborted.reason as { code: string }).code));
          await release.got();
          return "too late";
        }),
      ],
      { abortGraceMs: 50 },
    );
    const { id } = await push(slow());
    same((await waitFor(id, limited)).status, "timed_out", "the status");
    release.give();
    same(reasons, ["ORCHESTRATUM_TIMED_OUT", "ORCHESTRATUM_TIMED_OUT"], "the reasons");
    // What the late results would write is written by then.
    await stop();
    const verdicts = scene.seen("command_finished").map(({ verdict }) => verdict);
    same(verdicts, ["retry", "timed_out"], "what was said");
    const command = await scene.orchestrator([], [slow]).get(id);
    same([command?.status, command?.output, command?.attempt], ["timed_out", undefined, 2], "what is recorded");
  }),

  scenario("what is scheduled runs when it is due, though the worker was asleep", async (scene) => {
    const tick = defineCommand(scene.define({ name: "tick", input: v.number() }));
    const order: number[] = [];
    // One at a time: where both are due at once, a claim takes first what was due first.
    const options = { concurrency: 1 };
    const { push, waitFor } = await scene.working([tick.handle(({ input }) => void order.push(input))], options);
    const [a, b] = await push([tick(2, { delayMs: 600 }), tick(1, { runAt: new Date(Date.now() + 250) })]);
    await Promise.all([waitFor(a.id, limited), waitFor(b.id, limited)]);
    same(order, [1, 2], "the order");
  }),

  scenario("priority 0 goes first", async (scene) => {
    const job = defineCommand(scene.define({ name: "job", input: v.number() }));
    const order: number[] = [];
    const orchestrator = scene.orchestrator([job.handle(({ input }) => void order.push(input))]);
    const pushed = await orchestrator.push([9, 5, 0, 5, 1].map((priority) => job(priority, { priority })));
    await scene.work(orchestrator, { concurrency: 1 });
    for (const { id } of pushed) await orchestrator.waitFor(id, limited);
    // One claim in ten starts at a random lane, so the order may be turned, once or twice.
    truth(
      order.filter((priority, place) => place > 0 && priority < (order[place - 1] as number)).length <= 2,
      `${order} is almost in order`,
    );
  }),

  scenario("a name that no handler knows waits and says so, and runs when a worker knows it", async (scene) => {
    const known = defineCommand(scene.define({ name: "known" }));
    const strange = defineCommand(scene.define({ name: "strange", output: v.string() }));
    const first = await scene.working([known.handle(() => {})]);
    const { id } = await first.push(strange());
    let put: Awaited<ReturnType<typeof first.get>>;
    // It is claimed again and again: while it is, its attempt counts.
    await eventually("it is put off", async () => {
      put = await first.get(id);
      return put?.unknownSince !== undefined && put.status !== "running";
    });
    same(put?.attempt, 0, "the attempt, which was handed back");
    truth(scene.seen("command_unknown").length > 0, "it was said");
    const second = await scene.working([strange.handle(() => "found")]);
    same(succeeded(await second.waitFor(strange, id, limited)), "found", "the output");
  }),

  scenario("an unknown name ends as not_found only where that is asked for", async (scene) => {
    const known = defineCommand(scene.define({ name: "known" }));
    const strange = defineCommand(scene.define({ name: "strange" }));
    const { push, waitFor } = await scene.working([known.handle(() => {})], { notFoundAfterMs: 300 });
    same((await waitFor((await push(strange())).id, limited)).status, "not_found", "the status");
  }),

  scenario("a name without handlers is not found though ticks of other queues are far between", async (scene) => {
    const known = defineCommand(scene.define({ name: "known" }));
    const removed = defineCommand(scene.define({ name: "removed" }));
    const moved = defineCommand(scene.define({ name: "moved" }));
    await (await scene.working([removed.handle(() => {})])).stop();
    await scene.orchestrator([moved.handle(() => {})]).tick({ queues: [`${scene.queue}b`] });
    const past =
      "update orchestratum.handler set seen_at = seen_at - interval '10 minutes' where name in ($1::text, $2::text)";
    await scene.ground.driver.query(past, [removed.name, moved.name]);
    const { push, waitFor, get } = await scene.working([known.handle(() => {})], { notFoundAfterMs: 300 });
    same((await waitFor((await push(removed())).id, limited)).status, "not_found", "of what nobody has a handler for");
    // The tick's may come back: it is as good as there.
    const { id } = await push(moved());
    const unknownMs = async () => Date.now() - Number((await get(id))?.unknownSince ?? Date.now());
    await eventually("it is unknown for longer", async () => (await unknownMs()) > 1_500);
    same((await get(id))?.finishedAt, undefined, "the end of what others have a handler for");
  }),

  scenario("an older input is upgraded, a newer one waits, and one that is refused fails at once", async (scene) => {
    const { name, queue } = scene.define({ name: "versioned" });
    const v1 = defineCommand({ name, queue, input: v.object({ to: v.string() }) });
    const v2 = defineCommand({
      name,
      queue,
      version: 2,
      input: v.object({ to: v.array(v.string()) }),
      output: v.array(v.string()),
      retries: 3,
      upgrade: (input: unknown) => ({ to: [(input as { to: string }).to] }),
    });
    const { push, waitFor } = await scene.working([v2.handle(({ input }) => input.to)]);
    const old = await push(v1({ to: "a" }));
    same(succeeded(await waitFor(v2, old.id, limited)), ["a"], "the upgraded one");
    await scene.ground.driver.query("select orchestratum.push($1::text, $2::text::json, $3::text::json)", [
      name,
      '{"to": 5}',
      JSON.stringify({ queue, version: 2, id: "00000000-0000-4000-8000-0000000000aa" }),
    ]);
    const outcome = await waitFor("00000000-0000-4000-8000-0000000000aa", limited);
    truth(outcome.status === "failed", "the refused one failed");
    same([outcome.error?.code, outcome.error?.attempt], ["invalid_input", 1], "its error");
  }),

  scenario("push() of plain SQL takes what the handler registered, and starts at once", async (scene) => {
    const fromSql = defineCommand(
      scene.define({ name: "from_sql", priority: 2, timeoutMs: 1_234, retries: 7, input: v.object({ n: v.number() }) }),
    );
    const got = signal<number>();
    const { get } = await scene.working([fromSql.handle(({ input }) => got.give(input.n))]);
    const [row] = await scene.ground.driver.query<{ id: string }>(
      "select orchestratum.push($1::text, $2::text::json)::text as id",
      [fromSql.name, '{"n": 41}'],
    );
    same(await got.got(), 41, "the input");
    const command = await get(row?.id as string);
    same([command?.queue, command?.priority, command?.timeoutMs], [scene.queue, 2, 1_234], "what was registered");
  }),

  scenario("progress is recorded while the handler runs", async (scene) => {
    const long = defineCommand(scene.define({ name: "long" }));
    const release = signal();
    const { push, get, waitFor } = await scene.working([
      long.handle(async ({ progress }) => {
        progress({ done: 1 });
        progress({ done: 2 });
        await release.got();
      }),
    ]);
    const { id } = await push(long());
    const written = async () => JSON.stringify((await get(id))?.progress);
    await eventually("the progress is written", async () => (await written()) === '{"done":2}');
    release.give();
    await waitFor(id, limited);
  }),

  scenario("waitFor() ends at its time limit, by its signal, and for an id that is not there", async (scene) => {
    const never = defineCommand(scene.define({ name: "never" }));
    const { push, waitFor, stop } = scene.orchestrator([], [never]);
    const { id } = await push(never());
    same((await rejection(waitFor(id, { timeoutMs: 50 }))).code, "ORCHESTRATUM_WAIT_TIMEOUT", "the time limit");
    const controller = new AbortController();
    const waiting = rejection(waitFor(id, { signal: controller.signal }));
    controller.abort(new Error("enough"));
    same((await waiting).message, "enough", "the signal");
    same((await rejection(waitFor(crypto.randomUUID()))).code, "ORCHESTRATUM_UNKNOWN_COMMAND", "an unknown id");
    const stopped = rejection(waitFor(id));
    await stop();
    same((await stopped).code, "ORCHESTRATUM_STOPPED", "a stop");
  }),

  scenario("a thousand waiters share their statements", async (scene) => {
    const job = defineCommand(scene.define({ name: "job", input: v.number(), output: v.number() }));
    let looks = 0;
    const counting: Driver = {
      ...scene.ground.driver,
      query: (text, params, options) => {
        if (text.includes(".wait_for(")) looks++;
        return scene.ground.driver.query(text, params, options);
      },
    };
    const orchestrator = createOrchestrator({ database: counting, handlers: [job.handle(({ input }) => input)] });
    try {
      const pushed = await orchestrator.push(Array.from({ length: 1_000 }, (_, index) => job(index)));
      const outputs = Promise.all(pushed.map(({ id }) => orchestrator.waitFor(id, limited)));
      orchestrator.startWorker({ queues: [scene.queue], pollIntervalMs: minute });
      same(
        (await outputs).map(succeeded),
        Array.from({ length: 1_000 }, (_, index) => index),
        "the outputs",
      );
      truth(looks < 400, `${looks} statements are fewer than 400`);
    } finally {
      await orchestrator.stop();
    }
  }),

  scenario("sixteen that push and wait at once never wait for a poll", async (scene) => {
    const ping = defineCommand(scene.define({ name: "ping", output: v.number() }));
    const { push, waitFor } = await scene.working([ping.handle(() => 1)]);
    let done = 0;
    await Promise.all(
      Array.from({ length: 16 }, async () => {
        while (done++ < 10_000) succeeded(await waitFor((await push(ping())).id, { timeoutMs: 10_000 }));
      }),
    );
  }),

  scenario(
    "stop() lets running work finish, hands the rest back, and another worker starts it at once",
    async (scene) => {
      const job = defineCommand(scene.define({ name: "job", input: v.string(), output: v.string() }));
      const begun = signal();
      const finish = signal();
      let runs = 0;
      const handler = job.handle(async ({ input, signal: aborted }) => {
        runs++;
        if (input === "short") {
          begun.give();
          await finish.got();
          return "finished";
        }
        if (runs > 2) return "by another";
        return await new Promise<string>((_, reject) => {
          aborted.addEventListener("abort", () => reject(aborted.reason));
        });
      });
      const first = scene.orchestrator([handler]);
      const worker = await scene.work(first, { abortGraceMs: 1_000 });
      const [short, long] = await first.push([job("short"), job("long")]);
      await begun.got();
      const second = await scene.working([handler]);
      const stopping = worker.stop({ graceMs: 300 });
      finish.give();
      await stopping;
      await worker.stop();
      same(worker.isRunning, false, "isRunning");
      same(succeeded(await second.waitFor(job, short.id, limited)), "finished", "what could finish");
      same(succeeded(await second.waitFor(job, long.id, limited)), "by another", "what was handed back");
      const command = await second.get(long.id);
      same([command?.attempt, command?.fence], [1, 2], "attempt and fence of what was handed back");
    },
  ),

  scenario("stop() ends what may be started only once and had to be aborted as failed", async (scene) => {
    const once = defineCommand(scene.define({ name: "once", retries: 0 }));
    const begun = signal();
    const handler = once.handle(
      ({ signal: aborted }) =>
        new Promise((_, reject) => {
          aborted.addEventListener("abort", () => reject(aborted.reason));
          begun.give();
        }),
    );
    const orchestrator = await scene.working([handler]);
    const { id } = await orchestrator.push(once());
    await begun.got();
    await orchestrator.workers[0]?.stop({ graceMs: 0 });
    const outcome = await orchestrator.waitFor(id, limited);
    truth(outcome.status === "failed", "it failed");
    same(outcome.error?.code, "stopped", "the code");
  }),

  scenario("a queue named after an instance addresses that instance", async (scene) => {
    const hello = defineCommand(scene.define({ name: "hello", output: v.string() }));
    const instance = `i_${scene.queue}`;
    const orchestrator = createOrchestrator({
      database: scene.ground.driver,
      handlers: [hello.handle(() => "it is me")],
      instance,
    });
    try {
      orchestrator.startWorker({ queues: [`other_${scene.queue}`], pollIntervalMs: minute });
      const { id } = await orchestrator.push(hello(undefined, { queue: instance }));
      same(succeeded(await orchestrator.waitFor(id, limited)), "it is me", "the output");
    } finally {
      await orchestrator.stop();
    }
  }),

  scenario("counts() tells what there is by queue and status, hook commands left out", async (scene) => {
    const job = defineCommand(scene.define({ name: "job", input: v.boolean(), retries: 0 }));
    const hooked = signal();
    const { push, waitFor, counts } = await scene.working([
      job.handle(
        ({ input }) => {
          if (!input) throw new Error("no");
        },
        { onFailure: () => hooked.give() },
      ),
    ]);
    const pushed = await push([job(true), job(true), job(false), job(true, { delayMs: minute })]);
    for (const { id } of pushed.slice(0, 3)) await waitFor(id, limited);
    await hooked.got();
    const own = (list: Awaited<ReturnType<typeof counts>>) =>
      list.filter((one) => one.queue === scene.queue).map((one) => [one.status, one.count]);
    same(
      own(await counts()),
      [
        ["failed", 1],
        ["scheduled", 1],
        ["succeeded", 2],
      ],
      "all",
    );
    same(own(await counts({ finished: false })), [["scheduled", 1]], "those that live");
  }),

  scenario("counts() and queues() count hook commands where they are asked for", async (scene) => {
    const [hooked, release] = [signal(), signal()];
    const risky = defineCommand(scene.define({ name: "risky", retries: 0 }));
    const { push, waitFor, counts, queues, list } = await scene.working([
      risky.handle(
        () => {
          throw new Error("no");
        },
        {
          onFailure: async () => {
            hooked.give();
            await release.got();
          },
        },
      ),
    ]);
    const { id } = await push(risky());
    await waitFor(id, limited);
    await hooked.got();
    const counted = async (options?: Parameters<typeof counts>[0]) =>
      (await counts(options)).filter((one) => one.queue === scene.queue).map((one) => [one.status, one.count]);
    const running = async (options?: Parameters<typeof queues>[0]) =>
      (await queues(options)).find((one) => one.queue === scene.queue)?.running;
    same(await counted(), [["failed", 1]], "all");
    same(await counted({ hooks: false }), [["failed", 1]], "all, without hooks, said so");
    same(
      await counted({ hooks: true }),
      [
        ["failed", 1],
        ["running", 1],
      ],
      "all, with hooks",
    );
    same(await counted({ finished: false }), [], "those that live");
    same(await counted({ finished: false, hooks: true }), [["running", 1]], "those that live, with hooks");
    same([await running(), await running({ hooks: false })], [undefined, undefined], "the queue");
    same(await running({ hooks: true }), 1, "the queue, with hooks");
    release.give();
    const [hook] = (await list({ parentId: id, hooks: true })).commands;
    await waitFor((hook as { id: string }).id, limited);
    same(
      await counted({ hooks: true }),
      [
        ["failed", 1],
        ["succeeded", 1],
      ],
      "all, with hooks, in the end",
    );
    same(await running({ hooks: true }), undefined, "the queue in the end");
  }),

  scenario("a command that fills the event loop is named before its lease is lost", async (scene) => {
    const block = defineCommand(scene.define({ name: "block" }));
    const { push, waitFor } = await scene.working(
      [
        block.handle(async () => {
          await Promise.resolve();
          const until = performance.now() + 1_000;
          while (performance.now() < until);
          await new Promise((resolve) => setTimeout(resolve, 1));
        }),
      ],
      // The alarm is set for a tenth of it at most, and counts as late after a sixth more: together 800 ms.
      { leaseMs: 3_000 },
    );
    const { id } = await push(block());
    same((await waitFor(id, limited)).status, "succeeded", "the status");
    const said = scene.seen("event_loop_blocked");
    truth(
      said.some((one) => one.commands[0]?.id === id),
      `${JSON.stringify(said)} names the command`,
    );
    same(scene.seen("lease_lost"), [], "leases that were lost");
  }),
];

/** What operators may do, as they notice it: on every driver and database alike. See conformance.ts for the form. */
import * as v from "valibot";
import { createOrchestrator, type Driver, defineCommand } from "../src/index.ts";
import {
  type Case,
  eventually,
  hearingOfPause,
  limited,
  minute,
  rejection,
  type Scene,
  same,
  scenario,
  signal,
  succeeded,
  truth,
} from "./conformance.ts";

/** Runs what a worker started before it would have run if it could. */
async function settled(scene: Scene, ran: () => number, count: number): Promise<void> {
  const marker = defineCommand({ name: `marker_${scene.queue}`, queue: `marker-${scene.queue}` });
  const orchestrator = await scene.working([marker.handle(() => {})], { queues: [`marker-${scene.queue}`] });
  const { id } = await orchestrator.push(marker());
  await orchestrator.waitFor(id, limited);
  same(ran(), count, "how many ran");
}

export const controlCases: readonly Case[] = [
  scenario("retry() runs a failed command again under its id, with all its attempts and its trail", async (scene) => {
    const pay = defineCommand(scene.define({ name: "pay", retries: 1, output: v.string() }));
    let broken = true;
    const attempts: number[] = [];
    const { push, waitFor, retry, get, acts } = await scene.working([
      pay.handle(({ attempt }) => {
        attempts.push(attempt);
        if (broken) throw new Error("broken");
        return "paid";
      }),
    ]);
    const { id } = await push(pay());
    same((await waitFor(id, limited)).status, "failed", "the first end");
    broken = false;
    same(await retry(id, { by: "ada" }), "retried", "the answer");
    same(succeeded(await waitFor(id, limited)), "paid", "the output");
    same(attempts, [1, 2, 1], "the attempts");
    const known = await get(id);
    same(
      known?.trail.map(({ message }) => message),
      ["broken", "broken"],
      "the trail",
    );
    truth((known?.fence ?? 0) > 2, "the fence went on");
    const [act] = await acts({ limit: 1 });
    same([act?.by, act?.kind, act?.target, act?.affected], ["ada", "retry", { ids: [id] }, 1], "the act");
    truth(Math.abs((act?.at.getTime() ?? 0) - Date.now()) < minute, "the act has its time");
  }),

  scenario("retry() with a corrected input validates it, and the handler gets it", async (scene) => {
    const send = defineCommand(
      scene.define({ name: "send", retries: 0, input: v.object({ to: v.string() }), output: v.string() }),
    );
    const { push, waitFor, retry, get } = await scene.working([
      send.handle(({ input }) => {
        if (!input.to.includes("@")) throw new Error("no address");
        return input.to;
      }),
    ]);
    const { id } = await push(send({ to: "nobody" }));
    same((await waitFor(id, limited)).status, "failed", "the first end");
    for (const input of [{ to: 1 }, { to: "a\0" }, null]) {
      const error = await rejection(retry(id, { input }));
      same(error.code, "ORCHESTRATUM_INVALID_INPUT", "the code");
      truth(error.message.startsWith(`Cannot retry command "send_${scene.queue}"`), error.message);
    }
    same((await get(id))?.status, "failed", "after what was refused");
    same(await retry(id, { input: { to: "a@example.com" } }), "retried", "the answer");
    same(succeeded(await waitFor(id, limited)), "a@example.com", "the output");
    same((await get(id))?.input, { to: "a@example.com" }, "the input");
  }),

  scenario("retry() answers unfinished and unknown, and many at once", async (scene) => {
    const wait = defineCommand(scene.define({ name: "wait" }));
    const { push, cancel, retry, get } = scene.orchestrator([], [wait]);
    const [ended, waiting] = await push([wait(1), wait(2)]);
    await cancel(ended.id);
    const none = crypto.randomUUID();
    const results = await retry([ended.id.toUpperCase(), waiting.id, none]);
    same(
      [...results],
      [
        [ended.id.toUpperCase(), "retried"],
        [waiting.id, "unfinished"],
        [none, "unknown"],
      ],
      "the answers",
    );
    const known = await get(ended.id);
    same([known?.status, known?.cancelRequestedAt, known?.attempt], ["pending", undefined, 0], "what was cancelled");
    same((await rejection(retry([waiting.id], { input: 1 } as never))).name, "TypeError", "an input for many");
    same((await rejection(retry("none"))).name, "TypeError", "no id");
  }),

  scenario("retry() by filter takes what ended badly before it began, and only that", async (scene) => {
    const flop = defineCommand(scene.define({ name: "flop", retries: 0, input: v.string() }));
    const from = new Date(Date.now() - minute);
    let runs = 0;
    const { push, waitFor, retry } = await scene.working([
      flop.handle(({ input }) => {
        runs++;
        if (input === "bad") throw new Error("again and again");
      }),
    ]);
    const pushed = await push([flop("bad"), flop("good"), flop("bad"), flop("bad")]);
    for (const { id } of pushed) await waitFor(id, limited);
    const filter = { queue: scene.queue, from };
    same(await retry(filter, { dryRun: true }), { count: 3, busy: 0 }, "the dry run");
    same(runs, 4, "runs after the dry run");
    const counts: number[] = [];
    same(await retry(filter, { onProgress: (count) => counts.push(count) }), { count: 3, busy: 0 }, "the run");
    same(counts, [3], "the progress");
    for (const { id } of pushed) await waitFor(id, limited);
    same(runs, 7, "runs: once more each");
    same(await retry({ ...filter, status: "succeeded" }, { dryRun: true }), { count: 1, busy: 0 }, "what succeeded");
    truth(
      (await rejection(retry({ ...filter, status: "pending" }))).message.includes("filter.status"),
      "a live status",
    );
  }),

  scenario("cancel() by filter says how many, cancels them, and not the hooks that it causes", async (scene) => {
    const book = defineCommand(scene.define({ name: "book", input: v.number() }));
    const other = defineCommand(scene.define({ name: "other" }));
    const undone: number[] = [];
    const running = signal();
    const aborted = signal();
    const all = signal();
    const orchestrator = scene.orchestrator([
      book.handle(
        async ({ signal: abort }) => {
          running.give();
          abort.addEventListener("abort", () => aborted.give());
          await aborted.got();
          abort.throwIfAborted();
        },
        {
          onCancellation({ input }) {
            undone.push(input as number);
            if (undone.length === 3) all.give();
          },
        },
      ),
      other.handle(() => {}),
    ]);
    const { push, cancel, get, waitFor, acts } = orchestrator;
    await scene.work(orchestrator, { concurrency: 1 });
    const [first, ...rest] = await push([book(1), book(2), book(3, { delayMs: minute })]);
    await running.got();
    const kept = await push(other(undefined, { delayMs: minute }));
    const filter = { queue: scene.queue, name: `book_${scene.queue}`, hooks: true };
    same(await cancel(filter, { dryRun: true }), { count: 3, busy: 0 }, "the dry run");
    same((await get(first.id))?.cancelRequestedAt, undefined, "after the dry run");
    same(await cancel(filter, { by: "bob" }), { count: 3, busy: 0 }, "the run");
    for (const { id } of [first, ...rest]) same((await waitFor(id, limited)).status, "cancelled", "the end");
    await all.got();
    same(undone.toSorted(), [1, 2, 3], "the hooks that ran");
    same((await get(kept.id))?.status, "scheduled", "another name");
    const [act] = await acts({ limit: 1 });
    same([act?.by, act?.kind, act?.affected], ["bob", "cancel", 3], "the act");
    same((act?.target.filter as typeof filter | undefined)?.name, filter.name, "what it was found by");
    truth((await rejection(cancel({ status: "failed" }))).message.includes("filter.status"), "a final status");
  }),

  scenario("cancel() by filter goes through more than one page", async (scene) => {
    const many = defineCommand(scene.define({ name: "many" }));
    const { push, cancel, counts } = scene.orchestrator([], [many]);
    await push(Array.from({ length: 2_345 }, () => many()));
    const progress: number[] = [];
    const onProgress = (count: number) => progress.push(count);
    same(await cancel({ queue: scene.queue }, { onProgress }), { count: 2_345, busy: 0 }, "the result");
    same(progress, [1_000, 2_000, 2_345], "the progress");
    const left = await counts({ finished: false });
    same(
      left.filter(({ queue }) => queue === scene.queue),
      [],
      "what lives",
    );
  }),

  scenario("retry() by filter takes 1,000 at a time, and nothing that fails meanwhile", async (scene) => {
    const count = 2_345;
    const flop = defineCommand(scene.define({ name: "flop", retries: 0, input: v.number() }));
    const all = signal();
    const some = signal();
    const most = signal();
    let runs = 0;
    let others = 0;
    const other = defineCommand(scene.define({ name: "other", retries: 0 }));
    const worker = await scene.working(
      [
        flop.handle(({ input }) => {
          runs++;
          if (runs === count) all.give();
          if (runs > count) some.give();
          if (runs === 2 * count) most.give();
          throw new Error(`no ${input}`);
        }),
        other.handle(() => {
          others++;
          throw new Error("no");
        }),
      ],
      { concurrency: 200 },
    );
    const { driver } = scene.ground;
    let parts = 0;
    const database: Driver = {
      name: driver.name,
      script: (text) => driver.script(text),
      async query<Row>(...statement: Parameters<Driver["query"]>) {
        // Before the second part is looked for, something of the first has failed again, and something else has, too.
        if (statement[0].includes(".list(") && parts === 1) {
          await some.got(2 * minute);
          await worker.waitFor((await worker.push(other())).id, limited);
        }
        const rows = await driver.query<Row>(...statement);
        if (statement[0].includes(".retry(")) parts++;
        return rows;
      },
    };
    await using operator = createOrchestrator({ database, commands: [flop] });
    await operator.push(Array.from({ length: count }, (_, index) => flop(index)));
    await all.got(2 * minute);
    const ended = async () => (await worker.counts({ finished: false })).every(({ queue }) => queue !== scene.queue);
    await eventually("all end", ended, 2 * minute);
    const progress: number[] = [];
    const filter = { queue: scene.queue, from: new Date(Date.now() - 10 * minute) };
    const onProgress = (done: number) => progress.push(done);
    same(await operator.retry(filter, { onProgress }), { count, busy: 0 }, "the result");
    same(progress, [1_000, 2_000, count], "the progress");
    await most.got(2 * minute);
    same([runs, others], [2 * count, 1], "how many ran");
  }),

  scenario("edit() corrects the input of what waits, and leaves alone what runs or has ended", async (scene) => {
    const greet = defineCommand(scene.define({ name: "greet", input: v.string(), output: v.string() }));
    const started = signal();
    const go = signal();
    const orchestrator = scene.orchestrator([
      greet.handle(async ({ input }) => {
        started.give();
        await go.got();
        return input;
      }),
    ]);
    const { push, edit, waitFor } = orchestrator;
    const { id } = await push(greet("wrnog"));
    same((await rejection(edit(id, { input: 7 }))).code, "ORCHESTRATUM_INVALID_INPUT", "what the schema refuses");
    same((await rejection(edit(id, { input: undefined }))).name, "TypeError", "nothing");
    same(await edit(id, { input: "right", by: "ada" }), "changed", "while it waits");
    await scene.work(orchestrator);
    await started.got();
    same(await edit(id, { input: "late" }), "running", "while it runs");
    go.give();
    same(succeeded(await waitFor(id, limited)), "right", "the output");
    same(await edit(id, { input: "too late" }), "finished", "after its end");
    same(await edit(crypto.randomUUID(), { input: "none" }), "unknown", "what is not there");
  }),

  scenario("reschedule() and reprioritise() reach a worker that sleeps", async (scene) => {
    const step = defineCommand(scene.define({ name: "step", input: v.string() }));
    const ran: string[] = [];
    const { push, waitFor, reschedule, reprioritise, get } = await scene.working([
      step.handle(({ input }) => void ran.push(input)),
    ]);
    const [later, sooner, moved] = await push([
      step("later", { delayMs: minute }),
      step("sooner", { delayMs: 60 * minute }),
      step("moved", { delayMs: 60 * minute }),
    ]);
    same(
      [...(await reprioritise([later.id, moved.id], 0))],
      [
        [later.id, "changed"],
        [moved.id, "changed"],
      ],
      "two",
    );
    same([(await get(later.id))?.status, (await get(later.id))?.priority], ["scheduled", 0], "it stays scheduled");
    const when = new Date(Date.now() + 30 * minute);
    same(await reschedule(moved.id, when), "changed", "to a time");
    same((await get(moved.id))?.dueAt, when, "when it is due");
    same((await get(moved.id))?.availableAt, when, "when it is tried");
    same(await reschedule(sooner.id, { delayMs: 0 }), "changed", "to now");
    await waitFor(sooner.id, limited);
    same(await reschedule(later.id, new Date(0)), "changed", "to the past");
    await waitFor(later.id, limited);
    same(ran, ["sooner", "later"], "what ran");
    same((await rejection(reschedule(moved.id, { delayMs: -1 }))).name, "RangeError", "a delay");
    same((await rejection(reschedule(moved.id, new Date(Number.NaN)))).name, "RangeError", "a time");
    same((await rejection(reprioritise(moved.id, 10))).name, "RangeError", "a priority");
    for (const by of ["", "a\0"]) {
      same((await rejection(reprioritise(moved.id, 1, { by }))).name, "RangeError", "a name");
    }
  }),

  scenario("erase() takes a person's data out of a command and its hooks, and leaves the fact", async (scene) => {
    const mail = defineCommand(scene.define({ name: "mail", retries: 0 }));
    const hooked = signal();
    const go = signal();
    const orchestrator = scene.orchestrator([
      mail.handle(
        ({ input }) => {
          throw new Error(`No mailbox for ${(input as { to: string }).to}`);
        },
        {
          async onFailure() {
            hooked.give();
            await go.got();
          },
        },
      ),
    ]);
    const { push, erase, get, waitFor, list } = orchestrator;
    const metadata = { actor: { id: "ada@example.com", type: "user" }, source: "shop" };
    const { id } = await push(mail({ to: "ada@example.com" }, { metadata }));
    same(await erase(id), "waiting", "while it waits");
    same((await get(id))?.input, { to: "ada@example.com" }, "what waits is left alone");
    await scene.work(orchestrator);
    await waitFor(id, limited);
    await hooked.got();
    same(await erase(id), "running", "while its hook runs");
    go.give();
    const [hook] = (await list({ parentId: id, hooks: true })).commands;
    await waitFor(hook?.id ?? "", limited);
    same(
      await erase([id, crypto.randomUUID()], { by: "dpo" }).then((all) => [...all.values()]),
      ["erased", "unknown"],
      "then",
    );
    for (const one of [id as string, hook?.id ?? ""]) {
      const known = await get(one);
      const text = JSON.stringify(known);
      truth(!text.includes("ada@example.com"), `nothing of it is left in ${text}`);
      same([known?.input, known?.output, known?.metadata.actor], [undefined, undefined, undefined], "the data");
      same(known?.metadata.source, "shop", "the rest of the metadata");
    }
    const known = await get(id);
    same([known?.status, known?.name], ["failed", `mail_${scene.queue}`], "the fact");
    same(known?.trail.length, 1, "the trail's entries");
    same(await erase(id), "erased", "again");
  }),

  scenario("pauseQueue() stops what waits, not what runs, and resumeQueue() lets it go on at once", async (scene) => {
    const work = defineCommand(scene.define({ name: "work", input: v.number() }));
    const started = signal();
    const go = signal();
    const ran: number[] = [];
    const { database, heard } = hearingOfPause(scene.ground.driver, scene.queue);
    await using orchestrator = createOrchestrator({
      database,
      handlers: [
        work.handle(async ({ input }) => {
          if (input === 1) {
            started.give();
            await go.got();
          }
          ran.push(input);
        }),
      ],
    });
    await scene.work(orchestrator);
    const { push, waitFor, pauseQueue, resumeQueue, queues, get, acts } = orchestrator;
    const first = await push(work(1));
    await started.got();
    same(await pauseQueue(scene.queue, { by: "ada" }), true, "the first pause");
    await heard();
    same(await pauseQueue(scene.queue), false, "the second");
    const second = await push(work(2));
    await settled(scene, () => ran.length, 0);
    const state = (await queues()).find(({ queue }) => queue === scene.queue);
    same(
      [state?.paused, state?.pausedBy, state?.scheduled, state?.pending, state?.running],
      [true, "ada", 0, 1, 1],
      "state",
    );
    truth(state?.pausedAt instanceof Date, "the time of the pause");
    go.give();
    same((await waitFor(first.id, limited)).status, "succeeded", "what ran");
    same((await get(second.id))?.status, "pending", "what waited");
    same(await resumeQueue(scene.queue, { by: "ada" }), true, "the resumption");
    same(await resumeQueue(scene.queue), false, "another");
    await waitFor(second.id, limited);
    same(ran, [1, 2], "what ran");
    const kinds = (await acts()).filter(({ target }) => target.queue === scene.queue).map(({ kind }) => kind);
    same(kinds, ["resume", "pause"], "the acts");
    same((await rejection(pauseQueue("a b"))).name, "RangeError", "no queue");
  }),

  scenario(
    "pauseQueue() leaves the worker's other queues at work, and is known to one that starts later",
    async (scene) => {
      const paused = defineCommand(scene.define({ name: "paused" }));
      const open = defineCommand({ name: `open_${scene.queue}`, queue: `open-${scene.queue}` });
      const ran: string[] = [];
      const orchestrator = scene.orchestrator([
        paused.handle(() => void ran.push("paused")),
        open.handle(() => void ran.push("open")),
      ]);
      const { push, waitFor, pauseQueue, resumeQueue } = orchestrator;
      await pauseQueue(scene.queue);
      const waiting = await push(paused());
      await scene.work(orchestrator, { queues: [scene.queue, `open-${scene.queue}`] });
      for (let count = 0; count < 5; count++) await waitFor((await push(open())).id, limited);
      same(ran, Array(5).fill("open"), "what ran");
      await resumeQueue(scene.queue);
      await waitFor(waiting.id, limited);
      same(ran.at(-1), "paused", "what ran last");
    },
  ),

  ...(["Queue", "Name"] as const).map((kind) =>
    scenario(
      `pause${kind}() and resume${kind}() reach a worker of another process by a notification`,
      async (scene) => {
        const work = defineCommand(scene.define({ name: "work" }));
        const paused = kind === "Queue" ? scene.queue : `work_${scene.queue}`;
        const listens = signal();
        const { database, heard } = hearingOfPause(scene.ground.driver, paused);
        await using worker = createOrchestrator({
          database,
          handlers: [work.handle(() => {})],
          observe: (one) => void (one.type === "listening" && one.proven && listens.give()),
        });
        const operator = scene.orchestrator([], [work]);
        await operator[`pause${kind}`](paused);
        await scene.work(worker);
        await listens.got();
        await heard();
        const { id } = await operator.push(work());
        await operator[`resume${kind}`](paused);
        // That it runs says that the worker knows, and hears of the next pause as of a new one.
        succeeded(await operator.waitFor(id, limited));
        await operator[`pause${kind}`](paused);
        await heard();
        await operator[`resume${kind}`](paused);
      },
    ),
  ),

  scenario("pauseQueue() and resumeQueue() reach a worker that hears no notification by its poll", async (scene) => {
    const work = defineCommand(scene.define({ name: "work" }));
    let ran = 0;
    let claims = 0;
    let looks = 0;
    let looked: { after: number; give(): void } | undefined;
    const { listen: _, ...driver } = scene.ground.driver;
    const database: Driver = {
      ...driver,
      query(text, params, options) {
        if (text.includes(".claim(")) claims++;
        if (text.includes("paused_queue") && looked && ++looks > looked.after) looked.give();
        return driver.query(text, params, options);
      },
    };
    /** The worker has asked what is paused, and heard it: it asks once more. */
    const heard = async () => {
      const two = signal();
      looks = 0;
      looked = { after: 1, give: two.give };
      await two.got();
    };
    await using deaf = createOrchestrator({ database, handlers: [work.handle(() => void ran++)] });
    await scene.work(deaf, { pollIntervalMs: 20 });
    const operator = scene.orchestrator([], [work]);
    await operator.pauseQueue(scene.queue);
    await heard();
    const claimsBefore = claims;
    const { id } = await operator.push(work());
    await heard();
    same([ran, claims - claimsBefore], [0, 0], "what ran, and what was claimed, while it was paused");
    await operator.resumeQueue(scene.queue);
    await operator.waitFor(id, limited);
    same(ran, 1, "how many ran then");
  }),

  scenario("what is neither an id nor a filter is refused, rather than taken for all there is", async (scene) => {
    const { cancel, retry } = scene.orchestrator([]);
    for (const given of [Promise.resolve("id"), new Set(), new Map(), new Date()]) {
      const error = await rejection((async () => await cancel(given as never))());
      truth(error.message.includes("an id, a list of ids or a filter"), `the error says so: ${error.message}`);
      await rejection((async () => await retry(given as never))());
    }
  }),

  scenario("what was erased is not retried without a new input", async (scene) => {
    const job = defineCommand(scene.define({ name: "job", input: v.string() }));
    const { push, cancel, erase, retry, get } = scene.orchestrator([], [job]);
    const { id } = await push(job("a person", { metadata: { email: "a@example.com" } }));
    same(await cancel(id), "cancelled", "the cancellation");
    same(await erase(id), "erased", "the erasure");
    same((await get(id))?.metadata.email, undefined, "what is left of the metadata");
    await push(job("a person", { id }));
    same(await retry(id), "erased", "a retry");
    same(await retry(id, { input: "another" }), "retried", "a retry with an input");
    same((await get(id))?.input, "another", "the input");
  }),

  scenario("a retry by filter passes over what was erased, also in a dry run", async (scene) => {
    const flop = defineCommand(scene.define({ name: "flop", retries: 0, input: v.string() }));
    const from = new Date(Date.now() - minute);
    const { push, waitFor, erase, retry, list, deadLetters, retryDeadLetters, dropDeadLetters } = await scene.working([
      flop.handle(() => {
        throw new Error("It is broken");
      }),
    ]);
    const correlationId = `chain ${scene.queue}`;
    const pushed = await push(["a", "b", "c"].map((input) => flop(input, { metadata: { correlationId } })));
    const ids = pushed.map(({ id }) => id);
    for (const id of ids) await waitFor(id, limited);
    same([...(await erase(ids.slice(0, 2))).values()], ["erased", "erased"], "the erasures");

    const { queue } = scene;
    const one = { count: 1, busy: 0 };
    const three = { count: 3, busy: 0 };
    same((await list({ queue, from, status: "failed" })).commands.length, 3, "what is listed");
    same(await retry({ queue, from }, { dryRun: true }), one, "the dry run");
    same(await retry({ correlationId }, { dryRun: true }), one, "the dry run of a chain");
    same(await retryDeadLetters({ queue }, { dryRun: true }), one, "the dry run of dead letters");
    same(await retry({ queue, from }), one, "the retry");
    await waitFor(ids[2] as string, limited);
    same(await retryDeadLetters({ correlationId }), one, "the retry of dead letters");
    await waitFor(ids[2] as string, limited);
    same((await deadLetters({ queue })).commands.length, 3, "the dead letters");
    same(await dropDeadLetters({ queue }, { dryRun: true }), three, "the dry run of a drop");
    same(await dropDeadLetters({ queue }), three, "the drop");
  }),
];

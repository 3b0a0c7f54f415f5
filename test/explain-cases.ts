/** Why a command is not running: each cause as it comes about. See conformance.ts for the form. */
import {
  createOrchestrator,
  type Driver,
  defineCommand,
  type Explanation,
  type Orchestrator,
  snooze,
} from "../src/index.ts";
import {
  type Case,
  eventually,
  limited,
  minute,
  rejection,
  type Scene,
  same,
  scenario,
  signal,
  truth,
} from "./conformance.ts";

/** The explanation, once its cause is this, in this status. */
async function explained(
  orchestrator: Orchestrator,
  id: string,
  cause: Explanation["cause"],
  status?: Explanation["status"],
): Promise<Explanation> {
  let explanation: Explanation | undefined;
  await eventually(
    () => `the cause is ${cause}: ${JSON.stringify(explanation)}`,
    async () => {
      explanation = await orchestrator.explain(id);
      truth(explanation, "the command is there");
      return explanation.cause === cause && (status ?? explanation.status) === explanation.status;
    },
  );
  return explanation as Explanation;
}

/** The explanation at once: what comes first is not to change by waiting. */
async function explainedNow(orchestrator: Orchestrator, id: string, cause: Explanation["cause"]): Promise<Explanation> {
  const explanation = await orchestrator.explain(id);
  same(explanation?.cause, cause, "the cause");
  return explanation as Explanation;
}

function says(explanation: Explanation, pattern: RegExp): void {
  truth(pattern.test(explanation.sentence), `"${explanation.sentence}" matches ${pattern}`);
  truth(!/undefined|null|NaN|Invalid/.test(explanation.sentence), `"${explanation.sentence}" has no holes`);
  truth(/^[A-Z][^\n]*[.]$/.test(explanation.sentence), `"${explanation.sentence}" is one sentence`);
}

/** As a worker that claims and is never heard of again. */
async function abandon(scene: Scene, leaseMs: number): Promise<void> {
  const lanes = JSON.stringify([{ queue: scene.queue, priority: 5, mark_at: "-infinity" }]);
  const claim = "select id from orchestratum.claim('gone', $1::text::json, 10, 8000000, $2::int, 9)";
  // The lease before may have a moment left.
  await eventually("there is something to claim", async () => {
    const claimed = await scene.ground.driver.query<{ id: string | null }>(claim, [lanes, leaseMs]);
    return claimed.some(({ id }) => id !== null);
  });
}

/** A worker of one slot, which is taken until `release.give()`. */
async function busy(scene: Scene, handled: readonly ReturnType<typeof handlerOf>[] = []) {
  const [begun, release] = [signal(), signal()];
  const block = defineCommand(scene.define({ name: "block", priority: 0 }));
  const orchestrator = scene.orchestrator([
    block.handle(async () => {
      begun.give();
      await release.got();
    }),
    ...handled,
  ]);
  const worker = await scene.work(orchestrator, { concurrency: 1 });
  const { id } = await orchestrator.push(block());
  await begun.got();
  return { orchestrator, worker, release, id };
}

const contractOf = (scene: Scene, name: string) => defineCommand(scene.define({ name }));
const handlerOf = (contract: ReturnType<typeof contractOf>) => contract.handle(() => {});

/** A driver that can be cut off from its database. */
function cuttable(scene: Scene) {
  const { driver } = scene.ground;
  let isCut: (text: string) => boolean = () => false;
  const cut: Driver = {
    name: driver.name,
    script: driver.script,
    query: async (text, params, options) => {
      if (isCut(text)) throw Object.assign(new Error("cut off"), { code: "ECONNRESET" });
      return await driver.query(text, params, options);
    },
  };
  return { driver: cut, cut: (pattern: RegExp) => void (isCut = (text) => pattern.test(text)) };
}

export const explainCases: readonly Case[] = [
  scenario("explain() of a command that is scheduled says for when", async (scene) => {
    const later = contractOf(scene, "later");
    const { push, explain } = scene.orchestrator([], [later]);
    const runAt = new Date(Date.now() + minute);
    const { id } = await push(later(undefined, { runAt }));
    const explanation = await explain(id.toUpperCase());
    same(
      { ...explanation, sentence: "" },
      {
        id,
        name: later.name,
        version: 1,
        queue: scene.queue,
        status: "scheduled",
        cause: "scheduled",
        sentence: "",
        until: runAt,
      },
      "the explanation",
    );
    says(
      explanation as Explanation,
      /^It is scheduled for 20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ: wait, or reschedule it\.$/,
    );
  }),

  scenario("explain() of a command whose handler put it off says until when", async (scene) => {
    const until = new Date(Date.now() + minute);
    const nap = contractOf(scene, "nap");
    const orchestrator = await scene.working([nap.handle(() => snooze(until))]);
    const { id } = await orchestrator.push(nap());
    const explanation = await explained(orchestrator, id, "snoozed");
    same(explanation.until, until, "until when");
    says(explanation, /^Its handler put it off at .* tried again at /);
  }),

  scenario("explain() of a command that failed says the error, and when it is tried again", async (scene) => {
    const flaky = defineCommand({ ...scene.define({ name: "flaky", retries: 3 }), backoff: () => minute });
    const orchestrator = await scene.working([
      flaky.handle(() => {
        throw Object.assign(new Error("The mailbox\nis full"), { code: "EFULL" });
      }),
    ]);
    const { id } = await orchestrator.push(flaky());
    const explanation = await explained(orchestrator, id, "backing_off");
    same(explanation.error, { code: "EFULL", message: "The mailbox\nis full" }, "the error");
    truth(explanation.until && explanation.until.getTime() > Date.now(), "it is tried again later");
    says(explanation, /^Attempt 1 of 4 failed \(EFULL: The mailbox is full\), and it is tried again at /);
  }),

  scenario("explain() of a command that runs says who holds it, and until when", async (scene) => {
    const { orchestrator, worker, release, id } = await busy(scene);
    const explanation = await explainedNow(orchestrator, id, "held");
    same([explanation.worker, explanation.status], [worker.id, "running"], "the worker and the status");
    truth(explanation.until && explanation.until.getTime() > Date.now(), "the lease ends later");
    truth(explanation.workerSeenAt, "the worker was seen");
    says(explanation, /^Worker "worker-.*" has held it since .* for attempt 1 of 4: wait for its end, or cancel it\.$/);
    release.give();
  }),

  scenario("explain() of a command to be cancelled says so, while it is held and after its lease", async (scene) => {
    const { orchestrator, worker, release, id } = await busy(scene);
    same(await orchestrator.cancel(id), "requested", "the cancellation");
    const explanation = await explainedNow(orchestrator, id, "cancel_requested");
    same(explanation.worker, worker.id, "the worker");
    says(explanation, /^Cancellation was requested at .*, and worker "worker-.*", which holds it until /);
    release.give();

    const other = new (scene.constructor as new (ground: Scene["ground"]) => Scene)(scene.ground);
    const lost = contractOf(other, "lost");
    const asking = other.orchestrator([], [lost]);
    const { id: second } = await asking.push(lost());
    await abandon(other, 10 * minute);
    same(await asking.cancel(second), "requested", "the cancellation of what is abandoned");
    const ended = "update orchestratum.command set available_at = clock_timestamp() where id = $1::text::uuid";
    await other.ground.driver.query(ended, [second]);
    const after = await explained(asking, second, "cancel_requested", "pending");
    says(after, /^Cancellation was requested at .* the next claim ends it, or cancel it again to end it at once\.$/);
    same(await asking.cancel(second), "cancelled", "the second cancellation");
    await other[Symbol.asyncDispose]();
  }),

  scenario("explain() of a command whose worker is lost says when that was last seen", async (scene) => {
    const work = contractOf(scene, "work");
    const [begun, release] = [signal(), signal()];
    const { driver, cut } = cuttable(scene);
    const orchestrator = createOrchestrator({
      database: driver,
      handlers: [
        work.handle(async () => {
          begun.give();
          await release.got();
        }),
      ],
    });
    scene.orchestrators.push(orchestrator);
    const worker = await scene.work(orchestrator, { leaseMs: 10 * minute });
    const { id } = await orchestrator.push(work());
    await begun.got();
    const asking = scene.orchestrator([]);
    await explainedNow(asking, id, "held");
    cut(/./);
    // As if the time had gone by in which it would have been heard of.
    const past =
      "update orchestratum.worker set last_seen_at = last_seen_at - interval '2 minutes' where id = $1::text";
    await scene.ground.driver.query(past, [worker.id]);
    const explanation = await explainedNow(asking, id, "holder_lost");
    same(explanation.worker, worker.id, "the worker");
    const silentMs = Date.now() - (explanation.workerSeenAt?.getTime() ?? 0);
    truth(silentMs > 2 * minute - 5_000 && silentMs < 3 * minute, "it was last seen then");
    says(explanation, /^Worker "worker-.*" holds it until .*, but was last seen at .*: look after that worker; /);
    cut(/^$/);
    release.give();
  }),

  scenario("explain() of a command whose worker has stopped without handing it back says so", async (scene) => {
    const work = contractOf(scene, "work");
    const [begun, release] = [signal(), signal()];
    const { driver, cut } = cuttable(scene);
    const orchestrator = createOrchestrator({
      database: driver,
      handlers: [
        work.handle(async () => {
          begun.give();
          await release.got();
        }),
      ],
    });
    const worker = await scene.work(orchestrator, { leaseMs: 10 * minute, abortGraceMs: 1 });
    const { id } = await orchestrator.push(work());
    await begun.got();
    cut(/\bfinish\(/);
    await orchestrator.stop({ graceMs: 0 });
    const explanation = await explainedNow(scene.orchestrator([]), id, "holder_lost");
    same(explanation.worker, worker.id, "the worker");
    says(explanation, /^Worker "worker-.*" holds it until .*, but stopped at /);
    release.give();
  }),

  scenario("explain() of a command that was lost twice says that it runs alone", async (scene) => {
    const risky = contractOf(scene, "risky");
    const [begun, release] = [signal(), signal()];
    const block = defineCommand({ ...scene.define({ name: "block" }), queue: `${scene.queue}b` });
    const orchestrator = scene.orchestrator([
      block.handle(async () => {
        begun.give();
        await release.got();
      }),
      handlerOf(risky),
    ]);
    const { id } = await orchestrator.push(risky());
    await abandon(scene, 1);
    await abandon(scene, 1);
    await scene.work(orchestrator, { queues: [block.defaults.queue] });
    await orchestrator.push(block());
    await begun.got();
    // It is held for one lease, and put off then. That it may be lost once more, on a busy machine, changes nothing.
    const worker = await scene.work(orchestrator, { leaseMs: 1_000, maxLosses: 100 });
    const held = await explained(orchestrator, id, "alone", "running");
    same(held.worker, worker.id, "the worker");
    says(
      held,
      /^It was lost \d+ times, so worker "worker-.*", which holds it until .*, runs it with nothing beside it, /,
    );
    const putOff = await explained(orchestrator, id, "alone", "scheduled");
    truth(putOff.until && putOff.until.getTime() > Date.now() - 1_000, "it is tried again later");
    says(
      putOff,
      /^It was lost \d+ times, so it runs where nothing else does; a worker .* put it off, and it is tried again at /,
    );
    release.give();
    same((await orchestrator.waitFor(id, limited)).status, "succeeded", "its end");
  }),

  scenario("explain() of a command that was lost twice and waits says that it will run alone", async (scene) => {
    const risky = contractOf(scene, "risky");
    const { orchestrator, release } = await busy(scene, [handlerOf(risky)]);
    const { id } = await orchestrator.push(risky());
    for (let loss = 0; loss < 3; loss++) await abandon(scene, 1);
    says(
      await explained(orchestrator, id, "alone", "pending"),
      /^It was lost 2 times, so it .* waits for a worker to have room for that: /,
    );
    release.give();
    await orchestrator.waitFor(id, limited);
  }),

  scenario("explain() of a command in a paused queue says since when and by whom", async (scene) => {
    const job = contractOf(scene, "job");
    const orchestrator = scene.orchestrator([handlerOf(job)]);
    await orchestrator.pauseQueue(scene.queue, { by: "ada" });
    await scene.work(orchestrator);
    const { id } = await orchestrator.push(job());
    says(await explainedNow(orchestrator, id, "queue_paused"), /^Queue ".*" is paused since .* by ada: resume it\.$/);
    await orchestrator.resumeQueue(scene.queue);
    await orchestrator.waitFor(id, limited);
  }),

  scenario("explain() of a command whose name is paused says since when and by whom", async (scene) => {
    const job = contractOf(scene, "job");
    const orchestrator = scene.orchestrator([handlerOf(job)]);
    await orchestrator.pauseName(job.name, { by: "ada" });
    const { id } = await orchestrator.push(job());
    says(
      await explainedNow(orchestrator, id, "name_paused"),
      /^Commands named "job_.*" are paused since .* by ada: resume them\.$/,
    );
    await scene.work(orchestrator);
    // While it waits, and once a worker has put it off.
    await explained(orchestrator, id, "name_paused", "scheduled");
    await orchestrator.resumeName(job.name);
    await orchestrator.waitFor(id, limited);
  }),

  scenario("explain() of a command in a queue that nobody serves says who did last", async (scene) => {
    const job = contractOf(scene, "job");
    const orchestrator = scene.orchestrator([handlerOf(job)]);
    const { id } = await orchestrator.push(job(undefined, { queue: `${scene.queue}e` }));
    const never = await explainedNow(orchestrator, id, "no_worker");
    says(
      never,
      /^No worker that runs serves queue "(.*)": start one with queues: \["\1"\], or push to a queue that is served\.$/,
    );
    same(never.worker, undefined, "the worker");
    const worker = await scene.work(orchestrator);
    await worker.stop();
    const { id: second } = await orchestrator.push(job());
    const explanation = await explainedNow(orchestrator, second, "no_worker");
    same(explanation.worker, worker.id, "the one that did last");
    says(explanation, /; the last that did, "worker-.*", was seen at .*: start one with queues/);
  }),

  scenario("explain() of a command whose name or version no handler knows says which are known", async (scene) => {
    const never = contractOf(scene, "never");
    const newer = defineCommand({ ...scene.define({ name: "job" }), version: 2 });
    const { orchestrator, worker, release } = await busy(scene, [handlerOf(contractOf(scene, "job"))]);
    const [first, second] = await orchestrator.push([never(), newer()]);
    // While it waits, and after a worker has put it off.
    says(
      await explainedNow(orchestrator, first.id, "no_handler"),
      /^No worker that runs has a handler for "never_.*" version 1; none ever had one: start /,
    );
    says(
      await explainedNow(orchestrator, second.id, "no_handler"),
      /version 2, only for version 1: start one that does, or cancel it\.$/,
    );
    release.give();
    for (const { id } of [first, second]) {
      const explanation = await explained(orchestrator, id, "no_handler", "scheduled");
      truth(explanation.until, "it is tried again");
    }
    await worker.stop();
    // As if the time had gone by in which one that restarts would be there again.
    const past = "update orchestratum.handler set seen_at = seen_at - interval '10 minutes' where name = $1::text";
    await scene.ground.driver.query(past, [`job_${scene.queue}`]);
    const old = contractOf(scene, "job");
    const { id } = await orchestrator.push(old(undefined, { queue: `${scene.queue}e` }));
    await scene.work(scene.orchestrator([handlerOf(never)]), { queues: [`${scene.queue}e`], pollIntervalMs: minute });
    const gone = await explained(orchestrator, id, "no_handler");
    says(gone, /^No worker that runs has a handler for "job_.*" version 1; one that had was last heard of at /);
  }),

  scenario("explain() of a command that only workers of other queues have a handler for says which", async (scene) => {
    const job = contractOf(scene, "job");
    const [other, third] = [`${scene.queue}b`, `${scene.queue}c`];
    const having = scene.orchestrator([handlerOf(job)]);
    const worker = await scene.work(having, { queues: [other] });
    const lacking = scene.orchestrator([handlerOf(contractOf(scene, "another"))]);
    await scene.work(lacking);
    const { id } = await having.push(job());
    const explanation = await explained(having, id, "no_handler", "scheduled");
    says(
      explanation,
      /^Workers that have a handler for "job_.*" version 1 serve queue "(.*)b", not queue "\1": have one of them serve it, too, or cancel it and push it to a queue of theirs\.$/,
    );
    truth(explanation.until, "it is tried again");
    await scene.work(having, { queues: [other, third] });
    says(await explained(having, id, "no_handler", "scheduled"), / serve queues "(.*)b" and "\1c", not queue "\1": /);
    // It comes back later and later, as one does that nobody knows.
    const unknownFor =
      "select (available_at - clock_timestamp() > interval '2 seconds') as late from orchestratum.command where id = $1::text::uuid";
    await eventually("it is put off for longer", async () => {
      const [row] = await scene.ground.driver.query<{ late: boolean }>(unknownFor, [id]);
      return row?.late === true;
    });
    // A worker of a release that does not say what it has may have one.
    const silence = "update orchestratum.worker set handlers = null where id = $1::text";
    const [{ id: silent } = { id: "" }] = lacking.workers;
    await scene.ground.driver.query(silence, [silent]);
    says(await explained(having, id, "next", "scheduled"), /^It was claimed by a worker that has no handler for "job_/);
    await worker.stop();
  }),

  scenario("explain() of a command that one of its queue's workers has no handler for says so", async (scene) => {
    const job = contractOf(scene, "job");
    const lacking = scene.orchestrator([handlerOf(contractOf(scene, "another"))]);
    const { orchestrator, release } = await busy(scene, [handlerOf(job)]);
    await scene.work(lacking);
    const { id } = await orchestrator.push(job());
    const explanation = await explained(orchestrator, id, "next", "scheduled");
    truth(explanation.until, "it is tried again");
    says(
      explanation,
      /^It was claimed by a worker that has no handler for "job_.*" version 1, and it is tried again at .*: wait, or give workers with other handlers queues of their own\.$/,
    );
    await lacking.stop();
    release.give();
    same((await orchestrator.waitFor(id, limited)).status, "succeeded", "its end");
  }),

  scenario("explain() of a command that is put off without end says so", async (scene) => {
    const job = contractOf(scene, "job");
    const { push, explain } = scene.orchestrator([], [job]);
    const { id } = await push(job());
    const forEver = "update orchestratum.command set available_at = 'infinity' where id = $1::text::uuid";
    await scene.ground.driver.query(forEver, [id]);
    const explanation = (await explain(id)) as Explanation;
    same([explanation.cause, explanation.until], ["scheduled", undefined], "the cause, and until when");
    says(explanation, /^It is put off without end: reschedule it\.$/);
  }),

  scenario("explain() of a command that ten thousand come before does not count on", async (scene) => {
    const job = contractOf(scene, "job");
    const { orchestrator, release } = await busy(scene, [handlerOf(job)]);
    const { id } = await orchestrator.push(job());
    const fill = `
      insert into orchestratum.command (id, name, version, queue, priority, due_at, available_at, max_attempts, timeout_ms, created_at)
      select gen_random_uuid(), $1::text, 1, $2::text, 1, c.at, c.at, 1, 1000, c.at
      from (select clock_timestamp() as at) c
      cross join generate_series(1, 10001)`;
    await scene.ground.driver.query(fill, [job.name, scene.queue]);
    const explanation = await explainedNow(orchestrator, id, "behind_others");
    same(explanation.ahead, 10_000, "how many");
    says(explanation, /^It waits behind 10,000 or more commands of queue ".*" that come first: /);
    await scene.ground.driver.query("delete from orchestratum.command where queue = $1::text and priority = 1", [
      scene.queue,
    ]);
    release.give();
    await orchestrator.waitFor(id, limited);
  }),

  scenario("explain() of a command that ticks serve says no more than is true of them", async (scene) => {
    const job = contractOf(scene, "job");
    const orchestrator = scene.orchestrator([handlerOf(job)]);
    const { id } = await orchestrator.push(job());
    await explainedNow(orchestrator, id, "no_worker");
    await orchestrator.tick({ queues: [scene.queue] });
    const { id: second } = await orchestrator.push(job());
    says(
      await explainedNow(orchestrator, second, "next"),
      /^It is the next of queue ".*": wait for the worker that serves it /,
    );
    const age =
      "update orchestratum.worker set last_seen_at = last_seen_at - interval '20 minutes' where id = $1::text";
    await scene.ground.driver.query(age, [`tick:${scene.queue}`]);
    const explanation = await explainedNow(orchestrator, second, "no_worker");
    same(explanation.worker, `tick:${scene.queue}`, "who served it last");
    await orchestrator.tick({ queues: [scene.queue] });
    same((await orchestrator.get(second))?.status, "succeeded", "its end");
  }),

  scenario("explain() of a command that waits says how many come first", async (scene) => {
    const job = contractOf(scene, "job");
    const { orchestrator, release } = await busy(scene, [handlerOf(job)]);
    const pushed = await orchestrator.push([
      job(),
      job(),
      job(),
      job(undefined, { priority: 9 }),
      job(undefined, { priority: 1 }),
    ]);
    const ahead = async (place: number) => (await orchestrator.explain((pushed[place] as { id: string }).id))?.ahead;
    same(
      [await ahead(0), await ahead(1), await ahead(2), await ahead(3), await ahead(4)],
      [1, 2, 3, 4, undefined],
      "how many",
    );
    const explanation = await explainedNow(orchestrator, pushed[2].id, "behind_others");
    says(
      explanation,
      /^It waits behind 3 commands of queue ".*" that come first: wait for the worker that serves it, start more, or /,
    );
    says(
      await explainedNow(orchestrator, pushed[0].id, "behind_others"),
      /^It waits behind 1 command of queue ".*" that comes first: /,
    );
    const next = await explainedNow(orchestrator, pushed[4].id, "next");
    says(next, /^It is the next of queue ".*": wait for the worker that serves it to have room, /);
    release.give();
    for (const { id } of pushed) await orchestrator.waitFor(id, limited);
  }),

  scenario("explain() of a command that has ended says how", async (scene) => {
    const [good, bad, slow] = ["good", "bad", "slow"].map((name) =>
      defineCommand(scene.define({ name, retries: 0 })),
    ) as [ReturnType<typeof contractOf>, ReturnType<typeof contractOf>, ReturnType<typeof contractOf>];
    const orchestrator = await scene.working([
      good.handle(() => {}),
      bad.handle(() => {
        throw new Error("broken");
      }),
      slow.handle(
        ({ signal: aborted }) => new Promise((resolve) => aborted.addEventListener("abort", () => resolve(undefined))),
      ),
    ]);
    const nowhere = contractOf(scene, "nowhere");
    const abandoning = scene.orchestrator([handlerOf(contractOf(scene, "another"))]);
    const apart = `${scene.queue}n`;
    await scene.work(abandoning, { queues: [apart], notFoundAfterMs: 0 });
    const cancelled = await orchestrator.push(good(undefined, { delayMs: minute }));
    await orchestrator.cancel(cancelled.id);
    const wanted: [string, RegExp][] = [
      [(await orchestrator.push(good())).id, /^It succeeded at .*: there is nothing to do/],
      [
        (await orchestrator.push(bad())).id,
        /^It failed at .* \(error: broken\): put right what was wrong, and retry it\.$/,
      ],
      [
        (await orchestrator.push(slow(undefined, { timeoutMs: 20 }))).id,
        /^It took longer than its timeout, and ended at .* \(timed_out: /,
      ],
      [
        (await orchestrator.push(nowhere(undefined, { queue: apart }))).id,
        /^No worker had a handler for it, so it ended at .* \(not_found: .*\): put right what was wrong, and retry it\.$/,
      ],
      [cancelled.id, /^It was cancelled at .*: retry it to have it run after all\.$/],
    ];
    for (const [id, pattern] of wanted) {
      await orchestrator.waitFor(id, limited);
      says(await explainedNow(orchestrator, id, "finished"), pattern);
    }
  }),

  scenario("explain() knows nothing of an unknown id, and refuses what is none", async (scene) => {
    const { explain } = scene.orchestrator([]);
    same(await explain(crypto.randomUUID()), undefined, "the answer");
    const error = await rejection(explain("x"));
    truth(error instanceof TypeError, "it is a TypeError");
    same(error.message, 'Cannot explain command: an id is a UUID, got "x"', "the message");
  }),
];

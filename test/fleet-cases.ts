/** What the fleet tells of itself: its workers and its duties. See conformance.ts for the form. */
import {
  createOrchestrator,
  type Driver,
  type DutyState,
  defineCommand,
  type FleetWorker,
  type Orchestrator,
} from "../src/index.ts";
import {
  type Case,
  eventually,
  fold,
  hearingOfPause,
  limited,
  minute,
  type Scene,
  same,
  scenario,
  signal,
  truth,
} from "./conformance.ts";

async function listed(orchestrator: Orchestrator, id: string): Promise<FleetWorker | undefined> {
  return (await orchestrator.workerList()).find((worker) => worker.id === id);
}

/** As if the worker was last heard of so long ago. */
async function age(scene: Scene, worker: string, interval: string): Promise<void> {
  const past =
    "update orchestratum.worker set last_seen_at = clock_timestamp() - $2::text::interval where id = $1::text";
  await scene.ground.driver.query(past, [worker, interval]);
}

/** Whoever is at it, or has left with it. */
const retentionIsDue =
  "update orchestratum.duty set next_run_at = clock_timestamp(), lease_ends_at = null where name = 'retention'";

export const fleetCases: readonly Case[] = [
  scenario(
    "workerList() and the views tell what a worker is, runs and has ended, until it has stopped",
    async (scene) => {
      const [begun, release] = [signal(), signal()];
      const job = defineCommand(scene.define({ name: "job", retries: 0 }));
      const { database, heard } = hearingOfPause(scene.ground.driver, scene.queue);
      const orchestrator = createOrchestrator({
        database,
        instance: `i${scene.queue}`,
        handlers: [
          job.handle(async ({ input }) => {
            if (input === "fail") throw new Error("no");
            if (input !== "hold") return;
            begun.give();
            await release.got();
          }),
        ],
      });
      scene.orchestrators.push(orchestrator);
      const worker = await scene.work(orchestrator, { concurrency: 7, runtime: "node 24.1.0", host: "ada" });
      for (const input of ["a", "b", "fail"]) {
        await orchestrator.waitFor((await orchestrator.push(job(input))).id, limited);
      }
      const held = await orchestrator.push(job("hold"));
      await orchestrator.push(job("later", { delayMs: minute }));
      await begun.got();
      await orchestrator.pauseQueue(scene.queue);
      await heard();
      await orchestrator.push(job("waits"));
      await fold(scene);

      const seen = await listed(orchestrator, worker.id);
      truth(seen, "the worker is listed");
      const { startedAt, lastSeenAt, meanExecutionMs, ...figures } = seen;
      same(
        figures,
        {
          id: worker.id,
          instance: `i${scene.queue}`,
          status: "running",
          runtime: "node 24.1.0",
          host: "ada",
          queues: [scene.queue, `i${scene.queue}`],
          concurrency: 7,
          running: 1,
          finished: 2,
          failed: 1,
          cancelled: 0,
          stoppedAt: undefined,
        },
        "the worker",
      );
      truth(meanExecutionMs !== undefined && meanExecutionMs >= 0, "it has a mean execution time");
      truth(Math.abs(startedAt.getTime() - Date.now()) < minute, "its start has its time");
      truth(lastSeenAt.getTime() >= startedAt.getTime(), "it was seen then, or later");

      // The same by stats(), and for psql.
      const told = await orchestrator.stats();
      const own = told.workers.find((one) => one.worker === worker.id);
      same(
        own && [own.running, own.finished, own.failed, own.cancelled, own.execution?.meanMs],
        [1, 2, 1, 0, meanExecutionMs],
        "what stats() tells of the worker",
      );
      const view = `
      select
        q.workers::int as workers, q.scheduled::int as scheduled, q.pending::int as pending, q.running::int as running,
        q.finished::int as finished, q.failed::int as failed, q.cancelled::int as cancelled, q.mean_execution_ms, q.mean_waiting_ms
      from orchestratum.all_queues q
      where q.queue = $1::text`;
      const [queue] = await scene.ground.driver.query<Record<string, number>>(view, [scene.queue]);
      const counted = told.queues.find((one) => one.queue === scene.queue);
      same(
        queue,
        {
          ...{ workers: 1, scheduled: 1, pending: 1, running: 1, finished: 2, failed: 1, cancelled: 0 },
          mean_execution_ms: counted?.execution?.meanMs,
          mean_waiting_ms: counted?.waiting?.meanMs,
        },
        "what the view tells of the queue",
      );
      await orchestrator.resumeQueue(scene.queue);
      release.give();
      await orchestrator.waitFor(held.id, limited);
      await worker.stop();
      const stopped = await listed(orchestrator, worker.id);
      same([stopped?.status, stopped?.running, stopped?.finished], ["stopped", 0, 2], "the worker once it has stopped");
      truth(stopped?.stoppedAt && stopped.stoppedAt >= startedAt, "its stop has its time");
    },
  ),

  scenario(
    "workerList() tells of a worker that died that it is lost, and a duty forgets it after a day",
    async (scene) => {
      const { driver } = scene.ground;
      let isCut = false;
      const dying: Driver = {
        name: driver.name,
        script: driver.script,
        query: async (text, params, options) => {
          if (isCut) throw Object.assign(new Error("cut off"), { code: "ECONNRESET" });
          return await driver.query(text, params, options);
        },
      };
      const job = defineCommand(scene.define({ name: "job" }));
      const orchestrator = createOrchestrator({ database: dying, handlers: [job.handle(() => {})] });
      const worker = await scene.work(orchestrator);
      isCut = true;
      await orchestrator.stop({ graceMs: 0 });
      const asking = scene.orchestrator([job.handle(() => {})]);
      same((await listed(asking, worker.id))?.status, "running", "at first");
      await age(scene, worker.id, "80 seconds");
      same((await listed(asking, worker.id))?.status, "running", "while it may be on its way");
      await age(scene, worker.id, "100 seconds");
      same((await listed(asking, worker.id))?.status, "lost", "once it had to be heard of");

      const [kept, forgotten] = [worker.id, `forgotten-${scene.queue}`];
      const copy = `
      insert into orchestratum.worker (id, queues, concurrency, running, lost_after_ms, started_at, last_seen_at)
      select $2::text, w.queues, w.concurrency, w.running, w.lost_after_ms, w.started_at, w.last_seen_at - interval '1 day'
      from orchestratum.worker w
      where w.id = $1::text`;
      await driver.query(copy, [kept, forgotten]);
      await driver.query(retentionIsDue, []);
      await scene.work(asking);
      await eventually("it is forgotten", async () => (await listed(asking, forgotten)) === undefined);
      same((await listed(asking, kept))?.status, "lost", "the one that is not old enough");
    },
  ),

  scenario("a worker that says nothing while it idles is given its time", async (scene) => {
    const job = defineCommand(scene.define({ name: "job" }));
    const orchestrator = scene.orchestrator([job.handle(() => {})]);
    const worker = await scene.work(orchestrator, { idlePollMs: 10 * minute });
    await age(scene, worker.id, "10 minutes");
    same((await listed(orchestrator, worker.id))?.status, "running", "after as long as it idles");
    await age(scene, worker.id, "640 seconds");
    same((await listed(orchestrator, worker.id))?.status, "lost", "after longer");
  }),

  scenario("duties() tells when each was done last, how long it took, and what went wrong", async (scene) => {
    const job = defineCommand(scene.define({ name: "job" }));
    const orchestrator = await scene.working([job.handle(() => {})]);
    let retention: DutyState | undefined;
    await eventually(
      () => `retention is done: ${JSON.stringify(retention)}`,
      async () => {
        const duties = await orchestrator.duties();
        const names = duties.map(({ name }) => name);
        same(names, names.toSorted(), "the order");
        retention = duties.find(({ name }) => name === "retention");
        return retention?.lastFinishedAt !== undefined && retention.worker === undefined;
      },
    );
    const { lastStartedAt, lastFinishedAt, lastDurationMs, lastWorker, nextRunAt, lastError } = retention as DutyState;
    truth(lastFinishedAt && lastStartedAt && lastStartedAt <= lastFinishedAt, "it began before it ended");
    truth(lastDurationMs !== undefined && lastDurationMs >= 0, "it took some time");
    truth(lastWorker, "somebody did it");
    truth(nextRunAt > lastFinishedAt, "it is done again later");
    same(lastError, undefined, "the error");
  }),

  scenario("duties() tells of one that failed what went wrong, and how long it took", async (scene) => {
    const { driver } = scene.ground;
    const failing: Driver = {
      name: driver.name,
      script: driver.script,
      query: async (text, params, options) => {
        if (text.includes("delete from orchestratum.worker ")) {
          await new Promise((resolve) => setTimeout(resolve, 30));
          throw Object.assign(new Error("no right to forget"), { code: "42501" });
        }
        return await driver.query(text, params, options);
      },
    };
    const job = defineCommand(scene.define({ name: "job" }));
    const orchestrator = createOrchestrator({ database: failing, handlers: [job.handle(() => {})] });
    scene.orchestrators.push(orchestrator);
    await driver.query(retentionIsDue, []);
    const worker = await scene.work(orchestrator);
    let retention: DutyState | undefined;
    const hasFailed = async () => {
      retention = (await orchestrator.duties()).find(({ name }) => name === "retention");
      return retention?.lastError !== undefined;
    };
    await eventually(() => `it has failed: ${JSON.stringify(retention)}`, hasFailed);
    const { lastError, lastWorker, lastDurationMs } = retention as DutyState;
    same([lastError, lastWorker], ["no right to forget", worker.id], "the error, and whose it was");
    truth(lastDurationMs && lastDurationMs >= 25, `${lastDurationMs} ms is what it took`);
    await worker.stop();
    await driver.query(retentionIsDue, []);
    await scene.working([job.handle(() => {})]);
    await eventually(
      () => `it has gone well: ${JSON.stringify(retention)}`,
      async () => !(await hasFailed()),
    );
  }),
];

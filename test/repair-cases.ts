/** Pausing by name, and what corrects a command, where other people or an end are in the way. */
import * as v from "valibot";
import { createOrchestrator, defineCommand } from "../src/index.ts";
import {
  type Case,
  eventually,
  hearingOfPause,
  limited,
  minute,
  rejection,
  same,
  scenario,
  signal,
  succeeded,
  truth,
} from "./conformance.ts";

export const repairCases: readonly Case[] = [
  scenario(
    "pauseName() puts off what comes due, not what runs or has another name, until resumeName()",
    async (scene) => {
      const mail = defineCommand(scene.define({ name: "mail", retries: 0, input: v.number() }));
      const other = defineCommand(scene.define({ name: "other" }));
      const started = signal();
      const go = signal();
      const ran: number[] = [];
      const attempts: number[] = [];
      const name = `mail_${scene.queue}`;
      const { database, heard } = hearingOfPause(scene.ground.driver, name);
      const orchestrator = createOrchestrator({
        database,
        handlers: [
          mail.handle(async ({ input, attempt }) => {
            attempts.push(attempt);
            if (input === 1) {
              started.give();
              await go.got();
            }
            ran.push(input);
          }),
          other.handle(() => {}),
        ],
      });
      scene.orchestrators.push(orchestrator);
      await scene.work(orchestrator);
      const { push, waitFor, get, pauseName, resumeName, pausedNames, queues, acts } = orchestrator;
      const first = await push(mail(1));
      await started.got();
      same(await pauseName(name, { by: "ada" }), true, "the first pause");
      await heard();
      same(await pauseName(name), false, "the second");
      const waiting = await push([mail(2), mail(3), mail(4)]);
      for (let count = 0; count < 3; count++) await waitFor((await push(other())).id, limited);
      same(ran, [], "what ran");
      // What is put off is claimed again and again, and runs for that moment as far as others can see.
      await eventually("it is put off without an attempt", async () => {
        const known = await get(waiting[0].id);
        return known?.attempt === 0 && known.unknownSince !== undefined;
      });
      let state: Awaited<ReturnType<typeof queues>>[number] | undefined;
      await eventually("nothing but the first runs", async () => {
        state = (await queues()).find(({ queue }) => queue === scene.queue);
        return state?.running === 1;
      });
      same([state?.paused, state?.pausedNames], [false, [name]], "the queue's state");
      const paused = (await pausedNames()).find((one) => one.name === name);
      same([paused?.pausedBy, paused?.pausedAt instanceof Date], ["ada", true], "the pause");
      go.give();
      same((await waitFor(first.id, limited)).status, "succeeded", "what ran before");
      same(await resumeName(name, { by: "bob" }), true, "the resumption");
      same(await resumeName(name), false, "another");
      for (const { id } of waiting) succeeded(await waitFor(id, limited));
      same(ran.toSorted(), [1, 2, 3, 4], "what ran");
      same(attempts, [1, 1, 1, 1], "the attempts");
      same((await queues()).find(({ queue }) => queue === scene.queue)?.pausedNames ?? [], [], "what is paused");
      const own = (await acts()).filter(({ target }) => target.name === name);
      same(
        own.map(({ kind, by }) => [kind, by]),
        [
          ["resume", "bob"],
          ["pause", "ada"],
        ],
        "the acts",
      );
      same((await rejection(pauseName(""))).name, "RangeError", "no name");
      same((await rejection(resumeName(1 as never))).name, "TypeError", "a number");
    },
  ),

  scenario("resumeName() makes due at once what had been put off for long", async (scene) => {
    const slow = defineCommand(scene.define({ name: "slow" }));
    const orchestrator = await scene.working([slow.handle(() => {})]);
    const { push, waitFor, get, pauseName, resumeName } = orchestrator;
    await pauseName(`slow_${scene.queue}`);
    // As after a pause of an hour: it was put off for as long as it had been before, at most five minutes.
    const putOff = async (id: string): Promise<boolean> => {
      const rows = await scene.ground.driver.query<{ id: string }>(
        `update orchestratum.command set available_at = clock_timestamp() + interval '5 minutes'
          where id = $1::text::uuid and unknown_since is not null and leased_by is null returning id::text as id`,
        [id],
      );
      return rows.length > 0;
    };
    let { id } = await push(slow());
    while (!(await putOff(id))) {
      // A worker hears of a pause within a second: what it had run by then is no use here.
      if ((await get(id))?.finishedAt) ({ id } = await push(slow()));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    truth(((await get(id))?.availableAt?.getTime() ?? 0) > Date.now() + minute, "it is put off");
    await resumeName(`slow_${scene.queue}`);
    succeeded(await waitFor(id, limited));
  }),

  scenario("a push that is repeated after its input was corrected is the repeat that it is", async (scene) => {
    const send = defineCommand(scene.define({ name: "send", input: v.object({ to: v.string() }) }));
    const { push, edit, cancel, retry, get } = scene.orchestrator([], [send]);
    const command = send({ to: "a@exmaple.com" }, { id: crypto.randomUUID() });
    const { id } = await push(command);
    same(await edit(id, { input: { to: "a@example.com" } }), "changed", "the correction");
    same((await push(command)).id, id, "the repeat while it waits");
    same((await get(id))?.input, { to: "a@example.com" }, "the input");
    await cancel(id);
    same((await push(command)).id, id, "the repeat after its end");
    same(await retry(id, { input: { to: "b@example.com" } }), "retried", "the retry");
    same((await push(command)).id, id, "the repeat after the retry");
    same((await get(id))?.input, { to: "b@example.com" }, "the input");
    const other = send({ to: "1" }, { id: crypto.randomUUID() });
    await push(other);
    const conflict = await rejection(push(send({ to: "2" }, { id: other.options.id as string })));
    same(conflict.code, "ORCHESTRATUM_COMMAND_CONFLICT", "what nobody corrected");
  }),

  scenario("edit() takes the id of one command, and says so", async (scene) => {
    const job = defineCommand(scene.define({ name: "job" }));
    const { push, edit } = scene.orchestrator([], [job]);
    const { id } = await push(job(1));
    const many = await rejection(edit([id] as never, { input: 2 }));
    same([many.name, many.message.startsWith("Cannot edit: the id of one command")], ["TypeError", true], "a list");
    same((await rejection(edit("none", { input: 2 }))).name, "TypeError", "no id");
    same(
      (await rejection(edit(id, undefined as never))).message,
      "Cannot edit: input must be given, got undefined",
      "none",
    );
  }),

  scenario(
    "middleware that throws while its handler runs ends the attempt when the handler has ended",
    async (scene) => {
      const job = defineCommand(scene.define({ name: "job", retries: 1 }));
      const other = defineCommand(scene.define({ name: "other" }));
      let running = 0;
      let most = 0;
      const started = signal();
      const thrown = signal();
      const go = signal();
      await using orchestrator = createOrchestrator({
        database: scene.ground.driver,
        handlers: [
          job.handle(async ({ attempt }) => {
            most = Math.max(most, ++running);
            started.give();
            if (attempt === 1) await go.got();
            running--;
          }),
          other.handle(() => {}),
        ],
        middleware: [
          {
            async execute({ name, attempt }, next) {
              const executed = next();
              if (name.startsWith("other") || attempt > 1) return await executed;
              await started.got();
              thrown.give();
              throw new Error("in a hurry");
            },
          },
        ],
      });
      await scene.work(orchestrator);
      const { push, waitFor, get } = orchestrator;
      const { id } = await push(job());
      await thrown.got();
      for (let count = 0; count < 5; count++) await waitFor((await push(other())).id, limited);
      const meanwhile = await get(id);
      same([meanwhile?.status, meanwhile?.attempt, meanwhile?.trail.length], ["running", 1, 0], "meanwhile");
      go.give();
      succeeded(await waitFor(id, limited));
      same(
        (await get(id))?.trail.map(({ message }) => message),
        ["in a hurry"],
        "the trail",
      );
      same(most, 1, "how many ran at once");
    },
  ),
];

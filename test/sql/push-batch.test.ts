import { expect, test } from "vitest";
import { queries } from "../../src/sql.generated.ts";
import { type Command, newId, time, useSessions } from "./session.ts";

const sessions = useSessions();

test("push_batch() answers what is new, a microsecond apart in the order given", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const ids = [newId(), newId(), newId()].toReversed();
  const pushed = await one.push(
    ids.map((id) => ({ id, queue })),
    { at: time(0) },
  );
  expect(pushed).toEqual(ids.map((id, place) => ({ id, queue, available_at: time(0, place) })));
  const { commands } = await one.claim(queue, { at: time(1), maxCount: 2 });
  expect(commands.map(({ id }) => id)).toEqual(ids.slice(0, 2));
});

test("push_batch() assumes what a command leaves out", async () => {
  const { one } = sessions;
  const [pushed] = await one.push([{ name: "bare" }], { at: time(0) });
  expect(await one.look(pushed?.id ?? "", { at: time(0) })).toEqual({
    id: pushed?.id,
    name: "bare",
    version: 1,
    hook: null,
    queue: "default",
    priority: 5,
    status: "pending",
    input: null,
    output: null,
    progress: null,
    metadata: null,
    trail: null,
    fence: 0,
    attempt: 0,
    max_attempts: 4,
    losses: 0,
    timeout_ms: 60_000,
    worker: null,
    parent_id: null,
    created_at: time(0),
    due_at: time(0),
    available_at: time(0),
    started_at: null,
    finished_at: null,
    cancel_requested_at: null,
    unknown_since: null,
  });
});

test("push_batch() keeps what a command says, its input and metadata to the letter", async () => {
  const { one, newQueue } = sessions;
  const [id, parent, queue] = [newId(), newId(), newQueue()];
  await one.push(
    `[{"id": "${id}", "name": "said", "version": 3, "hook": "failure", "queue": "${queue}", "priority": 0,
      "max_attempts": 1, "timeout_ms": 7, "awaited": true, "parent_id": "${parent}",
      "input": {"b":  1e300, "a": "\\u00e9"}, "metadata": {"z": 1, "a":2.50}}]`,
  );
  expect(await one.look(id)).toMatchObject({
    name: "said",
    version: 3,
    hook: "failure",
    queue,
    priority: 0,
    max_attempts: 1,
    timeout_ms: 7,
    parent_id: parent,
    input: '{"b":  1e300, "a": "\\u00e9"}',
    metadata: '{"z": 1, "a":2.50}',
  });
  expect(await one.rows("select awaited from orchestratum.command where id = $1::text::uuid", [id])).toEqual([
    { awaited: true },
  ]);
});

test("push_batch() tells an input that is null from none, also when it is repeated", async () => {
  const { one, newQueue } = sessions;
  const [id, none, queue] = [newId(), newId(), newQueue()];
  const commands = [
    { id, queue, null_input: true },
    { id: none, queue },
  ];
  expect(await one.push(commands, { repeat: true })).toHaveLength(2);
  expect([(await one.look(id)).input, (await one.look(none)).input]).toEqual(["null", null]);
  expect(await one.push(commands, { repeat: true })).toEqual([]);
  await expect(one.push([{ id, queue }], { repeat: true })).rejects.toMatchObject({ code: "OR001" });
});

test("push_batch() schedules by due_at, or by delay_ms from its clock", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const pushed = await one.push(
    [
      { queue, due_at: "2030-05-06T07:08:09.123456Z" },
      { queue, delay_ms: 1_500 },
      { queue, due_at: time(2_000), delay_ms: 60_000 },
    ],
    { at: time(0) },
  );
  expect(pushed.map(({ available_at }) => available_at)).toEqual([
    "2030-05-06 07:08:09.123456+00",
    time(1_500, 1),
    time(60_000, 2),
  ]);
  const known = await Promise.all(pushed.map(({ id }) => one.look(id, { at: time(0) })));
  expect(known.map(({ due_at }) => due_at)).toEqual(["2030-05-06 07:08:09.123456+00", time(1_500), time(2_000)]);
  expect(known.map(({ status }) => status)).toEqual(["scheduled", "scheduled", "scheduled"]);
  expect((await one.claim(queue, { at: time(1_500) })).commands).toEqual([]);
  expect((await one.claim(queue, { at: time(1_500, 1) })).commands).toHaveLength(1);
});

test("push_batch() makes nothing available before its clock, and remembers when it was wanted", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const pushed = await one.push(
    [
      { queue, due_at: time(-60_000) },
      { queue, delay_ms: -5_000 },
    ],
    { at: time(0) },
  );
  expect(pushed.map(({ available_at }) => available_at)).toEqual([time(0), time(0, 1)]);
  const known = await Promise.all(pushed.map(({ id }) => one.look(id)));
  expect(known.map(({ due_at }) => due_at)).toEqual([time(-60_000), time(-5_000)]);
});

test.each<[string, Command]>([
  ["an empty name", { name: "" }],
  ["a name of more than 200 characters", { name: "é".repeat(201) }],
  ["version 0", { version: 0 }],
  ["a hook that does not exist", { hook: "success" }],
  ["an empty queue", { queue: "" }],
  ["a queue of more than 100 characters", { queue: "é".repeat(101) }],
  ["a queue with a space", { queue: "a b" }],
  ["a priority below 0", { priority: -1 }],
  ["a priority above 9", { priority: 10 }],
  ["no attempts", { max_attempts: 0 }],
  ["no time", { timeout_ms: 0 }],
  ["a time before 1970", { due_at: "1969-12-31T00:00:00Z" }],
  ["a time after 9999", { due_at: "10000-01-01T00:00:00Z" }],
])("push_batch() refuses %s, and the batch with it", async (_, command) => {
  const { one, newQueue } = sessions;
  const [id, queue] = [newId(), newQueue()];
  await expect(one.push([{ id, queue }, command])).rejects.toMatchObject({ code: "23514" });
  expect(await one.get([id])).toEqual([]);
});

test("push_batch() leaves a command alone whose id is there", async () => {
  const { one, newQueue } = sessions;
  const [id, queue] = [newId(), newQueue()];
  await one.push([{ id, queue, input: 1 }], { at: time(0) });
  expect(await one.push([{ id, queue, input: 2 }, { queue }], { at: time(1) })).toHaveLength(1);
  expect(await one.look(id)).toMatchObject({ input: "1", created_at: time(0) });
});

test("push_batch() repeated changes nothing while the command lives", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const command = { id: newId(), queue, input: { a: 1 } };
  expect(await one.push([command], { at: time(0), repeat: true })).toHaveLength(1);
  const waiting = await one.look(command.id, { at: time(0) });
  expect(await one.push([command], { at: time(1), repeat: true })).toEqual([]);
  expect(await one.look(command.id, { at: time(0) })).toEqual(waiting);

  await one.claim(queue, { at: time(2) });
  const leased = await one.look(command.id, { at: time(3) });
  expect(leased).toMatchObject({ status: "running", fence: 1 });
  expect(await one.push([command], { at: time(3), repeat: true })).toEqual([]);
  expect(await one.look(command.id, { at: time(3) })).toEqual(leased);
});

test("push_batch() repeated takes out again what has finished, and answers what is new", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const lease = await one.leaseOne(queue);
  await one.end("worker", { ...lease, verdict: "succeeded" }, { at: time(1) });
  const [live, fresh] = [newId(), newId()];
  await one.push([{ id: live, queue }], { at: time(2) });

  const repeated = await one.push(
    [lease, { id: live }, { id: fresh }].map(({ id }) => ({ id, queue })),
    {
      at: time(3),
      repeat: true,
    },
  );
  expect(repeated).toEqual([{ id: fresh, queue, available_at: time(3, 2) }]);
  expect((await one.claim(queue, { at: time(4) })).commands.map(({ id }) => id)).toEqual([live, fresh]);
  expect(await one.look(lease.id)).toMatchObject({ status: "succeeded", fence: 1 });
});

test("push_batch() repeated does not double a command that finished while the insert waited", async () => {
  const { one, two, newQueue, waitsForLock } = sessions;
  const queue = newQueue();
  const command = { id: newId(), queue };
  await one.begin();
  await one.push([command], { at: time(0) });
  const repeated = two.push([command], { at: time(0), repeat: true });
  await waitsForLock(two);
  await one.claim(queue, { at: time(1) });
  expect(await one.end("worker", { ...command, fence: 1, verdict: "succeeded" }, { at: time(2) })).toBe("accepted");
  await one.commit();

  expect(await repeated).toEqual([]);
  expect(await one.look(command.id)).toMatchObject({ status: "succeeded" });
  expect((await one.claim(queue, { at: time(3) })).commands).toEqual([]);
});

test("push_batch() repeated waits for the first push, and pushes only if that is undone", async () => {
  const { one, two, newQueue, waitsForLock } = sessions;
  for (const { end, answered } of [
    { end: "commit", answered: 0 },
    { end: "rollback", answered: 1 },
  ] as const) {
    const queue = newQueue();
    const command = { id: newId(), queue };
    await one.begin();
    await one.push([command], { at: time(0) });
    const repeated = two.push([command], { at: time(1), repeat: true });
    await waitsForLock(two);
    await one[end]();
    expect(await repeated).toHaveLength(answered);
    expect((await one.claim(queue, { at: time(2) })).commands.map(({ id }) => id)).toEqual([command.id]);
  }
});

test("push_batch() repeated inserts in the order of ids, so that batches wait for each other in one direction", async () => {
  const { one, two, three, newQueue, waitsForLock } = sessions;
  const queue = newQueue();
  const [first, second] = [
    { id: newId(), queue },
    { id: newId(), queue },
  ];
  await one.begin();
  await one.push([first]);
  const batch = two.push([second, first], { repeat: true });
  await waitsForLock(two);
  // The batch waits for the first id and has not come to the second.
  expect(await three.push([second], { repeat: true })).toHaveLength(1);
  await one.commit();
  expect(await batch).toEqual([]);
});

test.each([
  { what: "another name", command: { name: "other", input: { a: 1 } } },
  { what: "another input", command: { input: { a: 2 } } },
  { what: "no input", command: {} },
])("push_batch() refuses an id that was pushed before with $what", async ({ command }) => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const lease = await one.leaseOne(queue, { input: { a: 1 } });
  const [twin, other] = [{ id: lease.id, queue, ...command }, newId()];
  const refused = { code: "OR001", detail: lease.id };
  const batch = [{ id: other, queue, input: 1 }, twin];

  await expect(one.push(batch, { repeat: true })).rejects.toMatchObject(refused);
  await one.end("worker", { ...lease, verdict: "succeeded" }, { at: time(1) });
  await expect(one.push(batch, { repeat: true })).rejects.toMatchObject(refused);
  expect(await one.get([other])).toEqual([]);
  expect(await one.get([lease.id])).toHaveLength(1);
});

test("push_batch() takes the same input in another order of keys, and with other white space, for the same", async () => {
  const { one, newQueue } = sessions;
  const [id, queue] = [newId(), newQueue()];
  const written = (input: string): string => `[{"id": "${id}", "name": "a", "queue": "${queue}", "input": ${input}}]`;
  await one.push(written('{"a": 1, "b": [1, 2]}'), { repeat: true });
  expect(await one.push(written('{"b":[1,2],\n"a":1}'), { repeat: true })).toEqual([]);
  await expect(one.push(written('{"a": 1, "b": [2, 1]}'), { repeat: true })).rejects.toMatchObject({ code: "OR001" });
  expect((await one.look(id)).input).toBe('{"a": 1, "b": [1, 2]}');
});

test("push_batch() takes a repeated input that jsonb could not hold", async () => {
  const { one, newQueue } = sessions;
  const command = `[{"id": "${newId()}", "name": "a", "queue": "${newQueue()}", "input": 1e999999}]`;
  expect(await one.push(command, { repeat: true })).toHaveLength(1);
  expect(await one.push(command, { repeat: true })).toEqual([]);
});

test("push_batch() tells the transaction it is in", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  await one.begin();
  const pushed = await one.rows(queries.pushBatchWithin, [JSON.stringify([{ name: "a", queue }]), false]);
  const { id } = await one.row<{ id: string }>("select pg_current_xact_id()::text as id");
  expect(pushed).toMatchObject([{ queue, transaction_id: id }]);
  await one.rollback();
  expect((await one.claim(queue)).commands).toEqual([]);
});

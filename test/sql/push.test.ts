import postgres from "postgres";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { msOf, newId, registerHandler, type Session, time, useSessions } from "./session.ts";

const sessions = useSessions();

const heard: string[] = [];
let listener: postgres.Sql;
beforeAll(async () => {
  listener = postgres(sessions.url, { onnotice: () => {} });
  await listener.listen("orchestratum", (payload) => heard.push(payload));
});
afterAll(() => listener.end());

async function push(session: Session, name: string, input: string | null = null, options = {}): Promise<string> {
  const { id } = await session.row<{ id: string }>(
    "select orchestratum.push($1::text, $2::text::json, $3::text::json)::text as id",
    [name, input, JSON.stringify(options)],
  );
  return id;
}

/** What has been heard when everything that was sent before has come. */
async function hears(queue: string): Promise<string[]> {
  const marker = newId();
  await sessions.three.rows("select pg_notify('orchestratum', $1::text)", [marker]);
  await vi.waitFor(() => expect(heard).toContain(marker), { timeout: 10_000, interval: 2 });
  return heard.filter((payload) => payload.includes(queue));
}

test("push() needs a name and nothing else", async () => {
  const { one } = sessions;
  const { id } = await one.row<{ id: string }>("select orchestratum.push('nobody_knows')::text as id");
  expect(await one.look(id)).toMatchObject({
    name: "nobody_knows",
    version: 1,
    queue: "default",
    priority: 5,
    max_attempts: 4,
    timeout_ms: 60_000,
    input: null,
    metadata: null,
    status: "pending",
  });
});

test("push() takes what is not said from the newest version of the handler", async () => {
  const { one, newQueue } = sessions;
  const name = newQueue();
  await registerHandler(one, { name, version: 2, queue: name, priority: 3, max_attempts: 9, timeout_ms: 1_234 });
  await registerHandler(one, { name, version: 1, queue: "old", priority: 1, max_attempts: 1, timeout_ms: 1 });
  const registered = { version: 2, queue: name, priority: 3, max_attempts: 9, timeout_ms: 1_234 };
  expect(await one.look(await push(one, name))).toMatchObject(registered);
  const nulls = { version: null, queue: null, priority: null, max_attempts: null, timeout_ms: null, metadata: null };
  expect(await one.look(await push(one, name, "1", nulls))).toMatchObject({ ...registered, metadata: null });
});

test("push() prefers its options to what the handler registered", async () => {
  const { one, newQueue } = sessions;
  const name = newQueue();
  await registerHandler(one, { name, version: 2, queue: "other", priority: 3, max_attempts: 9, timeout_ms: 1_234 });
  const said = { version: 1, queue: name, priority: 0, max_attempts: 1, timeout_ms: 5, metadata: { actor: "psql" } };
  const known = await one.look(await push(one, name, null, said));
  expect({ ...known, metadata: JSON.parse(known.metadata ?? "") }).toMatchObject(said);
});

test("push() assumes what neither its options nor the handler say", async () => {
  const { one, newQueue } = sessions;
  const name = newQueue();
  await registerHandler(one, { name });
  const known = await one.look(await push(one, name));
  expect(known).toMatchObject({ version: 1, queue: "default", priority: 5, max_attempts: 4, timeout_ms: 60_000 });
});

test("push() takes name and input from its arguments, whatever its options say", async () => {
  const { one, newQueue } = sessions;
  const name = newQueue();
  const id = await push(one, name, '{"b":  1e300, "a": 1}', { name: "other", input: 2, null_input: true });
  expect(await one.look(id)).toMatchObject({ name, input: '{"b":  1e300, "a": 1}' });
});

test("push() tells an input that is null from none", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  expect((await one.look(await push(one, "a", "null", { queue }))).input).toBe("null");
  expect((await one.look(await push(one, "a", null, { queue }))).input).toBeNull();
});

test("push() schedules by due_at, which is UTC without a zone, or by delay_ms", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const scheduled = await one.look(await push(one, "a", null, { queue, due_at: "2100-01-02T03:04:05" }));
  expect(scheduled).toMatchObject({ due_at: "2100-01-02 03:04:05+00", status: "scheduled" });
  const delayed = await one.look(await push(one, "a", null, { queue, delay_ms: 60_000 }));
  expect(msOf(delayed.available_at ?? "") - msOf(delayed.created_at)).toBeCloseTo(60_000, -1);
});

test("push() notifies with the queue and the time when its transaction commits", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  await one.begin();
  await push(one, "a", null, { queue, due_at: "2100-01-01T00:00:00.123987Z" });
  expect(await hears(queue)).toEqual([]);
  await one.commit();
  expect(await hears(queue)).toEqual([`q ${queue} ${Date.UTC(2100, 0, 1) + 123}`]);

  const id = await push(one, "a", null, { queue });
  const { available_at } = await one.look(id);
  expect((await hears(queue))[1]).toBe(`q ${queue} ${Math.floor(msOf(available_at ?? "") + Date.UTC(2025, 0, 1))}`);
});

test("push() can be repeated with an id, and notifies once", async () => {
  const { one, newQueue } = sessions;
  const [id, queue] = [newId(), newQueue()];
  for (let time = 0; time < 2; time += 1) expect(await push(one, "a", '{"a": 1}', { id, queue })).toBe(id);
  const { commands } = await one.claim(queue);
  expect(commands.map((command) => command.id)).toEqual([id]);
  await one.end("worker", { id, fence: 1, verdict: "succeeded" });
  expect(await push(one, "a", '{"a": 1}', { id, queue })).toBe(id);
  expect((await one.claim(queue)).commands).toEqual([]);
  expect(await hears(queue)).toHaveLength(1);
  await expect(push(one, "a", '{"a": 2}', { id, queue })).rejects.toMatchObject({ code: "OR001" });
});

test("push() takes an input of 262,144 bytes and none that is longer", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const input = JSON.stringify("é".repeat(131_071));
  expect((await one.look(await push(one, "a", input, { queue }))).input).toBe(input);
  await expect(push(one, "big", `${input} `, { queue })).rejects.toMatchObject({
    code: "54000",
    message: 'Cannot push command "big": its input has 262145 bytes, and at most 262144 are allowed',
  });
});

test("push() takes metadata of 8,192 bytes and none that are longer", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const metadata = { a: "é".repeat(4_092) };
  expect(JSON.parse((await one.look(await push(one, "a", null, { queue, metadata }))).metadata ?? "")).toEqual(
    metadata,
  );
  await expect(push(one, "big", null, { queue, metadata: { a: `${metadata.a}a` } })).rejects.toMatchObject({
    code: "54000",
    message: 'Cannot push command "big": its metadata has 8193 bytes, and at most 8192 are allowed',
  });
});

test("push() works in a trigger, and is undone with what fired it", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  await one.rows("create table invoice (id int primary key)");
  await one.rows(`
    create function remind() returns trigger language plpgsql as $$
    begin
      perform orchestratum.push('remind', json_build_object('invoice', new.id), '{"queue": "${queue}"}');
      return new;
    end $$`);
  await one.rows("create trigger remind after insert on invoice for each row execute function remind()");
  await one.begin();
  await one.rows("insert into invoice values (1)");
  await one.rollback();
  await one.rows("insert into invoice values (2)");
  const { commands } = await one.claim(queue);
  expect(commands.map(({ input }) => JSON.parse(input ?? ""))).toEqual([{ invoice: 2 }]);
});

test("push() refuses what push_batch() refuses", async () => {
  const { one } = sessions;
  await expect(push(one, "")).rejects.toMatchObject({ code: "23514" });
  await expect(push(one, "a", null, { queue: "a b" })).rejects.toMatchObject({ code: "23514" });
  await expect(push(one, "a", null, { due_at: time(0).replace("2025", "20250") })).rejects.toMatchObject({
    code: "23514",
  });
});

import { expect, test } from "vitest";
import { createMarks, formatMicros, lagMs, type Marks, type Plan, parseMicros } from "../src/marks.ts";

const noon = parseMicros("2026-10-01 12:00:00+00");
const second = 1_000_000;
/** Never the claim in ten that starts elsewhere. */
const ordinary = 0.5;

/** A time in seconds after noon, as the database prints it. */
function at(seconds: number): string {
  return formatMicros(noon + seconds * second).replace("T", " ");
}

/** Where the next claim starts to read, in seconds after noon: by queue and priority. */
function markOf(plan: Plan, queue = "default", priority = 0): number {
  const lanes = JSON.parse(plan.json) as { queue: string; priority: number; mark_at: string }[];
  const { mark_at } = lanes.find((lane) => lane.queue === queue && lane.priority === priority) as { mark_at: string };
  return mark_at === "-infinity" ? Number.NEGATIVE_INFINITY : (parseMicros(mark_at.replace("T", " ")) - noon) / second;
}

/** One claim: what it gave by lane (1 is the first) and time, at a clock. */
function claim(marks: Marks, clock: number, rows: readonly [lane: number, time: number][], more = true): void {
  const reply = { clock: at(clock), more, rows: rows.map(([lane, time]) => ({ lane, available_at: at(time) })) };
  marks.settle(marks.plan(ordinary), reply);
}

test("marks start from below", () => {
  const marks = createMarks(["default"]);
  expect(markOf(marks.plan(ordinary))).toBe(Number.NEGATIVE_INFINITY);
});

test("marks follow the claim before the last, so that what one passed over the next finds", () => {
  const marks = createMarks(["default"]);
  claim(marks, 100, [
    [1, 8],
    [1, 10],
    [1, 9],
  ]);
  expect(markOf(marks.plan(ordinary))).toBe(Number.NEGATIVE_INFINITY);
  claim(marks, 101, [[1, 20]]);
  expect(markOf(marks.plan(ordinary))).toBe(10);
  claim(marks, 102, [[1, 30]]);
  expect(markOf(marks.plan(ordinary))).toBe(20);
});

test("marks never come nearer to the clock than 250 ms", () => {
  expect(lagMs).toBe(250);
  const marks = createMarks(["default"]);
  claim(marks, 10, [[1, 10]]);
  claim(marks, 10.1, [[1, 10.1]]);
  expect(markOf(marks.plan(ordinary))).toBe(9.85);
  claim(marks, 10.2, [], false);
  expect(markOf(marks.plan(ordinary))).toBe(9.95);
});

test("marks go by the clock that the claim answered, whatever rows say of the future", () => {
  const marks = createMarks(["default"]);
  claim(marks, 10, [[1, 5_000]]);
  claim(marks, 11, [[1, 5_001]]);
  expect(markOf(marks.plan(ordinary))).toBe(10.75);
});

test("marks never go back but for a hint", () => {
  const marks = createMarks(["default"]);
  claim(marks, 100, [], false);
  claim(marks, 50, [[1, 20]]);
  claim(marks, 51, [[1, 21]]);
  expect(markOf(marks.plan(ordinary))).toBe(99.75);
});

test("marks of lanes before the last that gave a row come up, those after it stay", () => {
  const marks = createMarks(["default"]);
  // An idle lane may follow at once, or one claim later: it must not stay below for ever.
  claim(marks, 100, [[4, 10]]);
  claim(marks, 101, [[4, 11]]);
  claim(marks, 102, [[4, 12]]);
  const plan = marks.plan(ordinary);
  expect(markOf(plan, "default", 0)).toBeGreaterThanOrEqual(99.75);
  expect(markOf(plan, "default", 0)).toBeLessThanOrEqual(101.75);
  expect(markOf(plan, "default", 2)).toBe(markOf(plan, "default", 0));
  expect(markOf(plan, "default", 3)).toBe(11);
  expect(markOf(plan, "default", 4)).toBe(Number.NEGATIVE_INFINITY);
});

test("marks of all lanes go to the clock less 250 ms where nothing more is due", () => {
  const marks = createMarks(["a", "b"]);
  claim(marks, 100, [[3, 10]], false);
  const plan = marks.plan(ordinary);
  for (const queue of ["a", "b"]) {
    for (let priority = 0; priority < 10; priority++) expect(markOf(plan, queue, priority)).toBe(99.75);
  }
});

test("marks stay where a claim got nothing although more is due", () => {
  const marks = createMarks(["default"]);
  claim(marks, 100, [], false);
  claim(marks, 200, [], true);
  expect(markOf(marks.plan(ordinary))).toBe(99.75);
});

test("hint() lowers the marks of its queue to where it says, and no others", () => {
  const marks = createMarks(["a", "b"]);
  claim(marks, 100, [], false);
  marks.hint("a", noon + 40 * second);
  marks.hint("a", noon + 50 * second);
  marks.hint("unknown", noon);
  const plan = marks.plan(ordinary);
  expect([0, 9].map((priority) => markOf(plan, "a", priority))).toEqual([40, 40]);
  expect(markOf(plan, "b")).toBe(99.75);
});

test("hint() of what lies ahead raises nothing", () => {
  const marks = createMarks(["default"]);
  claim(marks, 100, [], false);
  marks.hint("default", noon + 500 * second);
  expect(markOf(marks.plan(ordinary))).toBe(99.75);
});

test("hint() holds through the next claim, which may pass over what it told of", () => {
  const marks = createMarks(["default"]);
  claim(marks, 100, [[1, 90]]);
  claim(marks, 101, [[1, 95]]);
  marks.hint("default", noon + 40 * second);
  claim(marks, 102, [[1, 96]]);
  expect(markOf(marks.plan(ordinary))).toBe(40);
});

test("hint() survives the reply of a claim that was open when it came", () => {
  for (const [rows, more] of [
    [[], false],
    [[{ lane: 1, available_at: at(90) }], true],
    [[{ lane: 3, available_at: at(90) }], true],
  ] as const) {
    const marks = createMarks(["default"]);
    claim(marks, 99, [[1, 80]]);
    const plan = marks.plan(ordinary);
    marks.hint("default", noon + 40 * second);
    marks.settle(plan, { clock: at(100), more, rows });
    const next = marks.plan(ordinary);
    expect(markOf(next, "default", 0)).toBeLessThanOrEqual(40);
    // And the next reply, too, may not carry it back over what that claim passed over.
    marks.settle(next, { clock: at(101), more: true, rows: [{ lane: 1, available_at: at(91) }] });
    expect(markOf(marks.plan(ordinary))).toBeLessThanOrEqual(40);
  }
});

test("hint() is forgotten with the claim after it", () => {
  const marks = createMarks(["default"]);
  marks.hint("default", noon + 40 * second);
  claim(marks, 100, [], false);
  expect(markOf(marks.plan(ordinary))).toBe(99.75);
});

test("plan() lists lanes by priority, and within one by queue in turn", () => {
  const marks = createMarks(["a", "b"]);
  const first = () => marks.plan(ordinary).lanes.map(({ queue, priority }) => `${queue}${priority}`);
  const [one, two] = [first(), first()];
  expect(one.slice(0, 4)).toEqual(["a0", "b0", "a1", "b1"]);
  expect(two.slice(0, 4)).toEqual(["b0", "a0", "b1", "a1"]);
  expect(new Set(one).size).toBe(20);
});

test("plan() lets one claim in ten start at another lane, any of them", () => {
  const marks = createMarks(["default"]);
  const starts = Array.from({ length: 1_000 }, (_, i) => marks.plan(i / 1_000).lanes[0]?.priority);
  expect(starts.filter((priority) => priority !== 0)).toHaveLength(90);
  for (let priority = 1; priority < 10; priority++) {
    expect(starts.filter((start) => start === priority)).toHaveLength(10);
  }
  // All lanes are there, in a circle: what was started from goes on to the end and around.
  expect(marks.plan(0.055).lanes.map(({ priority }) => priority)).toEqual([5, 6, 7, 8, 9, 0, 1, 2, 3, 4]);
});

test("settle() moves the marks of the lanes in the order that the claim had them", () => {
  const marks = createMarks(["default"]);
  const elsewhere = marks.plan(0.055);
  marks.settle(elsewhere, { clock: at(100), more: true, rows: [{ lane: 2, available_at: at(10) }] });
  claim(marks, 101, [[7, 20]]);
  const plan = marks.plan(ordinary);
  // The second lane of that claim was priority 6; 7, 8, 9 come after it and were not reached.
  expect(markOf(plan, "default", 6)).toBe(10);
  expect(markOf(plan, "default", 7)).toBe(Number.NEGATIVE_INFINITY);
});

test("plan() of a rescan reads from below, and a reply without more moves nothing", () => {
  const marks = createMarks(["a", "b"]);
  claim(marks, 100, [], false);
  const rescan = marks.plan(ordinary, "b");
  expect(rescan.queues).toEqual(["b"]);
  expect(rescan.lanes).toHaveLength(10);
  expect(markOf(rescan, "b")).toBe(Number.NEGATIVE_INFINITY);
  marks.settle(rescan, { clock: at(200), more: false, rows: [{ lane: 1, available_at: at(5) }] });
  const plan = marks.plan(ordinary);
  for (const queue of ["a", "b"]) expect(markOf(plan, queue)).toBe(99.75);
});

test("lookAtAll() lets plans read from below, and the marks rise again in what they meet there", () => {
  const marks = createMarks(["default"]);
  claim(marks, 100, [], false);
  marks.lookAtAll();
  expect(marks.covered).toBe(false);
  expect(markOf(marks.plan(ordinary), "default")).toBe(Number.NEGATIVE_INFINITY);
  // A backlog in the lane of priority 5: its mark follows the claim before the last, as ever.
  for (const from of [10, 11, 12]) {
    const plan = marks.plan(ordinary);
    expect(markOf(plan, "default", 5)).toBe(from < 12 ? Number.NEGATIVE_INFINITY : 10);
    expect(markOf(plan, "default", 6)).toBe(Number.NEGATIVE_INFINITY);
    marks.settle(plan, { clock: at(101), more: true, rows: [{ lane: 6, available_at: at(from) }] });
  }
  claim(marks, 102, [], false);
  expect(markOf(marks.plan(ordinary), "default", 6)).toBe(101.75);
  expect(marks.covered).toBe(true);
});

test("lookAtAll() while a claim is under way is not undone by its reply", () => {
  const marks = createMarks(["default"]);
  claim(marks, 100, [], false);
  const plan = marks.plan(ordinary);
  marks.lookAtAll();
  marks.settle(plan, { clock: at(101), more: false, rows: [] });
  expect(marks.covered).toBe(false);
  expect(markOf(marks.plan(ordinary), "default")).toBe(Number.NEGATIVE_INFINITY);
});

test("settle() of a rescan that left something lets ordinary claims get at it", () => {
  const marks = createMarks(["default"]);
  claim(marks, 100, [], false);
  // Far behind the marks, and more of that kind.
  marks.settle(marks.plan(ordinary, "default"), {
    clock: at(101),
    more: true,
    rows: [{ lane: 3, available_at: at(5) }],
  });
  const plan = marks.plan(ordinary);
  expect(markOf(plan, "default", 2)).toBeLessThanOrEqual(5);
  // What comes after that lane the next rescan looks at: reading all of it anew would cost every claim in a backlog.
  expect(markOf(plan, "default", 3)).toBe(99.75);
  expect(markOf(plan, "default", 0)).toBe(99.75);
});

test("plan() probes at most a hundred lanes: those hinted first, and all queues in turn", () => {
  const queues = Array.from({ length: 25 }, (_, i) => `q${i}`);
  const marks = createMarks(queues);
  const seen = new Set<string>();
  for (let i = 0; i < 4; i++) {
    const plan = marks.plan(ordinary);
    expect(plan.lanes).toHaveLength(100);
    expect(new Set(plan.queues).size).toBe(10);
    for (const queue of plan.queues) seen.add(queue);
  }
  expect(seen.size).toBe(25);

  const hinted = ["q3", "q14", "q22"];
  for (const queue of hinted) marks.hint(queue, noon);
  expect(marks.plan(ordinary).queues).toEqual(expect.arrayContaining(hinted));
});

test("plan() passes over no queue for long while others are hinted at again and again", () => {
  const queues = Array.from({ length: 25 }, (_, i) => `q${i}`);
  const marks = createMarks(queues);
  const seen = new Set<string>();
  for (let i = 0; i < 60; i++) {
    for (const queue of queues.slice(0, 15)) marks.hint(queue, noon);
    const plan = marks.plan(ordinary);
    for (const queue of plan.queues) seen.add(queue);
    marks.settle(plan, { clock: at(100 + i), more: false, rows: [] });
  }
  expect(seen.size).toBe(25);
});

test("pause() leaves a queue out of all plans, lets its marks stand still, and keeps what is hinted", () => {
  const marks = createMarks(["a", "b"]);
  claim(marks, 100, [], false);
  expect(marks.pause(new Set(["a", "elsewhere"]))).toEqual([]);
  expect(marks.open).toEqual(["b"]);
  for (let time = 200; time < 205; time++) {
    expect(marks.plan(ordinary).queues).toEqual(["b"]);
    claim(marks, time, [], false);
  }
  expect(marks.covered).toBe(true);
  marks.hint("a", noon + 50 * second);
  expect(marks.covered).toBe(true);
  expect(marks.pause(new Set())).toEqual(["a"]);
  expect(marks.covered).toBe(false);
  const plan = marks.plan(ordinary);
  expect([markOf(plan, "a"), markOf(plan, "b")]).toEqual([50, 203.75]);
  expect(marks.pause(new Set(["a", "b"]))).toEqual([]);
  expect(marks.open).toEqual([]);
});

test("pause() of some among more queues than a claim may probe leaves the turns to the others", () => {
  const queues = Array.from({ length: 25 }, (_, index) => `queue_${index}`);
  const marks = createMarks(queues);
  marks.pause(new Set(queues.slice(0, 5)));
  for (const queue of queues) marks.hint(queue, noon);
  const seen = new Set([1, 2, 3, 4].flatMap(() => marks.plan(ordinary).queues));
  expect([...seen].toSorted()).toEqual(queues.slice(5).toSorted());
});

test("parseMicros() and formatMicros() are exact to the microsecond", () => {
  expect(parseMicros("1970-01-01 00:00:00+00")).toBe(0);
  expect(parseMicros("2026-10-01 09:08:07.654321+00") % second).toBe(654_321);
  expect(parseMicros("2026-10-01 09:08:07.5+00") % second).toBe(500_000);
  expect(parseMicros("2026-10-01 09:08:07.000001+00") - parseMicros("2026-10-01 09:08:07+00")).toBe(1);
  for (const text of ["2026-10-01 09:08:07.654321", "2199-12-31 23:59:59.999999", "1999-01-01 00:00:00.000999"]) {
    expect(formatMicros(parseMicros(`${text}+00`))).toBe(`${text.replace(" ", "T")}+00`);
  }
  for (const text of ["infinity", "-infinity"]) expect(formatMicros(parseMicros(text))).toBe(text);
});

test("parseMicros() refuses what is no timestamp in UTC", () => {
  for (const text of ["", "now", "2026-10-01", "2026-10-01 09:08:07+02", "2026-10-01T09:08:07Z"]) {
    expect(() => parseMicros(text)).toThrow(TypeError);
  }
});

/** Observers: each gets what it wants, and what nobody wants is not made. */
import { expect, test } from "vitest";
import { logTo } from "../src/log.ts";
import { createObservers, type Observation, observing } from "../src/observation.ts";

const started: Observation = { type: "worker_started", worker: "w", queues: ["default"] };
const stopped: Observation = { type: "worker_stopped", worker: "w", stuck: 0 };

test("an observer of some types gets these alone, and others everything", () => {
  const observers = createObservers();
  const all: string[] = [];
  const some: number[] = [];
  observers.add(({ type }) => all.push(type));
  const end = observers.add(observing(["worker_stopped"], ({ stuck }) => some.push(stuck)));
  observers.report(started);
  observers.report(stopped);
  end();
  observers.report(stopped);
  expect(all).toEqual(["worker_started", "worker_stopped", "worker_stopped"]);
  expect(some).toEqual([0]);
});

test("what is wanted is what some observer wants, while it is there", () => {
  const observers = createObservers();
  expect(observers.wants("claimed")).toBe(false);
  const endSome = observers.add(observing(["worker_stopped", "lease_lost"], () => {}));
  expect([observers.wants("claimed"), observers.wants("lease_lost")]).toEqual([false, true]);
  const endAll = observers.add(() => {});
  expect(observers.wants("claimed")).toBe(true);
  endAll();
  endSome();
  expect(observers.wants("lease_lost")).toBe(false);
});

test("one observer may be added twice, and taken away once", () => {
  const observers = createObservers();
  let times = 0;
  const observer = () => void times++;
  const end = observers.add(observer);
  observers.add(observer);
  end();
  end();
  observers.report(started);
  expect(times).toBe(1);
});

test("an observer whose wants() throws gets everything, and harms nobody", () => {
  const observers = createObservers();
  const broken: string[] = [];
  const others: string[] = [];
  const wants = () => {
    throw new Error("It broke");
  };
  observers.add(Object.assign(({ type }: Observation) => void broken.push(type), { wants }));
  observers.add(({ type }) => others.push(type));
  expect(observers.wants("claimed")).toBe(true);
  observers.report(started);
  expect([broken, others]).toEqual([["worker_started"], ["worker_started"]]);
});

test("wants() of an observer may be a method that asks itself", () => {
  const observers = createObservers();
  const seen: string[] = [];
  const observer = Object.assign(({ type }: Observation) => void seen.push(type), {
    wanted: "worker_stopped",
    wants(type: string) {
      return type === this.wanted;
    },
  });
  observers.add(observer);
  expect([observers.wants("claimed"), observers.wants("worker_stopped")]).toEqual([false, true]);
  observers.report(started);
  observers.report(stopped);
  expect(seen).toEqual(["worker_stopped"]);
});

test("a log does not want what it would not write", () => {
  const observers = createObservers();
  observers.add(logTo(() => {}, { level: "info" }));
  const debug = ["claimed", "command_started", "notification_heard"] as const;
  expect(debug.map((type) => observers.wants(type))).toEqual([false, false, false]);
  expect(observers.wants("command_finished")).toBe(true);
  observers.add(logTo(() => {}, { level: "debug" }));
  expect(debug.map((type) => observers.wants(type))).toEqual([true, true, true]);
});

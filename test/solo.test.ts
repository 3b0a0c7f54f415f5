import { afterEach, expect, test } from "vitest";
import {
  enterSolo,
  heldByProcess,
  isSoloOfAnother,
  leaseEnded,
  leaveSolo,
  moveIn,
  type Resident,
} from "../src/solo.ts";

const leaving: (() => void)[] = [];
afterEach(() => {
  for (const moveOut of leaving.splice(0)) moveOut();
});

/** A worker, as far as its process is concerned, that counts how often it was woken. */
function resident(held = 0): Resident & { woken: number; moveOut(): void } {
  const it = {
    woken: 0,
    held: () => held,
    wake: () => {
      it.woken++;
    },
    moveOut: () => {},
  };
  it.moveOut = moveIn(it);
  leaving.push(it.moveOut);
  return it;
}

test("heldByProcess() counts the leases of all workers that are there", () => {
  expect(heldByProcess()).toBe(0);
  const [one] = [resident(2), resident(3)];
  expect(heldByProcess()).toBe(5);
  one.moveOut();
  expect(heldByProcess()).toBe(3);
});

test("enterSolo() lets one worker have the process, and nobody else meanwhile", () => {
  const [one, other] = [resident(), resident()];
  expect(isSoloOfAnother(one)).toBe(false);
  expect(enterSolo(one)).toBe(true);
  expect(isSoloOfAnother(one)).toBe(false);
  expect(isSoloOfAnother(other)).toBe(true);
  expect(enterSolo(other)).toBe(false);
  expect(isSoloOfAnother(one)).toBe(false);
});

test("leaveSolo() gives the process back, and wakes everybody", () => {
  const [one, other] = [resident(), resident()];
  enterSolo(one);
  leaveSolo(one);
  expect(isSoloOfAnother(other)).toBe(false);
  expect([one.woken, other.woken]).toEqual([1, 1]);
  expect(enterSolo(other)).toBe(true);
});

test("leaveSolo() of somebody who does not have the process does nothing", () => {
  const [one, other] = [resident(), resident()];
  enterSolo(one);
  leaveSolo(other);
  expect(isSoloOfAnother(other)).toBe(true);
  expect([one.woken, other.woken]).toEqual([0, 0]);
});

test("leaseEnded() wakes the one who waits for the process to be empty, and nobody else", () => {
  const [one, other] = [resident(), resident()];
  leaseEnded();
  enterSolo(one);
  leaseEnded();
  expect([one.woken, other.woken]).toEqual([1, 0]);
});

test("a worker that moves out gives the process back", () => {
  const [one, other] = [resident(1), resident(2)];
  enterSolo(one);
  one.moveOut();
  expect(isSoloOfAnother(other)).toBe(false);
  expect(other.woken).toBe(1);
  expect(heldByProcess()).toBe(2);
});

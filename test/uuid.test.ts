import { expect, test } from "vitest";
import { isUuid, uuidv7 } from "../src/uuid.ts";

const version7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

test("uuidv7() increases, and repeats nothing, a hundred thousand times", () => {
  const ids = Array.from({ length: 100_000 }, () => uuidv7());
  let last = "";
  for (const id of ids) {
    if (!(id > last)) throw new Error(`${id} came after ${last}`);
    last = id;
  }
  expect(new Set(ids.map((id) => id.slice(-8))).size).toBeGreaterThan(99_000);
});

test("uuidv7() has the version, the variant and the time of RFC 9562", () => {
  const before = Date.now();
  const id = uuidv7();
  expect(id).toMatch(version7);
  // The time may run ahead of the clock where another test gave a later one.
  expect(Number.parseInt(id.replace("-", "").slice(0, 12), 16)).toBeGreaterThanOrEqual(before);
  expect(
    uuidv7(Date.UTC(2040, 0, 1))
      .replace("-", "")
      .slice(0, 12),
  ).toBe(Date.UTC(2040, 0, 1).toString(16).padStart(12, "0"));
  const late = 0xfedc_ba98_7654;
  expect(uuidv7(late)).toMatch(/^fedcba98-7654-7/);
});

test("uuidv7() increases when the clock goes back", () => {
  const now = 0xfedc_ba98_7700;
  const later = uuidv7(now);
  const earlier = uuidv7(now - 60_000);
  expect(earlier > later).toBe(true);
  expect(uuidv7(now + 1) > earlier).toBe(true);
});

test("isUuid() knows a UUID of any version and case, and nothing else", () => {
  for (const id of [
    uuidv7(),
    crypto.randomUUID(),
    crypto.randomUUID().toUpperCase(),
    "00000000-0000-0000-0000-000000000000",
  ]) {
    expect(isUuid(id)).toBe(true);
  }
  const id = crypto.randomUUID();
  for (const no of [
    "",
    "x",
    ` ${id}`,
    `${id}\n`,
    id.slice(1),
    `${id}0`,
    id.replaceAll("-", ""),
    `{${id}}`,
    7,
    null,
    undefined,
    {},
  ]) {
    expect(isUuid(no)).toBe(false);
  }
});

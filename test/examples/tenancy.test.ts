import { expect, test } from "vitest";
import { runExample } from "./run-example.ts";

test("tenancy.ts carries the tenant along the chain, and refuses one that is closed", async () => {
  const example = runExample("tenancy");
  expect(await example.ended).toBe(0);
  expect(example.output.split("\n")).toEqual([
    "Cannot push without a tenant",
    "sent for acme",
    "booked for acme",
    "Tenant umbrella is closed",
    "",
  ]);
}, 150_000);

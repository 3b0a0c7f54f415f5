import { afterAll, beforeAll, describe, test } from "vitest";
import type { Ground } from "../conformance.ts";
import { suites } from "../suites.ts";
import { drivers } from "./drivers.ts";

function runAll(ground: () => Ground): void {
  for (const [suite, list] of Object.entries(suites)) {
    describe(suite, () => {
      for (const { name, run } of list) test(name, { timeout: 180_000 }, () => run(ground()));
    });
  }
}

for (const { name, open } of drivers) {
  describe(name, () => {
    let ground: Awaited<ReturnType<typeof open>>;
    beforeAll(async () => {
      ground = await open();
    });
    afterAll(() => ground.close());
    runAll(() => ground);
  });
}

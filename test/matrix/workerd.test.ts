import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createDatabase, type Database } from "../database.ts";
import { suites } from "../suites.ts";
import { startWorkerd, type Workerd } from "./miniflare.ts";

let database: Database;
let workerd: Workerd;
beforeAll(async () => {
  database = await createDatabase({ max: 1 });
  workerd = await startWorkerd("test/matrix/suite-worker.ts", { bindings: { DATABASE_URL: database.url } });
  await workerd.ready;
});
afterAll(async () => {
  await workerd.dispose();
  await database.drop();
});

for (const [suite, cases] of Object.entries(suites)) {
  describe(suite, () => {
    for (const { name } of cases) {
      test(name, { timeout: 180_000 }, async () => {
        const query = new URLSearchParams({ suite, case: name });
        const answer = await workerd.dispatchFetch(`http://workerd/?${query}`);
        expect(await answer.text()).toBe("passed");
      });
    }
  });
}

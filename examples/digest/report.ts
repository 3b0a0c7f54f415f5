import { readFile } from "node:fs/promises";
import type { Queryable } from "orchestratum";
import { type Figures, report } from "./commands.ts";

export const reportHandler = (database: Queryable) =>
  report.handle(async ({ input: { run }, signal }) => {
    const sql = await readFile(new URL("report.sql", import.meta.url), "utf8");
    const [row] = await database.query<{ figures: string }>(sql, [run], { signal });
    return JSON.parse(row?.figures ?? "null") as Figures;
  });

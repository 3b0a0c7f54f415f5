import { expect, test } from "vitest";
import { useSessions } from "./session.ts";

const sessions = useSessions();

test("every table has a primary key, by which a logical subscriber finds the row that an update or a delete is about", async () => {
  // Not by the whole row: json has no equality, and one delete would stop the subscriber.
  const rows = await sessions.one.rows<{ name: string; has_key: boolean }>(`
    select c.oid::regclass::text as name, coalesce(bool_or(i.indisprimary and i.indisvalid), false) as has_key
    from pg_class c
    left join pg_index i on i.indrelid = c.oid
    where c.relnamespace = 'orchestratum'::regnamespace and c.relkind in ('r', 'p')
    group by c.oid`);
  const names = rows.map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(["orchestratum.command", "orchestratum.history_31"]));
  expect(rows.filter(({ has_key }) => !has_key)).toEqual([]);
});

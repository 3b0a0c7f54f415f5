/** A schema as text, from the system's catalogs: two that print the same are the same, names of their schemas apart. */

import type { Queryable } from "../src/driver.ts";

const parts = {
  relations: `
    select concat_ws(' ', c.relkind, c.relname, c.reloptions, pg_get_expr(c.relpartbound, c.oid), c.relacl)
    from pg_class c
    where c.relnamespace = $1::text::regnamespace`,
  columns: `
    select concat_ws(
      ' ', c.relname, (select count(*) from pg_attribute b where b.attrelid = a.attrelid and b.attnum between 1 and a.attnum and not b.attisdropped), a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
      a.attacl, pg_get_expr(d.adbin, d.adrelid)
    )
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
    where c.relnamespace = $1::text::regnamespace`,
  constraints: `
    select concat_ws(' ', x.conrelid::regclass, x.conname, pg_get_constraintdef(x.oid))
    from pg_constraint x
    where x.connamespace = $1::text::regnamespace`,
  indexes: `select i.indexdef from pg_indexes i where i.schemaname = $1::text`,
  views: `select concat_ws(' ', v.viewname, v.definition) from pg_views v where v.schemaname = $1::text`,
  functions: `
    select concat_ws(' ', pg_get_functiondef(p.oid), p.proacl, p.proowner::regrole)
    from pg_proc p
    where p.pronamespace = $1::text::regnamespace and p.prokind = 'f'`,
  triggers: `
    select pg_get_triggerdef(t.oid)
    from pg_trigger t
    join pg_class c on c.oid = t.tgrelid
    where c.relnamespace = $1::text::regnamespace and not t.tgisinternal`,
};

/** Everything that is defined in a schema, one thing a line or more, in an order that does not depend on its history. */
export async function catalog(queryable: Queryable, schema = "orchestratum"): Promise<string> {
  const sections = [];
  for (const [part, text] of Object.entries(parts)) {
    const rows = await queryable.query<{ line: string }>(`select x.line from (${text}) x (line)`, [schema]);
    const lines = rows.map(({ line }) =>
      line.replaceAll(`"${schema}"`, "<schema>").replaceAll(`${schema}.`, "<schema>."),
    );
    sections.push(`-- ${part}`, ...lines.toSorted());
  }
  return sections.join("\n");
}

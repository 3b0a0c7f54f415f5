/** The shop's database: embedded or on a server, the same for everybody who uses it. */
import type { Driver, Queryable } from "orchestratum";
import { pglite } from "orchestratum/pglite";
import { postgresJs } from "orchestratum/postgres-js";

export interface Store extends AsyncDisposable {
  readonly database: Driver;
  /** Commits what `work` did, or rolls it back where it throws. */
  transaction<Result>(work: (tx: Queryable) => Promise<Result>): Promise<Result>;
}

export async function embedded(directory?: string): Promise<Store> {
  const database = await pglite(directory);
  return {
    database,
    transaction: (work) => database.pglite.transaction((tx) => work(pglite(tx))),
    [Symbol.asyncDispose]: () => database.close(),
  };
}

export function server(url: string): Store {
  const database = postgresJs(url, { onnotice: () => {} });
  return {
    database,
    transaction: async <Result>(work: (tx: Queryable) => Promise<Result>) =>
      (await database.sql.begin((tx) => work(postgresJs(tx)))) as Result,
    [Symbol.asyncDispose]: () => database.close(),
  };
}

const tables = [
  "create table if not exists shop_order (id text primary key, customer text not null, cents int not null)",
  "create table if not exists shop_stock (product text primary key, pieces int not null)",
  `create table if not exists shop_order_summary (
    id text primary key, customer text not null, cents int not null,
    is_reserved boolean not null default false, is_confirmed boolean not null default false
  )`,
  "insert into shop_stock (product, pieces) values ('lamp', 10) on conflict do nothing",
];

export async function createTables({ database }: Store): Promise<void> {
  for (const table of tables) await database.query(table, []);
}

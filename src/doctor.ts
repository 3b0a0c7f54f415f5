/**
 * What ails a database that commands live in: what keeps them from running, and what will. Each part looks with a statement of
 * its own, and one that cannot, for a right that the role lacks, or since the server has no such thing, says so and keeps
 * none of the others from looking. Nothing is written; one notification is sent, to see whether it arrives.
 */
import { type Clock, systemClock } from "./clock.ts";
import { createDatabase, type Database, migrateCommand, NotMigratedError, sqlState } from "./database.ts";
import type { Driver, Listener } from "./driver.ts";
import { queuesText } from "./explain.ts";
import { type Keys, requireKeys } from "./limits.ts";
import { migrationState } from "./migrate.ts";
import { checkSchemaName, schemaSql } from "./schema-name.ts";
import { functions, migrations } from "./sql.generated.ts";
import { uuidv7 } from "./uuid.ts";

/** How bad it is: `error` keeps commands from running, `warning` will or may, `note` is to be known. */
export type Severity = "error" | "warning" | "note";

/** What may be found. docs/observability.md says of each what it means. */
export type FindingCode =
  | "not_migrated"
  | "migrations_pending"
  | "functions_outdated"
  | "schema_newer"
  | "function_differs"
  | "relation_missing"
  | "index_invalid"
  | "clock_skew"
  | "old_snapshot"
  | "replication_slot"
  | "prepared_transaction"
  | "dead_tuples"
  | "index_bloat"
  | "autovacuum_off"
  | "autovacuum_behind"
  | "history_overdue"
  | "events_overdue"
  | "inbox_growing"
  | "reader_failing"
  | "reader_behind"
  | "notification_queue"
  | "listen_silent"
  | "overdue_commands"
  | "expired_leases"
  | "queue_without_workers"
  | "name_without_handler"
  | "handler_elsewhere"
  | "duty_failed"
  | "duty_late"
  | "not_examined";

export interface Finding {
  readonly code: FindingCode;
  readonly severity: Severity;
  /** What was seen, with figures, in English. Never a payload. */
  readonly seen: string;
  /** What to do about it. */
  readonly advice: string;
  /** What was seen, for programs. Names end in their units: `open_ms`. */
  readonly figures: Readonly<Record<string, string | number | boolean | null>>;
}

export interface Examination {
  /** The worst first, each kind in the order of its names. */
  readonly findings: readonly Finding[];
  /** Undefined where nothing was found. */
  readonly worst: Severity | undefined;
}

/** What counts as a finding. */
export interface DoctorLimits {
  /** How far this process's clock may be from the database's, in ms. @default 2_000 */
  readonly clockSkewMs: number;
  /** How long a transaction may be open that keeps dead rows, in ms. @default 300_000 */
  readonly snapshotMs: number;
  /** How long a prepared transaction may stay so, in ms. @default 60_000 */
  readonly preparedMs: number;
  /** How much of the log an active replication slot may keep, in bytes. One that is not active is a finding in any case. @default 1 GiB */
  readonly retainedBytes: number;
  /** Dead rows of table `command`; autovacuum comes at 1,000. @default 20_000 */
  readonly deadTuples: number;
  /** An index of table `command` may be as large as this, however few rows there are, in bytes. @default 64 MiB */
  readonly indexBytes: number;
  /** Events that are not placed in the log. @default 10_000 */
  readonly inboxEvents: number;
  /** How many batches of a reader may fail in a row. @default 2 */
  readonly readerFailures: number;
  /** How long an event may be in the log that a reader has not dealt with, in ms. @default 900_000 */
  readonly readerLateMs: number;
  /** The share of the server's queue of notifications that may be used; five times that is an error. @default 0.1 */
  readonly notificationShare: number;
  /** How long to wait for the notification that is sent, in ms. @default 2_000 */
  readonly listenMs: number;
  /** How long a command may be due in a queue that is not paused, in ms. @default 300_000 */
  readonly overdueMs: number;
  /** How long a lease may be over without another claim, in ms. @default 60_000 */
  readonly expiredMs: number;
  /** How late a duty may be, in ms, beside what its workers rest. @default 900_000 */
  readonly dutyLateMs: number;
}

export interface DoctorOptions {
  /** @default "orchestratum" */
  readonly schema?: string;
  /** What counts as a finding; what is left out has its default. */
  readonly limits?: Partial<DoctorLimits>;
  /** For tests: the time of this process, in ms since 1970. @default the platform's */
  readonly now?: () => number;
  /** For tests: the clock that distances are measured by. @default the platform's */
  readonly clock?: Clock;
}

const defaults: DoctorLimits = {
  clockSkewMs: 2_000,
  snapshotMs: 300_000,
  preparedMs: 60_000,
  retainedBytes: 1024 ** 3,
  deadTuples: 20_000,
  indexBytes: 64 * 1024 ** 2,
  inboxEvents: 10_000,
  readerFailures: 2,
  readerLateMs: 900_000,
  notificationShare: 0.1,
  listenMs: 2_000,
  overdueMs: 300_000,
  expiredMs: 60_000,
  dutyLateMs: 900_000,
};

const doctorKeys: Keys<DoctorOptions> = { schema: true, limits: true, now: true, clock: true };

/** What an index entry of table `command` may take, with room to spare: a fresh one has about 60 bytes a row. */
const entryBytes = 400;

interface Patient {
  readonly driver: Driver;
  readonly database: Database;
  readonly schema: string;
  readonly limits: DoctorLimits;
  readonly clock: Clock;
  readonly now: () => number;
}

/** What is looked at, by the words that a note names it by. */
const parts: readonly (readonly [what: string, look: (patient: Patient) => Promise<Finding[]>])[] = [
  ["the functions and indexes", lookAtSchema],
  ["the clock", lookAtClock],
  ["open transactions", lookAtSnapshots],
  ["replication slots", lookAtSlots],
  ["prepared transactions", lookAtPrepared],
  ["dead rows and autovacuum", lookAtTables],
  ["the sizes of indexes", lookAtIndexes],
  ["retention", lookAtHistory],
  ["the retention of events", lookAtEvents],
  ["the inbox of events", lookAtInbox],
  ["readers", lookAtReaders],
  ["the queue of notifications", lookAtNotifications],
  ["whether notifications arrive", lookAtListening],
  ["what is due in the queues", lookAtQueues],
  ["names of commands", lookAtNames],
  ["duties", lookAtDuties],
];

/**
 * Looks at a database, and says what is wrong and what to do about it. It reads all live commands twice, and waits up to
 * two seconds for a notification. It may be asked by a role that has few rights: what it may not see is a note.
 *
 * @throws TypeError for a schema name that is none, or an option; whatever the driver throws where there is no database at all.
 * @example
 * const { findings, worst } = await examine(database);
 * for (const { code, seen, advice } of findings) console.log(`${code}: ${seen}. ${advice}`);
 */
export async function examine(driver: Driver, options: DoctorOptions = {}): Promise<Examination> {
  requireKeys("Cannot examine the database", options, doctorKeys);
  requireKeys("Cannot examine the database by these limits", options.limits, defaults);
  const { schema = "orchestratum", clock = systemClock, now = Date.now } = options;
  checkSchemaName(schema);
  const database = createDatabase(driver, schema, clock, () => {});
  const patient = { driver, database, schema, limits: { ...defaults, ...options.limits }, clock, now };
  // Where nothing answers, this throws.
  const findings = await lookAtMigrations(patient);
  const isCurrent = findings.every(({ severity }) => severity !== "error");
  for (const [what, look] of parts) {
    try {
      findings.push(...(await look(patient)));
    } catch (error) {
      // What is missing has been told of.
      if (!isCurrent && error instanceof NotMigratedError) continue;
      findings.push(notExamined(what, error));
    }
  }
  const order: readonly Severity[] = ["error", "warning", "note"];
  findings.sort(
    (a, b) => order.indexOf(a.severity) - order.indexOf(b.severity) || (a.code < b.code ? -1 : Number(a.code > b.code)),
  );
  return { findings, worst: findings[0]?.severity };
}

function notExamined(what: string, error: unknown): Finding {
  const message = error instanceof Error ? error.message : String(error);
  const denied = sqlState(error) === "42501";
  return {
    code: "not_examined",
    severity: "note",
    seen: `Could not look at ${what}: ${message}`,
    advice: denied
      ? "Ask with a role that has the rights, such as the owner of the schema"
      : "See whether the server has this at all",
    figures: { what, message },
  };
}

/** Only a right that is missing is passed over: without a connection there is nothing to examine. */
async function lookAtMigrations({ driver, schema }: Patient): Promise<Finding[]> {
  try {
    const state = await migrationState(driver, { schema });
    const migrate = `Run \`${migrateCommand(schema)}\`, or migrate() at the start of the application`;
    if (state.applied.length === 0) {
      return [
        {
          ...{ code: "not_migrated", severity: "error", seen: `Schema "${schema}" is not there`, advice: migrate },
          figures: { schema },
        },
      ];
    }
    if (state.unknown.length > 0 || state.functions === "newer") {
      return [
        {
          ...{ code: "schema_newer", severity: "note" },
          seen: `A newer release has migrated this database${state.unknown.length > 0 ? `: ${state.unknown.join(", ")}` : ""}`,
          advice: "Ask with that release: this one cannot tell whether what it does not know is in order",
          figures: { unknown: state.unknown.join(", ") },
        },
      ];
    }
    const found: Finding[] = [];
    if (state.pending.length > 0) {
      found.push({
        ...{ code: "migrations_pending", severity: "error", advice: migrate },
        seen: `The schema lacks ${state.pending.join(", ")}`,
        figures: { pending: state.pending.join(", ") },
      });
    }
    if (state.functions !== "current") {
      found.push({
        ...{ code: "functions_outdated", severity: "error", advice: migrate },
        seen: `The functions are ${state.functions === "missing" ? "of an unknown release" : "those of an older release"}`,
        figures: { functions: state.functions },
      });
    }
    return found;
  } catch (error) {
    if (sqlState(error) === "42501") return [notExamined("migrations", error)];
    throw error;
  }
}

// The schema.

/** What the migrations have made and not taken away again. */
export function expectedRelations(): Set<string> {
  const names = new Set<string>();
  const made =
    /\bcreate (?:table|view|(?:unique )?index) (?:orchestratum\.)?(\w+)(?![\w%.])|\bdrop (?:table|view|index) orchestratum\.(\w+)/g;
  for (const { up } of migrations) {
    for (const [, name, gone] of up.replaceAll(/--[^\n]*/g, "").matchAll(made)) {
      if (name !== undefined) names.add(name);
      if (gone !== undefined) names.delete(gone);
    }
  }
  return names;
}

/** A function as it would be installed: its body, and its settings as pg_proc has them. */
function expectedFunctions(schema: string): { name: string; source: string; settings: string }[] {
  return functions.map(({ name, text }) => {
    const own = schemaSql(text, schema);
    const [head = "", source = ""] = own.split("$f$");
    const attributes = head.slice(head.lastIndexOf("\nlanguage ")).replaceAll(/--[^\n]*/g, "");
    const settings = Array.from(
      attributes.matchAll(/\bset (\w+) = ([^]*?)(?=\s+(?:set \w+ =|as\s*$))/g),
      ([, key, value]) => `${key}=${value}`,
    );
    return { name, source, settings: normalised(settings) };
  });
}

const normalised = (settings: readonly string[]): string =>
  settings
    .map((setting) => setting.toLowerCase().replaceAll(/['"\s]/g, ""))
    .toSorted()
    .join(" ");

async function lookAtSchema({ database, driver, schema }: Patient): Promise<Finding[]> {
  const state = await migrationState(driver, { schema });
  // Of what an older or a newer release has left this one knows nothing.
  if (state.pending.length > 0 || state.unknown.length > 0 || state.functions !== "current") return [];
  const [row] = await database.run<{ functions: string | null; relations: string | null }>("lookAtSchema", []);
  const found: Finding[] = [];
  const installed = JSON.parse(row?.functions ?? "[]") as { name: string; source: string; settings: string[] | null }[];
  for (const { name, source, settings } of expectedFunctions(schema)) {
    const own = installed.filter((one) => one.name === name);
    const isSame =
      own.length === 1 && own.every((one) => one.source === source && normalised(one.settings ?? []) === settings);
    if (isSame) continue;
    const how =
      own.length === 0
        ? "is missing"
        : own.length > 1
          ? "is there more than once"
          : "is not what this release installs";
    found.push({
      ...{ code: "function_differs", severity: "error" },
      seen: `Function ${schema}.${name} ${how}`,
      advice: `Run \`update ${schema}.setting set functions_hash = null\`, and then \`${migrateCommand(schema)}\`: all functions are installed anew`,
      figures: { function: name },
    });
  }
  const relations = new Map(
    (JSON.parse(row?.relations ?? "[]") as { name: string; valid: boolean }[]).map((one) => [one.name, one.valid]),
  );
  for (const name of expectedRelations()) {
    if (relations.has(name)) continue;
    found.push({
      ...{ code: "relation_missing", severity: "error" },
      seen: `${schema}.${name} is missing: a table, view or index that a migration has made`,
      advice: "Make it again, as `orchestratum sql` prints it",
      figures: { relation: name },
    });
  }
  for (const [name, valid] of relations) {
    if (valid) continue;
    found.push({
      ...{ code: "index_invalid", severity: "error" },
      seen: `Index ${schema}.${name} is invalid: building it did not end well`,
      advice: `Run \`reindex index ${schema}.${name}\``,
      figures: { index: name },
    });
  }
  return found;
}

async function lookAtClock({ database, limits, clock, now }: Patient): Promise<Finding[]> {
  const before = clock.now();
  const [row] = await database.run<{ ms: number }>("readClock", []);
  const tripMs = clock.now() - before;
  // It read its clock somewhere on the way: half of the way either way is not known.
  const skewMs = (row?.ms ?? 0) - (now() - tripMs / 2);
  if (Math.abs(skewMs) - tripMs / 2 <= limits.clockSkewMs) return [];
  return [
    {
      ...{ code: "clock_skew", severity: "warning" },
      seen: `The database's clock is ${duration(Math.abs(skewMs))} ${skewMs > 0 ? "ahead of" : "behind"} this machine's`,
      advice:
        "Set both by NTP: leases and delays go by the database's clock alone, but a `runAt` and the times of a filter come from this one",
      figures: { skew_ms: Math.round(skewMs) },
    },
  ];
}

// What the server keeps.

interface SnapshotRow {
  readonly sees_all: boolean;
  readonly pid: number | null;
  readonly role: string | null;
  readonly application: string | null;
  readonly state: string | null;
  readonly open_ms: number | null;
  readonly transactions: number | null;
}

async function lookAtSnapshots({ database, limits }: Patient): Promise<Finding[]> {
  const rows = await database.run<SnapshotRow>("lookAtSnapshots", []);
  const found: Finding[] = [];
  const [oldest] = rows;
  if (oldest && oldest.pid !== null && oldest.open_ms !== null && oldest.open_ms > limits.snapshotMs) {
    const { pid, role, application, state, open_ms, transactions } = oldest;
    const who = [
      role === null ? "" : `role "${role}"`,
      application === null ? "" : `application "${application}"`,
    ].filter(Boolean);
    found.push({
      ...{ code: "old_snapshot", severity: "warning" },
      seen: `Process ${pid}${who.length > 0 ? ` (${who.join(", ")})` : ""} has had a transaction open for ${duration(open_ms)}, ${state ?? "in an unknown state"}: dead rows since then cannot be removed`,
      advice: `End it where it has no business to be open (\`select pg_terminate_backend(${pid})\`), and limit such sessions by idle_in_transaction_session_timeout`,
      figures: { pid, role, application, state, open_ms: Math.round(open_ms), transactions },
    });
  }
  if (oldest && !oldest.sees_all) {
    found.push({
      ...{ code: "not_examined", severity: "note" },
      seen: "Could not look at transactions of other roles",
      advice: "Grant pg_monitor, or pg_read_all_stats, to the role that asks",
      figures: { what: "transactions of other roles", message: null },
    });
  }
  return found;
}

interface SlotRow {
  readonly name: string;
  readonly type: string;
  readonly active: boolean;
  readonly retained_bytes: number | null;
  readonly transactions: number | null;
}

async function lookAtSlots({ database, limits }: Patient): Promise<Finding[]> {
  const rows = await database.run<SlotRow>("lookAtSlots", []);
  return rows.flatMap(({ name, type, active, retained_bytes, transactions }): Finding[] => {
    if (active && (retained_bytes ?? 0) <= limits.retainedBytes) return [];
    const kept = retained_bytes === null ? "" : ` and keeps ${bytes(retained_bytes)} of the log`;
    return [
      {
        ...{ code: "replication_slot", severity: "warning" },
        seen: `The ${type} replication slot "${name}" is ${active ? "behind" : "not read by anybody"}${kept}`,
        advice: active
          ? "See why its reader is slow: the disk fills, and dead rows may be kept"
          : "Start its reader, or drop it (`select pg_drop_replication_slot(…)`): the disk fills, and dead rows may be kept",
        figures: { slot: name, type, active, retained_bytes, transactions },
      },
    ];
  });
}

async function lookAtPrepared({ database, limits }: Patient): Promise<Finding[]> {
  const rows = await database.run<{ name: string; role: string; open_ms: number }>("lookAtPrepared", []);
  return rows
    .filter(({ open_ms }) => open_ms > limits.preparedMs)
    .map(({ name, role, open_ms }) => ({
      ...{ code: "prepared_transaction", severity: "warning" },
      seen: `Transaction "${name}" of role "${role}" has been prepared for ${duration(open_ms)}: it holds its locks, and keeps dead rows`,
      advice: "Let its coordinator end it, or do so by `commit prepared` or `rollback prepared`",
      figures: { transaction: name, role, open_ms: Math.round(open_ms) },
    }));
}

interface TableRow {
  readonly name: string;
  readonly live: number;
  readonly dead: number;
  readonly vacuumed_ms_ago: number | null;
  readonly autovacuum: boolean;
  readonly server_autovacuum: boolean;
  readonly threshold: number;
  readonly transactions: number;
  readonly max_transactions: number;
}

async function lookAtTables({ database, schema, limits }: Patient): Promise<Finding[]> {
  const rows = await database.run<TableRow>("lookAtTables", []);
  const found: Finding[] = [];
  if (rows.some(({ server_autovacuum }) => !server_autovacuum)) {
    found.push({
      ...{ code: "autovacuum_off", severity: "error" },
      seen: "Autovacuum is off on this server: dead rows are never removed, and claims become slower and slower",
      advice: "Set autovacuum and track_counts to on",
      figures: { table: null },
    });
  }
  for (const row of rows) {
    const { name, live, dead, transactions } = row;
    const vacuumed = row.vacuumed_ms_ago === null ? "never" : `${duration(row.vacuumed_ms_ago)} ago`;
    const figures = { table: name, live, dead, vacuumed_ms_ago: row.vacuumed_ms_ago, transactions };
    if (!row.autovacuum) {
      found.push({
        ...{ code: "autovacuum_off", severity: "error", figures },
        seen: `Autovacuum is off for table ${schema}.${name}, which has ${count(dead)} dead rows`,
        advice: `Run \`alter table ${schema}.${name} reset (autovacuum_enabled)\``,
      });
    }
    if (name === "command") {
      if (dead <= limits.deadTuples) continue;
      found.push({
        ...{ code: "dead_tuples", severity: "warning", figures },
        seen: `Table ${schema}.command has ${count(dead)} dead rows beside ${count(live)} live ones; it was vacuumed last: ${vacuumed}`,
        advice: `See what keeps them (an old snapshot, a replication slot, a prepared transaction); where nothing does, run \`vacuum ${schema}.command\` and give autovacuum more workers`,
      });
    } else if (dead > 10 * row.threshold && dead > limits.deadTuples) {
      found.push({
        ...{ code: "autovacuum_behind", severity: "warning", figures },
        seen: `Table ${schema}.${name} has ${count(dead)} dead rows, ten times what autovacuum waits for; it was vacuumed last: ${vacuumed}`,
        advice: `Give autovacuum more workers or less delay, and run \`vacuum ${schema}.${name}\``,
      });
    }
    if (transactions > 1.2 * row.max_transactions) {
      found.push({
        ...{ code: "autovacuum_behind", severity: "warning", figures },
        seen: `Table ${schema}.${name} has rows that are ${count(transactions)} transactions old; autovacuum should have been there at ${count(row.max_transactions)}`,
        advice: `See what keeps it from it, and run \`vacuum (freeze) ${schema}.${name}\`: at two thousand million the server stops`,
      });
    }
  }
  return found;
}

async function lookAtIndexes({ database, schema, limits }: Patient): Promise<Finding[]> {
  const rows = await database.run<{ name: string; bytes: number; live: number }>("lookAtIndexes", []);
  return rows
    .filter((row) => row.bytes > limits.indexBytes && row.bytes > row.live * entryBytes)
    .map((row) => ({
      ...{ code: "index_bloat", severity: "warning" },
      seen: `Index ${schema}.${row.name} has ${bytes(row.bytes)} for ${count(row.live)} live rows`,
      advice: `Run \`reindex index concurrently ${schema}.${row.name}\``,
      figures: { index: row.name, bytes: row.bytes, live: row.live },
    }));
}

async function lookAtHistory({ database }: Patient): Promise<Finding[]> {
  const rows = await database.run<{ slot: number; oldest: string }>("overdueHistory", []);
  return rows.map(({ slot, oldest }) => ({
    ...{ code: "history_overdue", severity: "warning" },
    seen: `Slot ${slot} of history takes new rows and still has some from ${oldest}, past their retention: they stay for another turn`,
    advice:
      "See what reads history for hours (an open transaction, a dump): a slot is emptied only while nobody reads it; and whether the duty `retention` fails",
    figures: { slot, oldest },
  }));
}

async function lookAtEvents({ database }: Patient): Promise<Finding[]> {
  const rows = await database.run<{ slot: number; oldest: string }>("overdueEvents", []);
  return rows.map(({ slot, oldest }) => ({
    ...{ code: "events_overdue", severity: "warning" },
    seen: `Slot ${slot} of events takes new ones and still has some from ${oldest}, past their retention: they stay for another turn`,
    advice:
      "See whether a reader is behind, what reads events for hours (an open transaction, a dump), and whether the duty `events` fails",
    figures: { slot, oldest },
  }));
}

async function lookAtInbox({ database, limits }: Patient): Promise<Finding[]> {
  const [row] = await database.run<{ events: number; oldest_ms: number | null }>("lookAtInbox", [limits.inboxEvents]);
  if (!row || row.events <= limits.inboxEvents) return [];
  return [
    {
      ...{ code: "inbox_growing", severity: "warning" },
      seen: `More than ${count(limits.inboxEvents)} events are not placed in the log${row.oldest_ms === null ? "" : `, the first for ${duration(row.oldest_ms)}`}`,
      advice:
        "Start a worker or a reader: they place events; where some run, see whether the duty that does it fails, or a transaction holds the lock",
      figures: { events: row.events, oldest_ms: row.oldest_ms === null ? null : Math.round(row.oldest_ms) },
    },
  ];
}

interface ReaderRow {
  readonly name: string;
  readonly generation: number;
  readonly building: boolean;
  readonly paused: boolean;
  readonly holder: string | null;
  readonly lag: number;
  readonly late_ms: number | null;
  readonly failures: number;
  readonly last_error: string | null;
  readonly failed_ms_ago: number | null;
  readonly keeps: boolean;
}

async function lookAtReaders({ database, limits }: Patient): Promise<Finding[]> {
  const rows = await database.run<ReaderRow>("lookAtReaders", []);
  return rows.flatMap((row) => {
    const { name, generation, building, paused, holder, lag, failures, last_error, failed_ms_ago, keeps } = row;
    const late_ms = row.late_ms === null ? null : Math.round(row.late_ms);
    const figures = { reader: name, generation, building, paused, holder, lag, late_ms, failures, last_error, keeps };
    const what = `Reader "${name}"${building ? `, generation ${generation}, which is being built,` : ""}`;
    const found: Finding[] = [];
    if (failures > limits.readerFailures) {
      const last = failed_ms_ago === null ? "" : `, the last time ${duration(failed_ms_ago)} ago`;
      found.push({
        ...{ code: "reader_failing", severity: "warning", figures },
        seen: `${what} has failed ${count(failures)} times in a row${last}: ${last_error ?? "nobody said why"}`,
        advice:
          "Put right what the error names: it tries the same batch again; or reset it past an event that nobody can deal with",
      });
    }
    // One that is being built reads what is old, and one that is paused is so by somebody's will.
    const isLate = late_ms !== null && late_ms > limits.readerLateMs;
    if ((isLate && !paused && !building) || (keeps && (paused || !building))) {
      const who = paused
        ? "it is paused"
        : holder === null
          ? "nobody reads for it"
          : `${JSON.stringify(holder)} reads for it`;
      const since = late_ms === null ? "" : `, the first of which has been there for ${duration(late_ms)}`;
      found.push({
        ...{ code: "reader_behind", severity: "warning", figures },
        seen: `${what} has ${plural(lag, "event")} before it${since}; ${who}${keeps ? ". What is past its retention stays for it" : ""}`,
        advice: paused
          ? "Resume it, or remove it where nobody needs it"
          : holder === null
            ? "Start it in some process, or remove it where nobody needs it"
            : "See what its handler takes so long for, and give it larger batches",
      });
    }
    return found;
  });
}

// Notifications.

async function lookAtNotifications({ database, limits }: Patient): Promise<Finding[]> {
  const [row] = await database.run<{ usage: number }>("lookAtNotifications", []);
  const usage = row?.usage ?? 0;
  if (usage <= limits.notificationShare) return [];
  return [
    {
      ...{ code: "notification_queue", severity: usage > 5 * limits.notificationShare ? "error" : "warning" },
      seen: `The server's queue of notifications is ${Math.round(usage * 100)} % full; when it is full, every NOTIFY fails`,
      advice:
        "End the transaction that a listening session has open: its server process, and how long, stand in pg_stat_activity",
      figures: { share: usage },
    },
  ];
}

async function lookAtListening({ driver, database, limits, clock }: Patient): Promise<Finding[]> {
  // Who polls by design hears nothing.
  if (driver.listen === undefined) return [];
  const payload = `n doctor-${uuidv7()}`;
  let hear = (): void => {};
  const heard = new Promise<boolean>((resolve) => {
    hear = () => resolve(true);
  });
  const opening = new AbortController();
  let listener: Listener | undefined;
  const waiting: { cancel(): void }[] = [];
  const late = new Promise<boolean>((resolve) => {
    waiting.push(clock.after(limits.listenMs, () => resolve(false)));
  });
  const startedAt = clock.now();
  const listening = driver.listen(
    database.schema,
    (got) => got === payload && hear(),
    () => {},
    { signal: opening.signal },
  );
  try {
    const isListening = await Promise.race([listening.then(() => true), late]);
    if (isListening) {
      listener = await listening;
      await database.run("notify", [database.schema, JSON.stringify([payload])]);
      if (await Promise.race([heard, late])) return [];
    }
  } finally {
    for (const timer of waiting) timer.cancel();
    // One that has not come about by now is given up, or closed when it does.
    opening.abort();
    const closed = listening.then((late) => late.close());
    closed.catch(() => {});
    if (listener) await closed.catch(() => {});
  }
  return [
    {
      ...{ code: "listen_silent", severity: "warning" },
      seen: `A notification did not arrive within ${duration(clock.now() - startedAt)}: workers find by polling what is due`,
      advice: "Listen on a direct connection: through a pooler in transaction mode LISTEN succeeds and nothing arrives",
      figures: { waited_ms: Math.round(clock.now() - startedAt) },
    },
  ];
}

// Commands.

interface QueueRow {
  readonly queue: string;
  readonly commands: number;
  readonly pending: number;
  readonly overdue_ms: number | null;
  readonly expired: number;
  readonly expired_ms: number | null;
  readonly expired_worker: string | null;
  readonly paused: boolean;
  readonly workers: number;
}

async function lookAtQueues({ database, limits }: Patient): Promise<Finding[]> {
  const rows = await database.run<QueueRow>("lookAtQueues", []);
  return rows.flatMap((row) => {
    const { queue, commands, pending, overdue_ms, expired, expired_ms, expired_worker: worker, workers } = row;
    const found: Finding[] = [];
    if (workers === 0) {
      found.push({
        ...{ code: "queue_without_workers", severity: pending > 0 ? "error" : "warning" },
        seen: `No worker that runs serves queue "${queue}", which has ${plural(commands, "command")}, ${count(pending)} of them due`,
        advice: `Start a worker with queues: [${JSON.stringify(queue)}], or cancel what nobody is to run`,
        figures: { queue, commands, pending },
      });
    }
    if (overdue_ms !== null && overdue_ms > limits.overdueMs && !row.paused) {
      found.push({
        ...{ code: "overdue_commands", severity: "warning" },
        seen: `${plural(pending, "command")} of queue "${queue}" ${pending === 1 ? "is" : "are"} due, the first for ${duration(overdue_ms)}; ${plural(workers, "worker")} ${workers === 1 ? "serves" : "serve"} it`,
        advice:
          workers === 0
            ? "Start a worker"
            : "Start more workers or give them more concurrency; `orchestratum explain <id>` says of one why it waits",
        figures: { queue, pending, overdue_ms: Math.round(overdue_ms), workers },
      });
    }
    if (expired_ms !== null && expired_ms > limits.expiredMs && !row.paused) {
      found.push({
        ...{ code: "expired_leases", severity: "warning" },
        seen: `${plural(expired, "lease")} of queue "${queue}" ${expired === 1 ? "is" : "are"} over, the first for ${duration(expired_ms)}, and no worker has taken up the commands; ${JSON.stringify(worker ?? "")} is one that held some`,
        advice:
          "See why that worker died (memory, a blocked event loop, a deployment), and that others serve the queue",
        figures: { queue, expired, expired_ms: Math.round(expired_ms), worker },
      });
    }
    return found;
  });
}

async function lookAtNames({ database }: Patient): Promise<Finding[]> {
  interface NameRow {
    readonly name: string;
    readonly version: number;
    readonly commands: number;
    readonly seen_ms: number | null;
    readonly queue: string | null;
    readonly handled_in: string | null;
  }
  const rows = await database.run<NameRow>("lookAtNames", []);
  return rows.map(({ name, version, commands, seen_ms, queue, handled_in }) => {
    const what = `${plural(commands, "command")} named "${name}" version ${version} ${commands === 1 ? "waits" : "wait"}`;
    if (queue !== null) {
      const queues = queuesText(JSON.parse(handled_in ?? "[]") as string[]);
      return {
        ...{ code: "handler_elsewhere", severity: "warning" },
        seen: `${what} in queue "${queue}", and the workers that have a handler for that serve ${queues} only`,
        advice: `Let one of them serve ${JSON.stringify(queue)}, too; or cancel them, and push them to a queue of theirs`,
        figures: { name, version, queue, commands, handled_in },
      };
    }
    return {
      ...{ code: "name_without_handler", severity: "warning" },
      seen: `${what}, and no worker that runs has a handler for that; ${seen_ms === null ? "none ever had" : `one was last heard of at ${new Date(seen_ms).toISOString()}`}`,
      advice: "Deploy a worker that has one, or cancel them",
      figures: { name, version, commands, seen_ms: seen_ms === null ? null : Math.round(seen_ms) },
    };
  });
}

interface DutyRow {
  readonly name: string;
  readonly worker: string | null;
  readonly late_ms: number;
  readonly last_duration_ms: number | null;
  readonly last_worker: string | null;
  readonly last_error: string | null;
  readonly finished_ms_ago: number | null;
  readonly workers: number;
  readonly silence_ms: number;
}

async function lookAtDuties({ database, limits }: Patient): Promise<Finding[]> {
  const rows = await database.run<DutyRow>("lookAtDuties", []);
  return rows.flatMap((row) => {
    const { name, worker, late_ms, last_duration_ms, last_worker, last_error, finished_ms_ago, workers } = row;
    const found: Finding[] = [];
    const last = finished_ms_ago === null ? "never" : `${duration(finished_ms_ago)} ago`;
    const figures = { duty: name, late_ms: Math.round(late_ms), last_duration_ms, last_worker, last_error, workers };
    if (last_error !== null) {
      found.push({
        ...{ code: "duty_failed", severity: "warning", figures },
        seen: `Duty "${name}" failed in its last run, ${last} by worker ${JSON.stringify(last_worker ?? "")}: ${last_error}`,
        advice: "Put right what the error names; it is tried again by itself",
      });
    }
    // A rescan waits for work in its queue, and is not late without any.
    if (worker === null && !name.startsWith("rescan ") && late_ms > limits.dutyLateMs + row.silence_ms) {
      found.push({
        ...{ code: "duty_late", severity: "warning", figures },
        seen: `Duty "${name}" is ${duration(late_ms)} late; it was done last: ${last}; ${plural(workers, "worker")} ${workers === 1 ? "runs" : "run"}`,
        advice:
          workers === 0
            ? "Start a worker: duties are done by workers"
            : "See what workers report: statements that fail, or a blocked event loop",
      });
    }
    return found;
  });
}

// Words.

const count = (value: number): string => Math.round(value).toLocaleString("en");
const plural = (value: number, noun: string): string => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;

function duration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 120_000) return `${Math.round(ms / 1_000)} s`;
  if (ms < 7_200_000) return `${Math.round(ms / 60_000)} min`;
  if (ms < 172_800_000) return `${Math.round(ms / 3_600_000)} h`;
  return `${Math.round(ms / 86_400_000)} days`;
}

function bytes(value: number): string {
  if (value < 1024 ** 2) return `${Math.round(value / 1024)} KiB`;
  return value < 1024 ** 3 ? `${Math.round(value / 1024 ** 2)} MiB` : `${(value / 1024 ** 3).toFixed(1)} GiB`;
}

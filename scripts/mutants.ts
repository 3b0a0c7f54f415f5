/**
 * Breaks the code on purpose, one rule at a time, and looks whether the tests notice: `npm run mutants [-- <word>]`.
 *
 * Each mutant is an edit to a copy of the checkout, and the test that must fail with it. A mutant that survives means
 * that a rule of the promise is not guarded; one whose text is not found any more means that this list is out of date.
 */
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

interface Mutant {
  /** What is broken. */
  readonly rule: string;
  readonly file: string;
  readonly from: string;
  readonly to: string;
  /** The file of the test, and a part of its name. */
  readonly test: readonly [file: string, name?: string];
}

const conformance = "test/adapters/conformance.test.ts";
const worker = "test/worker.test.ts";

const mutants: readonly Mutant[] = [
  {
    rule: "finish without the fence",
    file: "sql/functions/finish.sql",
    from: "where c.id = r.id and c.fence = r.fence and c.leased_by = finish.worker\n      for update skip locked",
    to: "where c.id = r.id and c.leased_by = finish.worker\n      for update skip locked",
    test: ["test/sql/finish.test.ts"],
  },
  {
    rule: "finish without leased_by",
    file: "sql/functions/finish.sql",
    from: "where c.id = r.id and c.fence = r.fence and c.leased_by = finish.worker\n      for update skip locked",
    to: "where c.id = r.id and c.fence = r.fence\n      for update skip locked",
    test: ["test/sql/finish.test.ts"],
  },
  {
    rule: "an outcome that leaves leased_by",
    file: "sql/functions/finish.sql",
    from: "        leased_by = null\n    from held h",
    to: "        leased_by = c.leased_by\n    from held h",
    test: ["test/sql/finish.test.ts"],
  },
  {
    rule: "a row that changed after the snapshot taken for a lost lease",
    file: "sql/functions/finish.sql",
    from: "when h.row is not null or h.seen then 'busy'",
    to: "when h.seen then 'busy'",
    test: [conformance, "sixteen that push and wait"],
  },
  {
    rule: "a transaction of the handler's own that outlasts its lease",
    file: "sql/functions/finish_within.sql",
    from: "if idle_ms = 0 or idle_ms > left_ms then",
    to: "if false then",
    test: ["test/processes/processes.test.ts", "frozen before COMMIT"],
  },
  {
    rule: "an outcome within the handler's transaction after the lease is over",
    file: "sql/functions/finish_within.sql",
    from: "if left_ms is null or left_ms < 1 then",
    to: "if left_ms is null then",
    test: ["test/sql/finish-within.test.ts"],
  },
  {
    rule: "a transaction that was rolled back taken for a success",
    file: "src/runner.ts",
    from: 'const own = lease.within && result === "repeated";',
    to: "const own = lease.within;",
    test: [conformance, "rolled back after finish"],
  },
  {
    rule: "a success within the handler's transaction that is executed again",
    file: "src/execute.ts",
    from: "if (followUps.recorded) return rolledBack(execution.name);",
    to: "",
    test: [conformance, "keeps quiet about"],
  },
  {
    rule: "onSuccess of a transaction that was tried again follows twice",
    file: "src/execute.ts",
    from: "this.#followUps.rewind(size);",
    to: "",
    test: [conformance, "may try its transaction again"],
  },
  {
    rule: "finish that waits for row locks",
    file: "sql/functions/finish.sql",
    from: "for update skip locked",
    to: "for update",
    test: ["test/sql/finish.test.ts"],
  },
  {
    rule: "a requested cancellation that a retry overrules",
    file: "sql/functions/finish.sql",
    from: "when l.cancel_requested and r.verdict <> 'succeeded' then 'cancelled'",
    to: "when false then 'cancelled'",
    test: ["test/sql/finish.test.ts"],
  },
  {
    rule: "heartbeats that wait for row locks",
    file: "sql/functions/heartbeat.sql",
    from: "for update skip locked",
    to: "for update",
    test: ["test/sql/heartbeat.test.ts"],
  },
  {
    rule: "a cancel that waits for row locks",
    file: "sql/functions/cancel.sql",
    from: "for update skip locked",
    to: "for update",
    test: ["test/sql/cancel.test.ts"],
  },
  {
    rule: "a claim that waits for row locks",
    file: "sql/functions/claim.sql",
    from: "for update skip locked",
    to: "for update",
    test: ["test/sql/claim.test.ts"],
  },
  {
    rule: "a claim without its second look",
    file: "sql/functions/claim.sql",
    from: "more := taken >= claim.max_count or exists (",
    to: "more := taken >= claim.max_count or false and exists (",
    test: ["test/sql/claim.test.ts"],
  },
  {
    rule: "attempts that are not burnt at the claim",
    file: "sql/functions/claim.sql",
    from: "attempt = c.attempt + 1,",
    to: "attempt = c.attempt,",
    test: ["test/sql/claim.test.ts"],
  },
  {
    rule: "a count of attempts that is capped at the maximum",
    file: "sql/functions/claim.sql",
    from: "attempt = c.attempt + 1,",
    to: "attempt = least(c.attempt + 1, c.max_attempts)::smallint,",
    test: ["test/sql/claim.test.ts"],
  },
  {
    rule: "losses that are not counted",
    file: "sql/functions/claim.sql",
    from: "losses = c.losses + (c.leased_by is not null)::int,",
    to: "losses = c.losses,",
    test: ["test/sql/claim.test.ts"],
  },
  {
    rule: "next due by a clock of its own",
    file: "sql/functions/next_due.sql",
    from: "c.available_at > next_due.at",
    to: "c.available_at > (select clock_timestamp())",
    test: ["test/sql/next-due.test.ts"],
  },
  {
    rule: "retention that looks before it locks",
    file: "sql/functions/expire_history.sql",
    from: "execute format('select max(finished_at) from orchestratum.history_%s', slot) into newest;\n      if",
    to: "if",
    test: ["test/sql/expire-history.test.ts"],
  },
  {
    rule: "a repeated push that does not look at history after the insert",
    file: "sql/functions/push_batch.sql",
    from: "cross join lateral (select from orchestratum.history h where h.id = f.id limit 1) past",
    to: "cross join lateral (select from orchestratum.history h where false limit 1) past",
    test: ["test/sql/push-batch.test.ts"],
  },
  {
    rule: "give_back that takes what the worker knows",
    file: "sql/functions/give_back.sql",
    from: "where k.id = c.id and k.fence = c.fence",
    to: "where false",
    test: ["test/sql/give-back.test.ts"],
  },
  {
    rule: "a mark without the 250 ms",
    file: "src/marks.ts",
    from: "export const lagMs = 250;",
    to: "export const lagMs = 0;",
    test: ["test/marks.test.ts"],
  },
  {
    rule: "a mark that follows the last claim, not the one before",
    file: "src/marks.ts",
    from: "lane.mark = Math.max(lane.mark, Math.min(ceiling, lane.newest));\n          lane.newest = newest.get(place) as number;",
    to: "lane.newest = newest.get(place) as number;\n          lane.mark = Math.max(lane.mark, Math.min(ceiling, lane.newest));",
    test: ["test/marks.test.ts"],
  },
  {
    rule: "an empty claim that does not move the marks",
    file: "src/marks.ts",
    from: "if (!reply.more) {\n          lane.mark = ceiling;",
    to: "if (!reply.more) {\n          lane.mark = lane.mark;",
    test: ["test/marks.test.ts"],
  },
  {
    rule: "hints that a claim's reply undoes",
    file: "src/marks.ts",
    from: "for (const [queue, fromMicros] of hintsSincePlan) lower(queue, fromMicros);",
    to: "",
    test: ["test/marks.test.ts"],
  },
  {
    rule: "a debounce without its trailing edge",
    file: "src/hints.ts",
    from: "if (window.from !== undefined) sendDue(queue, window.from);",
    to: "",
    test: ["test/hints.test.ts"],
  },
  {
    rule: "a lease that is trusted to no end",
    file: "src/runner.ts",
    from: "if (now >= lease.trustedUntil) {",
    to: "if (now === -1) {",
    test: [worker, "cannot extend its leases"],
  },
  {
    rule: "a busy row taken for a lost lease",
    file: "src/heart.ts",
    from: 'else if (row.result === "busy") busy.push(lease);',
    to: 'else if (row.result === "busy") options.lost(lease);',
    test: [worker, "holds its own row"],
  },
  {
    rule: "a lost lease that goes unnoticed",
    file: "src/heart.ts",
    from: "if (missing.length > 0) await confirm(missing);",
    to: "",
    test: [worker, "somebody else took"],
  },
  {
    rule: "a lost reply of a claim that nobody makes up for",
    file: "src/worker.ts",
    from: "if (clock.now() < giveBackUntil) await giveBack();",
    to: "",
    test: [worker, "claim whose reply is lost"],
  },
  {
    rule: "a repeated outcome taken for a lost lease",
    file: "src/finish.ts",
    from: 'if (result === "repeated") {',
    to: 'if (result === "repeated") return "lost";\n      if (result === "repeated") {',
    test: [worker, "reply is lost is repeated"],
  },
  {
    rule: "the database's trouble taken for the command's failure",
    file: "src/database.ts",
    from: 'return ["22", "23", "54"]',
    to: 'return ["22", "23", "53", "54"]',
    test: [worker, "no room for"],
  },
  {
    rule: "a poisoned batch that is not split",
    file: "src/batcher.ts",
    from: "if (entries.length > 1 && isPoison(error)) {",
    to: "if (entries.length > 1 && error === undefined) {",
    test: [worker, "fails alone"],
  },
  {
    rule: "no rescan",
    file: "src/worker.ts",
    from: "for (const row of taken) duties?.worked(",
    to: "for (const row of []) duties?.worked(",
    test: [worker, "found by the rescan"],
  },
  {
    rule: "a worker that sleeps although something due is left",
    file: "src/worker.ts",
    from: "if (reply.more) {",
    to: "if (reply.more && reply.rows > 0) {",
    test: [worker, "found a moment after it is free"],
  },
  {
    rule: "queues beyond the tenth that are overslept",
    file: "src/worker.ts",
    from: "if (!marks.covered) continue;",
    to: "",
    test: [worker, "more queues than a claim"],
  },
  {
    rule: "waking by NOTIFY only",
    file: "src/worker.ts",
    from: "if (next?.available_at) dueAt = localTime(parseMicros(next.available_at));",
    to: "",
    test: [worker, "was scheduled before the worker came"],
  },
  {
    rule: "a push in a transaction that nobody hints at",
    file: "src/push.ts",
    from: "if (rows[0]?.transaction_id !== undefined) hints.dueAfter(rows[0].transaction_id, earliest(rows));",
    to: "",
    test: ["test/hints.test.ts", "hinted at after its commit"],
  },
  {
    rule: "a waiter whom nobody tells",
    file: "src/finish.ts",
    from: "if (row.awaited) hints.finished(row.id);",
    to: "",
    test: [conformance, "sixteen that push and wait"],
  },
  {
    rule: "a stop that hands nothing back",
    file: "src/ending.ts",
    from: 'if (row.max_attempts > 1) return { verdict: "release", delayMs: 0 };',
    to: 'if (row.max_attempts > 1) return { verdict: "retry", delayMs: 60_000 };',
    test: [conformance, "hands the rest back"],
  },
  {
    rule: "a running command that is not told of its cancellation",
    file: "src/cancel.ts",
    from: 'if (result === "requested") hints.cancel(row.id);',
    to: "",
    test: [conformance, "aborts the signal of what runs"],
  },
  {
    rule: "follow-ups of an attempt that failed",
    file: "src/execute.ts",
    from: 'return { kind: "failed", error, permanent };',
    to: 'return { kind: "succeeded", output: undefined, followUps: await followUps.all() };',
    test: [conformance, "commit with its success only"],
  },
  {
    rule: "raw error text that is written",
    file: "src/failure.ts",
    from: 'return value.toWellFormed().replaceAll("\\0", "\\ufffd");',
    to: "return value;",
    test: ["test/failure.test.ts"],
  },
  {
    rule: "a connection that did not answer goes back to the pool",
    file: "adapters/node-postgres.ts",
    from: "client.release(!isReusable || signal?.aborted === true);",
    to: "client.release();",
    test: ["test/adapters/connections.test.ts", "node-postgres: a statement on one"],
  },
  {
    rule: "a LISTEN connection that ended is not opened again",
    file: "adapters/keep-listening.ts",
    from: "  void reconnect();\n",
    to: "  void reconnect;\n",
    test: ["test/adapters/node-postgres.test.ts", "listens on a connection"],
  },
  {
    rule: "results read by the parsers of the process",
    file: "adapters/node-postgres.ts",
    from: "values: [...params], types }",
    to: "values: [...params] }",
    test: ["test/adapters/node-postgres.test.ts", "whatever parsers"],
  },
  {
    rule: "a lost idle connection ends the process",
    file: "adapters/node-postgres.ts",
    from: '  target.on("error", ignore);\n',
    to: "",
    test: ["test/adapters/node-postgres.test.ts", "survives"],
  },
  {
    rule: "a statement that a pooler has forgotten is an error",
    file: "adapters/node-postgres.ts",
    from: "if (!isForgotten(error)) throw error;",
    to: "throw error;",
    test: ["test/adapters/connections.test.ts", "as it is: everything works"],
  },
  {
    rule: "a statement that missed its deadline goes on in the server",
    file: "adapters/node-postgres.ts",
    from: "    cancel(client);\n",
    to: "",
    test: ["test/adapters/node-postgres.test.ts", "cancels a statement"],
  },
  {
    rule: "listening where statements go instead of where it was told to",
    file: "adapters/node-postgres.ts",
    from: "withListen(options.listen ?? pool,",
    to: "withListen(pool,",
    test: ["test/adapters/connections.test.ts", "node-postgres, unprepared: a direct"],
  },
  {
    rule: "columns renamed by plugins",
    file: "adapters/kysely.ts",
    from: "transaction.withoutPlugins()",
    to: "(transaction as any)",
    test: ["test/adapters/transactions.test.ts", "Kysely"],
  },
  {
    rule: "workers that idle ask for the fleet's duties",
    file: "src/duties.ts",
    from: "if (row.due_in_ms > longDoneMs) duty.rest?.();\n",
    to: "",
    test: ["test/idle.test.ts", "nothing due"],
  },
  {
    rule: "workers that idle register their handlers",
    file: "src/worker.ts",
    from: "clock.now() - registeredAt < settings.idlePollMs",
    to: "false",
    test: ["test/idle.test.ts", "nothing due"],
  },
];

const root = fileURLToPath(new URL("..", import.meta.url));
const wanted = mutants.filter(({ rule }) => rule.includes(process.argv[2] ?? ""));
const copy = mkdtempSync(join(tmpdir(), "orchestratum-mutants-"));
let bad = 0;

/** Some mutants make a test wait for polls, and for its own limits, on each driver. */
const limitMs = 480_000;

function run(...args: string[]) {
  return spawnSync(process.execPath, args, { cwd: copy, encoding: "utf8", timeout: limitMs });
}

try {
  for (const part of [
    "src",
    "adapters",
    "sql",
    "test",
    "scripts",
    "package.json",
    "tsconfig.json",
    "vitest.config.ts",
  ]) {
    cpSync(join(root, part), join(copy, part), { recursive: true });
  }
  symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
  for (const [place, { rule, file, from, to, test }] of wanted.entries()) {
    const path = join(copy, file);
    const original = readFileSync(path, "utf8");
    let verdict = "out of date: its text is not in the file";
    if (original.includes(from)) {
      writeFileSync(
        path,
        original.replace(from, () => to),
      );
      if (file.startsWith("sql/")) run("--import", "tsx", "scripts/build-sql.ts");
      const [testFile, name] = test;
      const tested = run("node_modules/vitest/vitest.mjs", "run", testFile, ...(name ? ["-t", name] : []));
      const output = `${tested.stdout}${tested.stderr}`;
      const failed = Number(/(\d+) failed$/m.exec(output)?.[1] ?? 0);
      // A test that does not end has noticed, too; vitest turns the signal that then ends it into a code.
      const isLate = (tested.error as { code?: unknown } | undefined)?.code === "ETIMEDOUT";
      if (failed > 0 || tested.signal || isLate) verdict = "noticed";
      else verdict = /^0 passed/m.test(output) || tested.status !== 0 ? "no such test" : "SURVIVED";
      writeFileSync(path, original);
      if (file.startsWith("sql/")) run("--import", "tsx", "scripts/build-sql.ts");
    }
    if (verdict !== "noticed") bad++;
    console.log(
      `${String(place + 1).padStart(2)}/${wanted.length}  ${verdict.padEnd(8)}  ${rule}  (${test.join(": ")})`,
    );
  }
} finally {
  rmSync(copy, { recursive: true, force: true });
}
console.log(`${wanted.length - bad} of ${wanted.length} mutants were noticed`);
process.exitCode = bad === 0 ? 0 : 1;

/**
 * Asks a router for as long as it is told, by autocannon. argv: base address, what, seconds, and for `status` the id of a
 * command. Answers what came of it; an answer that is no success ends it.
 */
import process from "node:process";
import autocannon, { type Options, type Result } from "autocannon";
import { percentile } from "../figures.ts";
import { batchSize, benchToken, type Doing, type Load, lanesOf } from "./http-figures.ts";
import { answer, endWithParent, stopwatch } from "./parent.ts";

const [base, doing, seconds, id] = process.argv.slice(2) as [string, Doing, string, string?];
endWithParent();
const commands = Array.from({ length: batchSize }, (_, index) => ({ name: "measured", input: index }));
const requests = {
  push: { path: "/commands", body: JSON.stringify(commands[1]), type: "application/json" },
  list: { path: "/commands/batch", body: JSON.stringify(commands), type: "application/json" },
  lines: {
    path: "/commands/batch",
    body: commands.map((command) => `${JSON.stringify(command)}\n`).join(""),
    type: "application/x-ndjson",
  },
  status: { path: `/commands/${id}`, body: undefined, type: "application/json" },
};
const { path, body, type } = requests[doing];
const times: number[] = [];
const taken = stopwatch();
const options: Options = {
  url: `${base}${path}`,
  method: body === undefined ? "GET" : "POST",
  headers: { authorization: `Bearer ${benchToken}`, "content-type": type },
  ...(body === undefined ? {} : { body }),
  connections: lanesOf[doing],
  duration: Number(seconds),
};
const { errors, timeouts } = await new Promise<Result>((resolve, reject) => {
  const run = autocannon(options, (error, result) => (error ? reject(error) : resolve(result)));
  run.on("response", (_client, status, _bytes, ms) => {
    if (status >= 300) throw new Error(`Cannot measure ${doing}: the router answers ${status}`);
    times.push(ms);
  });
});
if (errors + timeouts > 0) throw new Error(`Cannot measure ${doing}: ${errors} errors and ${timeouts} timeouts`);
const load: Load = {
  count: times.length * (doing === "list" || doing === "lines" ? batchSize : 1),
  ...taken(),
  p50: percentile(times, 0.5),
  p99: percentile(times, 0.99),
};
answer(load);

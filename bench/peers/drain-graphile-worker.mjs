/**
 * Drains preloaded jobs by one process of graphile-worker, in its fastest configuration. argv: url, how many. Answers
 * what was taken from its start until the last completion is written, which is what stopping it waits for.
 */
import process from "node:process";
import { Logger, run } from "graphile-worker";
import { answer, endWithParent, stopwatch } from "../programs/parent.ts";

const [url, count] = process.argv.slice(2);
endWithParent();
let done = 0;
let finished;
const all = new Promise((resolve) => {
  finished = resolve;
});
const taken = stopwatch();
const runner = await run({
  connectionString: url,
  noHandleSignals: true,
  logger: new Logger(() => () => {}),
  preset: {
    worker: {
      concurrentJobs: 24,
      maxPoolSize: 26,
      localQueue: { size: 500 },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
    },
  },
  taskList: {
    noop: () => {
      if (++done === Number(count)) finished();
    },
  },
});
await all;
await runner.stop();
answer(taken());

/**
 * The worker of endpoint.py: it claims, calls, and commits what the endpoint answers.
 *
 *     KEYS=whsec_… URL=http://127.0.0.1:8080/execute npx tsx worker.ts "How many words are these?"
 */
import { callEndpoint, createOrchestrator, defineCommand } from "orchestratum";
import { guardedFetch } from "orchestratum/guarded-fetch";
import { pglite } from "orchestratum/pglite";
import * as v from "valibot";

const { URL: url = "http://127.0.0.1:8080/execute", KEYS: keys = "" } = process.env;

const countWords = defineCommand({
  name: "count_words",
  input: v.object({ text: v.string() }),
  output: v.object({ words: v.number(), longest: v.string() }),
  retries: 2,
});
const defineWord = defineCommand({ name: "define_word", input: v.object({ word: v.string() }) });

// On this machine, for the example's sake: http, and an address that is refused elsewhere.
const fetch = guardedFetch({ allow: ["127.0.0.1"] });
const call = callEndpoint({ url, keys: keys.split(" "), fetch, allowHttp: true });

const database = await pglite();
const orchestrator = createOrchestrator({
  database,
  handlers: [countWords.handle(call), defineWord.handle(({ input }) => console.log(`To be defined: ${input.word}`))],
});
await orchestrator.migrate();
for (const text of process.argv.slice(2)) {
  const { id } = await orchestrator.push(countWords({ text }));
  await orchestrator.tick();
  const outcome = await orchestrator.waitFor(id);
  if (outcome.status === "succeeded")
    console.log(`${outcome.output.words} words, the longest is ${outcome.output.longest}`);
  else console.log(`It ${outcome.status}: ${outcome.error?.message}`);
}
await orchestrator.stop();
await database.close();

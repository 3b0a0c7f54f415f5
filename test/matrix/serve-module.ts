/** What `orchestratum serve` runs in each runtime, on DATABASE_URL. */
import process from "node:process";
import { createOrchestrator } from "orchestratum";
import { postgresJs } from "orchestratum/postgres-js";
import { handlers } from "../adapters/hono/contracts.ts";

export { authorise } from "../adapters/hono/contracts.ts";
export const orchestrator = createOrchestrator({ database: postgresJs(process.env.DATABASE_URL as string), handlers });

/** A Durable Object with a worker in it, which polls too seldom to find anything by itself. Each alarm is a row. */
import { createOrchestrator } from "orchestratum";
import { postgresJs } from "orchestratum/postgres-js";
import { edgeObject } from "orchestratum/workers";
import { echo } from "./edge-contracts.ts";

interface Env {
  readonly DATABASE_URL: string;
  readonly WORKER: { idFromName(name: string): unknown; get(id: unknown): { fetch(url: string): Promise<Response> } };
}

const rarely = 3_600_000;

const Listening = edgeObject<Env>({
  open({ DATABASE_URL }) {
    const database = postgresJs(DATABASE_URL, { max: 3 });
    const handlers = [echo.handle(({ input }) => input)];
    return { orchestrator: createOrchestrator({ database, handlers }), close: () => database.close() };
  },
  worker: { pollIntervalMs: 60_000, idlePollMs: rarely },
});

export class Worker extends Listening {
  readonly #url: string;

  constructor(...args: ConstructorParameters<typeof Listening>) {
    super(...args);
    this.#url = args[1].DATABASE_URL;
  }

  override async alarm(): Promise<void> {
    await super.alarm();
    const { sql, close } = postgresJs(this.#url, { max: 1 });
    await sql`insert into alarm default values`;
    await close();
  }
}

export default {
  fetch: (_: Request, { WORKER }: Env): Promise<Response> =>
    WORKER.get(WORKER.idFromName("worker")).fetch("https://worker/"),
};

import { serve } from "@hono/node-server";
import { postgresJs } from "../../../adapters/postgres-js.ts";
import { createServedSite } from "./served-site.ts";
import { socketCases } from "./socket-cases.ts";

socketCases(async (database) => {
  const site = createServedSite(postgresJs(database.sql));
  await site.orchestrator.startWorker().started;
  const { server, port } = await new Promise<{ server: any; port: number }>((resolve) => {
    const listening = serve({ fetch: site.fetch, port: 0, hostname: "127.0.0.1" }, (info) =>
      resolve({ server: listening, port: info.port }),
    );
  });
  return {
    base: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await site.orchestrator.stop({ graceMs: 0 });
    },
  };
});

/** Makes one guarded call in a process of its own, whose authorities are those of NODE_EXTRA_CA_CERTS; prints what came. */
import { guardedFetch } from "../../adapters/guarded-fetch.ts";

const [url = "", address = ""] = process.argv.slice(2);
const send = guardedFetch({ allow: ["127.0.0.0/8"], resolve: async () => [address] });
try {
  const response = await send(url, {
    method: "POST",
    headers: {},
    body: new TextEncoder().encode("what is sent"),
    redirect: "manual",
    signal: AbortSignal.timeout(20_000),
  });
  console.log(JSON.stringify({ status: response.status, text: await response.text() }));
} catch (error) {
  console.log(JSON.stringify({ code: (error as { code?: string }).code, message: (error as Error).message }));
}

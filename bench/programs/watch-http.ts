/**
 * Opens event streams: one half of single commands, the other of all that ends. argv: base address, how many, and ids of
 * commands by commas. Ready when each is open; when it is asked it leaves them all at once, and answers how many bytes came.
 */
import { Agent, type ClientRequest, type IncomingMessage, request } from "node:http";
import process from "node:process";
import { benchToken } from "./http-figures.ts";
import { answer, ready, untilAsked } from "./parent.ts";

const [base, count, list] = process.argv.slice(2) as [string, string, string];
const ids = list.split(",");
const agent = new Agent({ keepAlive: false });
let bytes = 0;
const open: ClientRequest[] = [];

async function watch(path: string): Promise<void> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const headers = { authorization: `Bearer ${benchToken}` };
    open.push(request(`${base}${path}`, { agent, headers }, resolve).on("error", reject).end());
  });
  if (response.statusCode !== 200) throw new Error(`Cannot watch ${path}: the router answers ${response.statusCode}`);
  response
    .on("error", () => {})
    .on("data", (part: Buffer) => {
      bytes += part.byteLength;
    });
}

for (let index = 0; index < Number(count); index += 50) {
  await Promise.all(
    Array.from({ length: Math.min(50, Number(count) - index) }, (_, place) =>
      watch(place % 2 === 0 ? "/stream" : `/commands/${ids[(index + place) % ids.length]}/stream`),
    ),
  );
}
ready();
await untilAsked();
for (const one of open) one.destroy();
answer(bytes);

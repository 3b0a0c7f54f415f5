/** A module of an edge platform without a database: it executes what a worker elsewhere calls it for. */
import { receiveCall } from "orchestratum";
import { echo, resize, signingKey } from "./edge-contracts.ts";

const receive = receiveCall({
  keys: signingKey,
  handlers: [
    resize.handle(({ input, push }) => {
      push(echo(`${input} is resized`));
      const { userAgent } = (globalThis as unknown as { navigator: { userAgent: string } }).navigator;
      return `${input} by ${userAgent}`;
    }),
  ],
});

export default { fetch: (request: Request): Promise<Response> => receive(request) };

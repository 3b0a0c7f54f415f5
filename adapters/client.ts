/**
 * A typed client for the routes of `orchestratum/hono`, wherever there is a `fetch`. It imports nothing of the server:
 * contracts are what the two sides share.
 */
export {
  type Client,
  type ClientOptions,
  createClient,
  type EndedCommand,
  type PushedLine,
  type PushOverHttpOptions,
} from "./client/create-client.ts";
export { HttpProblemError } from "./client/transport.ts";

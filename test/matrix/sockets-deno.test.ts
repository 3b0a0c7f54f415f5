import { socketCases } from "../adapters/hono/socket-cases.ts";
import { serveSite } from "./serve-site.ts";

// Deno.serve() has no way to close a connection that a request came over.
socketCases((database) => serveSite("deno", database), { cutsOff: false });

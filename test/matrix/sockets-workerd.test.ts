import { socketCases } from "../adapters/hono/socket-cases.ts";
import { serveSiteInWorkerd } from "./serve-site.ts";

// What is sent to a client that has left is just not taken there: a stream ends when nothing was taken for a minute.
socketCases(serveSiteInWorkerd, { noticesLeaving: false });

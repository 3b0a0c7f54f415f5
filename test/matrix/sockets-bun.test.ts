import { socketCases } from "../adapters/hono/socket-cases.ts";
import { serveSite } from "./serve-site.ts";

socketCases((database) => serveSite("bun", database));

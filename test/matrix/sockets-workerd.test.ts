import { socketCases } from "../adapters/hono/socket-cases.ts";
import { serveSiteInWorkerd } from "./serve-site.ts";

socketCases(serveSiteInWorkerd);

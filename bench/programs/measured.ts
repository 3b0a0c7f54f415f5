/** The command whose way through the queue is timed. Its input is a key by which both ends are brought together. */
import { defineCommand } from "../../src/index.ts";

export const measured = defineCommand({ name: "measured" });

/** A command whose handler hears nothing and ends never, with a timer that keeps its process. */
import { defineCommand } from "orchestratum";

export const deaf = defineCommand({ name: "deaf", retries: 5 });

export const handleDeaf = deaf.handle(() => {
  console.log("deaf");
  setInterval(() => {}, 1_000);
  return new Promise(() => {});
});

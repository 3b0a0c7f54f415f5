import type { Platform } from "../run-worker.ts";

/** The runtime that this process is: each says its name, and Deno and Bun say that they are a Node as well. */
export async function platformHere(): Promise<Platform> {
  if ("Deno" in globalThis) return (await import("../deno.ts")).denoPlatform();
  if ("Bun" in globalThis) return (await import("../bun.ts")).bunPlatform();
  return (await import("../node.ts")).nodePlatform;
}

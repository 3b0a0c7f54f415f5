/** A process that opens the PGlite directory at argv[2], says so, and keeps it until it is killed. */

import { pglite } from "../../adapters/pglite.ts";

await pglite(process.argv[2]);
console.log("open");
setInterval(() => {}, 60_000);

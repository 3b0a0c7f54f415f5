import { createHash } from "node:crypto";
import { constants, open } from "node:fs/promises";
import { PermanentFailure } from "orchestratum";
import { atOnce } from "./at-once.ts";
import { digestFile } from "./commands.ts";
import { permanentIfUnreadable } from "./unreadable.ts";

/** What was a file when its folder was walked may be a link by now, or a pipe, whose opening would wait for a writer. */
const flags = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);
/** The size of a file may be wrong: that of one under /proc is 0. */
const minChunkBytes = 4 * 1024;
const maxChunkBytes = 256 * 1024;

const turn = atOnce(32);

export const digestFileHandler = digestFile.handle(({ input: { file }, signal }) =>
  turn(async () => {
    const startedAt = performance.now();
    const { bytes, sha256 } = await digest(file, signal).catch(permanentIfUnreadable);
    return { bytes, sha256, ms: Math.round((performance.now() - startedAt) * 10) / 10 };
  }),
);

async function digest(file: string, signal: AbortSignal): Promise<{ bytes: number; sha256: string }> {
  signal.throwIfAborted();
  const handle = await open(file, flags);
  try {
    const stats = await handle.stat();
    if (!stats.isFile()) throw new PermanentFailure("It is no file any more");
    const hash = createHash("sha256");
    // One byte more than there is: the read that gets it all also shows that this was all.
    const chunk = Buffer.allocUnsafe(Math.min(Math.max(stats.size + 1, minChunkBytes), maxChunkBytes));
    let bytes = 0;
    for (;;) {
      const { bytesRead } = await handle.read(chunk, 0, chunk.length);
      hash.update(chunk.subarray(0, bytesRead));
      bytes += bytesRead;
      if (bytesRead === 0 || (bytesRead < chunk.length && bytes >= stats.size)) break;
      signal.throwIfAborted();
    }
    return { bytes, sha256: hash.digest("hex") };
  } finally {
    await handle.close();
  }
}

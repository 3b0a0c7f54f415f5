import { createHash } from "node:crypto";
import { constants, open } from "node:fs/promises";
import { PermanentFailure } from "orchestratum";
import { digestFile } from "./commands.ts";
import { permanentIfUnreadable } from "./unreadable.ts";

/** What was a file when its folder was walked may be a link by now, or a pipe, whose opening would wait for a writer. */
const flags = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);
/** The size of a file may be wrong: that of one under /proc is 0. */
const minChunkBytes = 4 * 1024;
const maxChunkBytes = 256 * 1024;

export const digestFileHandler = digestFile.handle(async ({ input: { file }, signal }) => {
  const startedAt = performance.now();
  try {
    const handle = await open(file, flags);
    try {
      const stats = await handle.stat();
      if (!stats.isFile()) throw new PermanentFailure("It is no file any more");
      const hash = createHash("sha256");
      // One byte more than there is: the read that gets it all also shows that this was all.
      const chunk = Buffer.allocUnsafe(Math.min(Math.max(stats.size + 1, minChunkBytes), maxChunkBytes));
      let bytes = 0;
      for (;;) {
        signal.throwIfAborted();
        const { bytesRead } = await handle.read(chunk, 0, chunk.length);
        hash.update(chunk.subarray(0, bytesRead));
        bytes += bytesRead;
        if (bytesRead === 0 || (bytesRead < chunk.length && bytes >= stats.size)) break;
      }
      return { bytes, sha256: hash.digest("hex"), ms: Math.round((performance.now() - startedAt) * 10) / 10 };
    } finally {
      await handle.close();
    }
  } catch (error) {
    return permanentIfUnreadable(error);
  }
});

import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { atOnce } from "./at-once.ts";
import { digestFile, walkFolder } from "./commands.ts";
import { permanentIfUnreadable } from "./unreadable.ts";

/** An outcome has at most 1,000 follow-ups: those of a page's entries, and the walk that goes on. */
const maxEntries = 999;
/** An output has at most 256 KiB; a thousand names of 255 bytes that JSON escapes would be more. */
const maxNameBytes = 200_000;

const turn = atOnce(8);

/**
 * @param queue the run's: what follows goes to the queue that its options or its contract name, not to the parent's.
 * @param except paths that a walk passes over: those of the database that it is recorded in.
 */
export const walkFolderHandler = (queue: string, except: ReadonlySet<string>) =>
  walkFolder.handle(
    async ({ input: { folder, after } }) => {
      const entries = await turn(() => readdir(folder, { withFileTypes: true })).catch(permanentIfUnreadable);
      // By code units: an order that no setting changes, since the page that follows may be read by another process.
      entries.sort((a, b) => (a.name < b.name ? -1 : 1));
      const start = after === undefined ? 0 : entries.findIndex(({ name }) => name > after);
      const rest = start < 0 ? [] : entries.slice(start);

      let size = 0;
      let bytes = 0;
      while (size < rest.length && size < maxEntries && bytes < maxNameBytes) {
        bytes += JSON.stringify(rest[size]?.name).length * 2;
        size += 1;
      }
      const page = rest.slice(0, size);
      const kept = page.filter(({ name }) => !except.has(join(folder, name)));
      const files = kept.filter((entry) => entry.isFile()).map(({ name }) => name);
      const folders = kept.filter((entry) => entry.isDirectory()).map(({ name }) => name);
      return {
        files,
        folders,
        skipped: page.length - files.length - folders.length,
        ...(size < rest.length ? { next: page.at(-1)?.name } : {}),
      };
    },
    {
      onSuccess: ({ input: { folder }, output: { files, folders, next } }) => [
        ...(next === undefined ? [] : [walkFolder({ folder, after: next }, { queue })]),
        ...folders.map((name) => walkFolder({ folder: join(folder, name) }, { queue })),
        ...files.map((name) => digestFile({ file: join(folder, name) }, { queue })),
      ],
    },
  );

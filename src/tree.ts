/** The chain that a command belongs to, as a tree: what it followed from, and everything that followed. */
import type { Database } from "./database.ts";
import { type CommandSummary, type SummaryRow, summaryOf } from "./summary.ts";
import { byTime } from "./timeline.ts";

/** A command with what it caused: its hooks (`hook` is set) and its follow-ups, the oldest first. */
export interface CommandNode extends CommandSummary {
  readonly children: readonly CommandNode[];
}

export interface CommandTree {
  /** The first command of the chain, or the oldest that retention has left. */
  readonly root: CommandNode;
  /** How many commands it has, with the root. */
  readonly count: number;
  /** Whether there are more: a tree has 1,000 commands at most. */
  readonly truncated: boolean;
}

interface TreeRow extends SummaryRow {
  readonly root: string;
}

type Growing = CommandSummary & { readonly children: Growing[] };

const maxNodes = 1_000;

export async function readTree(database: Database, id: string): Promise<CommandTree | undefined> {
  const rows = await database.run<TreeRow>("tree", [id, maxNodes + 1]);
  const nodes = new Map<string, Growing>();
  const sorted = rows.toSorted(byTime);
  for (const row of sorted) nodes.set(row.id, { ...summaryOf(row), children: [] });
  const root = nodes.get(rows[0]?.root ?? "");
  if (root === undefined) return undefined;
  for (const node of nodes.values()) {
    // The root's own parent is gone, or part of a ring that SQL has tied.
    if (node !== root && node.parentId !== undefined) nodes.get(node.parentId)?.children.push(node);
  }
  const truncated = nodes.size > maxNodes;
  return { root, count: truncated ? cut(root) : nodes.size, truncated };
}

/** Keeps the first of a tree that has one too many: level by level, without recursion, since chains may be deep. */
function cut(root: Growing): number {
  let count = 1;
  for (let level = [root]; level.length > 0; ) {
    const next: Growing[] = [];
    for (const { children } of level) {
      children.length = Math.min(children.length, maxNodes - count);
      count += children.length;
      next.push(...children);
    }
    level = next;
  }
  return count;
}

/**
 * The processor time that a server has taken, all of its processes together. Beside other programs the clock on the
 * wall says little; this says what a contestant costs, and so what it could do had it the machine to itself.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import type postgres from "postgres";

/** Of Linux: what /proc counts in. */
const ticksPerSecond = 100;

/** In seconds; undefined where the system has no /proc. */
export async function serverCpuSeconds(sql: postgres.Sql): Promise<number | undefined> {
  if (!existsSync("/proc/self/stat")) return undefined;
  const [row] = await sql`select current_setting('data_directory') as folder`;
  const server = readFileSync(`${row?.folder}/postmaster.pid`, "utf8").split("\n")[0] as string;
  let ticks = 0;
  for (const id of readdirSync("/proc")) {
    if (!/^\d+$/.test(id)) continue;
    // After the name in brackets: state, parent, …; then the times of the process, and of its children that ended.
    const fields = statOf(id)?.split(") ").at(-1)?.split(" ");
    if (!fields || (id !== server && fields[1] !== server)) continue;
    for (const field of fields.slice(11, id === server ? 15 : 13)) ticks += Number(field);
  }
  return ticks / ticksPerSecond;
}

function statOf(id: string): string | undefined {
  try {
    return readFileSync(`/proc/${id}/stat`, "utf8");
  } catch {
    // It has ended meanwhile.
    return undefined;
  }
}

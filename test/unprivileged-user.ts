import { readFileSync } from "node:fs";

/** PostgreSQL and PgBouncer refuse to run as root: these are tried instead, by their names in /etc/passwd. */
const names = ["postgres", "nobody"];

/** Whom a server runs as where these tests run as root; undefined where they do not. */
export function unprivilegedUser(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const users = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .map((line) => line.split(":"));
  for (const name of names) {
    const found = users.find((fields) => fields[0] === name);
    if (found !== undefined) return { uid: Number(found[2]), gid: Number(found[3]) };
  }
  throw new Error(`Cannot start a server as root: none of the users ${names.join(", ")} exists`);
}

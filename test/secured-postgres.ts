/** A real PostgreSQL server of one's own that takes nobody but its superuser without TLS and a password (SCRAM). */

import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createAuthority } from "./certificates.ts";
import { withServer } from "./database.ts";
import { startPostgres } from "./postgres.ts";
import { unprivilegedUser } from "./unprivileged-user.ts";

export interface SecuredPostgres extends AsyncDisposable {
  /** Of the database `app`, as its owner, with the password. */
  readonly url: string;
  /** The certificate of whoever signed the server's, as PEM, and the file that it is in. */
  readonly ca: string;
  readonly caFile: string;
}

export async function startSecuredPostgres(): Promise<SecuredPostgres> {
  const folder = mkdtempSync(join(tmpdir(), "orchestratum-tls-"));
  chmodSync(folder, 0o755);
  const [key, certificate, access, caFile] = ["key.pem", "certificate.pem", "pg_hba.conf", "ca.pem"].map((file) =>
    join(folder, file),
  ) as [string, string, string, string];
  const authority = await createAuthority();
  const issued = await authority.issue(["localhost", "127.0.0.1"]);
  writeFileSync(key, issued.key);
  writeFileSync(certificate, issued.certificate);
  writeFileSync(caFile, authority.certificate);
  // The superuser as the tests need it; everybody else with a password, over TLS.
  writeFileSync(access, "host all postgres 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n");
  chmodSync(key, 0o600);
  const user = unprivilegedUser();
  if (user) for (const file of [key, certificate, access]) chownSync(file, user.uid, user.gid);
  const server = await startPostgres({
    ssl: "on",
    ssl_cert_file: certificate,
    ssl_key_file: key,
    hba_file: access,
    password_encryption: "scram-sha-256",
  });
  await withServer(server.url, async (sql) => {
    await sql.unsafe("create role app login password 'a ''secret'' 🔑'");
    await sql.unsafe("create database app owner app");
  });
  const url = new URL(server.url);
  url.username = "app";
  url.password = encodeURIComponent("a 'secret' 🔑");
  url.pathname = "/app";
  return {
    url: url.href,
    ca: authority.certificate,
    caFile,
    async [Symbol.asyncDispose]() {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

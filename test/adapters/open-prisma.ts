/**
 * A client of Prisma without models, on a pool of `pg`: what `prisma generate` writes for a schema that has none. The
 * generator itself is 300 MB, and asks the network for an engine that it does not need.
 */

import type { PrismaTransaction } from "../../adapters/prisma.ts";

export interface PrismaClient {
  $transaction<T>(work: (tx: PrismaTransaction) => Promise<T>): Promise<T>;
  $disconnect(): Promise<void>;
}

const runtime = "@prisma/client/runtime";

export async function openPrisma(url: string): Promise<PrismaClient> {
  // By names that are no literals: whoever checks types need not have them.
  const { getPrismaClient } = await import(`${runtime}/client`);
  const { PrismaPg } = await import(["@prisma", "adapter-pg"].join("/"));
  const Client = getPrismaClient({
    previewFeatures: [],
    clientVersion: "7",
    engineVersion: "",
    activeProvider: "postgresql",
    inlineSchema: 'datasource db {\n  provider = "postgresql"\n}\n',
    runtimeDataModel: { models: {}, enums: {}, types: {} },
    parameterizationSchema: { strings: [], graph: "AAAA" },
    compilerWasm: {
      getRuntime: () => import(`${runtime}/query_compiler_fast_bg.postgresql.mjs`),
      getQueryCompilerWasmModule: async () => {
        const { wasm } = await import(`${runtime}/query_compiler_fast_bg.postgresql.wasm-base64.mjs`);
        return new WebAssembly.Module(Buffer.from(wasm, "base64"));
      },
      importName: "./query_compiler_fast_bg.js",
    },
  });
  return new Client({ adapter: new PrismaPg({ connectionString: url }) }) as PrismaClient;
}

/** A TCP proxy that can stop forwarding without closing anything: what a connection through a dead firewall looks like. */

import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export interface HalfOpenProxy extends AsyncDisposable {
  /** Leads through the proxy to where the given one leads. */
  readonly url: string;
  /** Connections that are open, silent ones among them. */
  readonly open: number;
  /** From now on nothing passes on the connections that are open now; what is sent is swallowed. New ones work. */
  silence(): void;
  /** The same, of new ones too: they are accepted, and that is all. */
  silenceAll(): void;
  /** From now on new connections are reset at once. */
  resetNew(): void;
}

export async function halfOpenProxy(target: string): Promise<HalfOpenProxy> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  let speaking = new Set<Socket>();
  let speaks = true;
  let resets = false;
  const proxy = createServer((client) => {
    client.on("error", () => {});
    if (resets) return void client.resetAndDestroy();
    const server = connect(Number(port), hostname);
    sockets.add(client);
    if (speaks) speaking.add(client);
    client.on("data", (data) => {
      if (speaking.has(client)) server.write(data);
    });
    server.on("data", (data) => {
      if (speaking.has(client)) client.write(data);
    });
    client.on("close", () => {
      sockets.delete(client);
      server.destroy();
    });
    server.on("close", () => {
      if (speaking.has(client)) client.destroy();
    });
    server.on("error", () => {});
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  const url = new URL(target);
  url.host = `127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  return {
    url: url.href,
    get open() {
      return sockets.size;
    },
    silence() {
      speaking = new Set();
    },
    silenceAll() {
      speaks = false;
      speaking = new Set();
    },
    resetNew() {
      resets = true;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => proxy.close(resolve));
    },
  };
}

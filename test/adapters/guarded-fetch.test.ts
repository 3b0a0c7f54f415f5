/** Where a call may go: over real sockets on 127.0.0.1, which is as private as an address can be. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { type AddressInfo, createServer as createTcpServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TLSSocket } from "node:tls";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AddressRefusedError, type GuardedFetchOptions, guardedFetch } from "../../adapters/guarded-fetch.ts";
import { isPublicAddress, isWithin, rangeOf } from "../../adapters/public-address.ts";
import type { Fetch } from "../../src/index.ts";
import { type Authority, createAuthority } from "../certificates.ts";

const servers: { close(): unknown }[] = [];
afterAll(() => Promise.all(servers.map((server) => server.close())));

async function listening(server: Server, host = "127.0.0.1"): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  servers.push(server);
  return (server.address() as AddressInfo).port;
}

const serve = (listener: RequestListener): Promise<number> => listening(createServer(listener));
const init = (signal: AbortSignal = AbortSignal.timeout(20_000)): Parameters<Fetch>[1] => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: new TextEncoder().encode("{}"),
  redirect: "manual",
  signal,
});
const refusal = (url: string, options: GuardedFetchOptions = {}) => expect(guardedFetch(options)(url, init())).rejects;

describe("isPublicAddress()", () => {
  test.each([
    ["unspecified", ["0.0.0.0", "0.1.2.3", "::"]],
    ["this machine", ["127.0.0.1", "127.255.255.255", "::1"]],
    [
      "private networks",
      ["10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "fc00::1", "fd00:ec2::254"],
    ],
    ["link-local, metadata services among it", ["169.254.0.1", "169.254.169.254", "fe80::1", "febf::1"]],
    ["other metadata services", ["168.63.129.16", "100.100.100.200", "192.0.0.192"]],
    ["carriers' networks", ["100.64.0.1", "100.127.255.255"]],
    [
      "documentation and benchmarks",
      ["192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "198.19.255.255", "2001:db8::1", "3fff::1"],
    ],
    ["multicast, reserved, broadcast", ["224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "ff02::1"]],
    [
      "IPv4 within IPv6",
      [
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "::ffff:10.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "::127.0.0.1",
      ],
    ],
    ["tunnels", ["2002:7f00:1::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "64:ff9b:1::1"]],
    ["what is not given out", ["4000::1", "100::1", "fec0::1", "5f00::1"]],
    [
      "no addresses",
      [
        "",
        "localhost",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "0x7f000001",
        "fe80::1%eth0",
        "1::2::3",
        "12345::1",
        "[::1]",
      ],
    ],
  ])("refuses %s", (_, addresses) => {
    for (const address of addresses) expect([address, isPublicAddress(address)]).toEqual([address, false]);
  });

  test("takes what anybody on the internet may have", () => {
    for (const address of [
      ...[
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.1",
      ],
      ...[
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "192.169.0.0",
        "223.255.255.255",
      ],
      ...["2606:4700::1111", "2001:4860:4860::8888", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"],
    ]) {
      expect([address, isPublicAddress(address)]).toEqual([address, true]);
    }
  });
});

test("rangeOf() reads ranges and single addresses, and refuses the rest", () => {
  const within = (range: string, address: string) => isWithin([rangeOf(range)], address);
  expect(within("10.1.0.0/16", "10.1.255.255")).toBe(true);
  expect(within("10.1.0.0/16", "10.2.0.0")).toBe(false);
  expect(within("10.1.2.0/23", "10.1.3.9")).toBe(true);
  expect(within("127.0.0.1", "127.0.0.2")).toBe(false);
  expect(within("127.0.0.0/8", "::ffff:127.0.0.1")).toBe(true);
  expect(within("fd00::/8", "fd12:3456::1")).toBe(true);
  expect(within("0.0.0.0/0", "1.2.3.4")).toBe(true);
  expect(within("0.0.0.0/0", "::1")).toBe(false);
  for (const bad of [
    "",
    "10.0.0.0/33",
    "10.0.0/8",
    "localhost",
    "::/129",
    "10.0.0.0/8/8",
    "10.0.0.0/-1",
    "10.0.0.0/x",
  ]) {
    expect(() => rangeOf(bad), bad).toThrow(TypeError);
  }
});

describe("guardedFetch()", () => {
  test("refuses a private address before anything is sent, however it is written", async () => {
    let requests = 0;
    const port = await serve((_, response) => {
      requests++;
      response.end("reached");
    });
    for (const host of [
      "127.0.0.1",
      "localhost",
      "127.1",
      "0x7f.1",
      "2130706433",
      "[::ffff:127.0.0.1]",
      "[::1]",
      "0.0.0.0",
    ]) {
      await refusal(`http://${host}:${port}/`).toBeInstanceOf(AddressRefusedError);
      await refusal(`http://${host}:${port}/`).toMatchObject({ code: "ORCHESTRATUM_ADDRESS_REFUSED" });
    }
    await refusal("http://169.254.169.254/latest/meta-data/").toThrow(
      'Cannot connect to "169.254.169.254": 169.254.169.254 is no public address: to call it all the same, name it in allow',
    );
    expect(requests).toBe(0);
  });

  test("reaches an address that is allowed, with the name's Host header, and gives its answer", async () => {
    const seen: unknown[] = [];
    const port = await serve((request, response) => {
      let body = "";
      request.on("data", (chunk) => {
        body += chunk;
      });
      request.on("end", () => {
        seen.push([request.method, request.url, request.headers.host, request.headers["content-type"], body]);
        response.writeHead(503, { "retry-after": "7", "set-cookie": ["a=1", "b=2"] }).end("é".repeat(50_000));
      });
    });
    const send = guardedFetch({ allow: ["127.0.0.0/8"], resolve: async () => ["127.0.0.1"] });
    const response = await send(`http://some.example:${port}/a/b?c=d`, init());
    expect([response.status, response.headers.get("retry-after")]).toEqual([503, "7"]);
    expect(await response.text()).toBe("é".repeat(50_000));
    expect(seen).toEqual([["POST", "/a/b?c=d", `some.example:${port}`, "application/json", "{}"]]);
  });

  test("refuses a name of which any address is private", async () => {
    for (const addresses of [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["2606:4700::1111", "::1"], ["fe80::1%eth0"]]) {
      await refusal("https://name.example/", { resolve: async () => addresses }).toBeInstanceOf(AddressRefusedError);
    }
    await refusal("https://name.example/", { resolve: async () => [] }).toThrow("it has no address");
    // By the system's own resolver, too.
    await refusal("https://localhost/").toBeInstanceOf(AddressRefusedError);
  });

  test("connects to the address that it has checked, though the name has another by then", async () => {
    const reached: string[] = [];
    const port = await serve((request, response) => {
      reached.push(request.socket.localAddress ?? "");
      response.end();
    });
    let asked = 0;
    // The name changes from one answer to the next: 127.0.0.2 is not allowed, and would answer, too.
    const resolve = async () => [asked++ === 0 ? "127.0.0.1" : "127.0.0.2"];
    const send = guardedFetch({ allow: ["127.0.0.1"], resolve });
    await send(`http://rebinding.example:${port}/`, init());
    expect([reached, asked]).toEqual([["127.0.0.1"], 1]);
    await expect(send(`http://rebinding.example:${port}/`, init())).rejects.toBeInstanceOf(AddressRefusedError);
    expect(reached).toHaveLength(1);
  });

  test("follows no redirect", async () => {
    let followed = 0;
    const port = await serve((request, response) => {
      if (request.url === "/secret") followed++;
      response.writeHead(307, { location: "/secret" }).end();
    });
    const response = await guardedFetch({ allow: ["127.0.0.1"] })(`http://127.0.0.1:${port}/`, init());
    expect([response.status, followed]).toEqual([307, 0]);
  });

  test("tries the next address where one does not take the connection", async () => {
    const port = await serve((_, response) => void response.end("here"));
    const resolve = async () => ["127.0.0.9", "127.0.0.1"];
    const response = await guardedFetch({ allow: ["127.0.0.0/8"], resolve })(`http://two.example:${port}/`, init());
    expect(await response.text()).toBe("here");
    const closed = await serve(() => {});
    await new Promise((done) => (servers.pop() as Server).close(done));
    await refusal(`http://127.0.0.1:${closed}/`, { allow: ["127.0.0.1"] }).toMatchObject({ code: "ECONNREFUSED" });
  });

  test("what one address has taken is never sent to the next", async () => {
    const taken: string[] = [];
    const first = createServer((request) => {
      taken.push("first");
      request.resume().on("end", () => request.socket.resetAndDestroy());
    });
    const port = await listening(first);
    const second = createServer((_, response) => (taken.push("second"), response.end()));
    await new Promise<void>((resolve) => second.listen(port, "127.0.0.2", resolve));
    servers.push(second);
    const resolve = async () => ["127.0.0.1", "127.0.0.2"];
    await refusal(`http://two.example:${port}/`, { allow: ["127.0.0.0/8"], resolve }).toMatchObject({
      code: "ECONNRESET",
    });
    expect(taken).toEqual(["first"]);
  });

  test("ends with its signal, and where nobody answers the connection in time", async () => {
    let hasReached = (): void => {};
    const reached = new Promise<void>((resolve) => {
      hasReached = resolve;
    });
    const port = await serve(() => hasReached());
    const controller = new AbortController();
    const going = guardedFetch({ allow: ["127.0.0.1"] })(`http://127.0.0.1:${port}/`, init(controller.signal));
    await reached;
    controller.abort(new Error("enough"));
    await expect(going).rejects.toThrow("enough");
    await expect(
      guardedFetch({ resolve: () => new Promise(() => {}) })("https://a.example", init(controller.signal)),
    ).rejects.toThrow("enough");
    const options = { resolve: () => new Promise<never>(() => {}), connectMs: 20 };
    await refusal("https://slow.example/", options).toMatchObject({ name: "TimeoutError" });
    // A server that takes the connection and never says a word of TLS.
    const sockets: Socket[] = [];
    const silent = createTcpServer((socket) => void sockets.push(socket));
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    servers.push({ close: () => (sockets.map((socket) => socket.destroy()), silent.close()) });
    const silentPort = (silent.address() as AddressInfo).port;
    await refusal(`https://127.0.0.1:${silentPort}/`, { allow: ["127.0.0.1"], connectMs: 100 }).toMatchObject({
      name: "TimeoutError",
    });
  });

  test("leaves no connection open, also where nobody reads the answer", async () => {
    let open = 0;
    const server = createServer((_, response) => void response.end("x".repeat(1_000_000)));
    // It keeps them for as long as the other side does.
    server.keepAliveTimeout = 60_000;
    server.on("connection", (socket) => {
      open++;
      socket.on("close", () => open--);
    });
    const port = await listening(server);
    const response = await guardedFetch({ allow: ["127.0.0.1"] })(`http://127.0.0.1:${port}/`, init());
    await response.body?.cancel();
    const whole = await guardedFetch({ allow: ["127.0.0.1"] })(`http://127.0.0.1:${port}/`, init());
    expect((await whole.text()).length).toBe(1_000_000);
    // Less than the five seconds after which Node would end one that it keeps for the next request.
    for (let turn = 0; turn < 200 && open > 0; turn++) await new Promise((resolve) => setTimeout(resolve, 10));
    expect(open).toBe(0);
  });

  test("ends where the endpoint changes the protocol, answers no HTTP, or hangs up", async () => {
    const answers: Record<string, string> = {
      upgrade: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
      bare: "HTTP/1.1 101 Switching Protocols\r\n\r\n",
      other: "220 mail.example ESMTP\r\n",
      nothing: "",
      cut: "HTTP/1.1 200 OK\r\nContent-",
    };
    for (const [how, answer] of Object.entries(answers)) {
      let open = 0;
      const server = createTcpServer((socket) => {
        open++;
        socket.on("error", () => {});
        socket.on("close", () => open--);
        // What changes the protocol stays open on this side.
        socket.once("data", () => (how === "upgrade" ? socket.write(answer) : socket.end(answer)));
      });
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      servers.push({ close: () => server.close() });
      const { port } = server.address() as AddressInfo;
      const sent = guardedFetch({ allow: ["127.0.0.1"] })(
        `http://127.0.0.1:${port}/`,
        init(new AbortController().signal),
      );
      const outcome = await Promise.race([
        sent.then(
          ({ type }) => type,
          () => "rejected",
        ),
        new Promise((resolve) => setTimeout(resolve, 5_000, "pending")),
      ]);
      expect(outcome, how).toBe(how === "upgrade" || how === "bare" ? "error" : "rejected");
      await expect.poll(() => open, { timeout: 5_000 }).toBe(0);
    }
  }, 40_000);

  test("an answer that is broken off is none, however it was", async () => {
    const head = "HTTP/1.1 200 OK\r\n";
    for (const beginning of ["Content-Length: 100\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"]) {
      for (const how of ["end", "resetAndDestroy"] as const) {
        const server = createTcpServer((socket) => {
          socket.on("error", () => {});
          socket.once("data", () => socket.write(head + beginning, () => void setTimeout(() => socket[how](), 50)));
        });
        await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
        servers.push({ close: () => server.close() });
        const { port } = server.address() as AddressInfo;
        const response = await guardedFetch({ allow: ["127.0.0.1"] })(`http://127.0.0.1:${port}/`, init());
        await expect(response.text(), `${beginning} ${how}`).rejects.toThrow("broke off");
      }
    }
  });

  describe("over TLS", () => {
    let folder: string;
    let trusted: Authority;
    beforeAll(async () => {
      folder = mkdtempSync(join(tmpdir(), "orchestratum-guarded-"));
      trusted = await createAuthority();
      writeFileSync(join(folder, "ca.pem"), trusted.certificate);
    });
    afterAll(() => rmSync(folder, { recursive: true }));

    /** A server with a certificate for these names, and what reached it. */
    async function secure(authority: Authority, names: readonly string[]) {
      const reached: unknown[] = [];
      const { key, certificate } = await authority.issue(names);
      const server = createSecureServer({ key, cert: certificate }, (request, response) => {
        reached.push(request.headers.host, (request.socket as TLSSocket).servername);
        let body = "";
        request.on("data", (chunk) => (body += chunk)).on("end", () => (reached.push(body), response.end("here")));
      });
      return { port: await listening(server), reached };
    }

    /** What a process answers that trusts the one authority. */
    async function called(url: string, address = "127.0.0.1"): Promise<any> {
      const program = fileURLToPath(new URL("guarded-fetch-process.ts", import.meta.url));
      const { stdout } = await promisify(execFile)(process.execPath, ["--import", "tsx", program, url, address], {
        env: { ...process.env, NODE_EXTRA_CA_CERTS: join(folder, "ca.pem") },
      });
      return JSON.parse(stdout);
    }

    test("reaches a name at the address that was checked, by the certificate of the name", async () => {
      const { port, reached } = await secure(trusted, ["jobs.example"]);
      expect(await called(`https://jobs.example:${port}/`)).toEqual({ status: 200, text: "here" });
      expect(reached).toEqual([`jobs.example:${port}`, "jobs.example", "what is sent"]);
      const byAddress = await secure(trusted, ["127.0.0.1"]);
      expect(await called(`https://127.0.0.1:${byAddress.port}/`)).toEqual({ status: 200, text: "here" });
    }, 60_000);

    test("sends nothing to who has the certificate of another name, of a name for an address, or of nobody known", async () => {
      const stranger = await createAuthority();
      const { port, reached } = await secure(trusted, ["jobs.example"]);
      const unknown = await secure(stranger, ["jobs.example"]);
      const refused = await Promise.all([
        called(`https://evil.example:${port}/`),
        called(`https://127.0.0.1:${port}/`),
        called(`https://jobs.example:${unknown.port}/`),
      ]);
      expect(refused.map(({ code, status }) => code ?? status)).toEqual([
        "ERR_TLS_CERT_ALTNAME_INVALID",
        "ERR_TLS_CERT_ALTNAME_INVALID",
        expect.stringMatching(/^(?:UNABLE_TO_VERIFY|SELF_SIGNED|UNABLE_TO_GET)/),
      ]);
      expect([...reached, ...unknown.reached]).toEqual([]);
    }, 60_000);
  });

  test("refuses options out of their limits", () => {
    expect(() => guardedFetch({ allow: ["everything"] })).toThrow(TypeError);
    expect(() => guardedFetch({ allow: "10.0.0.0/8" as never })).toThrow(TypeError);
    expect(() => guardedFetch({ connectMs: 0 })).toThrow(RangeError);
  });
});

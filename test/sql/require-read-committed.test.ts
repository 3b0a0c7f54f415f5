import { expect, test } from "vitest";
import { type Session, time, useSessions } from "./session.ts";

const sessions = useSessions();

const refused: [string, (session: Session) => Promise<unknown>][] = [
  ["push_batch() repeated", (session) => session.push([{}], { repeat: true })],
  ["claim()", (session) => session.claim("a", { at: time(0) })],
  ["heartbeat()", (session) => session.heartbeat("worker", [])],
  ["finish()", (session) => session.finish("worker", [])],
  ["cancel()", (session) => session.cancel([])],
  ["give_back()", (session) => session.giveBack("worker", [], [])],
  ["wait_for()", (session) => session.waitFor([])],
  ["expire_history()", (session) => session.rows("select orchestratum.expire_history()")],
];

test.each(refused)("%s refuses a snapshot that lasts longer than a statement", async (_, call) => {
  const { one } = sessions;
  for (const isolation of ["repeatable read", "serializable"]) {
    await one.begin();
    await one.rows(`set transaction isolation level ${isolation}`);
    await expect(call(one)).rejects.toMatchObject({
      code: "25000",
      message: `Cannot go on in a transaction that is ${isolation}: this needs read committed`,
    });
    await one.rollback();
  }
  await call(one);
});

test("push_batch() that is no repeat works at any isolation", async () => {
  const { one } = sessions;
  for (const isolation of ["repeatable read", "serializable"]) {
    await one.begin();
    await one.rows(`set transaction isolation level ${isolation}`);
    expect(await one.push([{}])).toHaveLength(1);
    await one.commit();
  }
});

// Open a lock and tell what became of it, in Node: node command.mjs DEVICE < password-file
// The exit status is 0 when it was opened, 1 when it was not, and 2 when nobody knows.

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "redis";

const NOT_OPENED = ["rejected", "failed", "expired", "cancelled", "invalid"];
const TTL = 60, TIMEOUT = 30, CONFIRM = 120;

// Push the command and wait for its end. Doing so again does no harm: a known id is not carried out again.
async function carryOut(command) {
  const server = createClient({
    url: process.env.JT709C_REDIS ?? "redis://127.0.0.1:6379",
    socket: { reconnectStrategy: false },
  });
  server.on("error", () => {});
  try {
    await server.connect();
    await server.rPush("jt709c:commands", JSON.stringify(command));
    const deadline = Date.now() + 1000 * (TTL + TIMEOUT + CONFIRM + 30);
    while (Date.now() < deadline) {
      const reply = await server.blPop(`jt709c:reply:${command.reply_to}`, 5);
      if (reply) return JSON.parse(reply.element);
    }
    return { state: "unknown", ...(await server.hGetAll(`jt709c:command:${command.id}`)) };
  } finally {
    if (server.isOpen) server.destroy();
  }
}

const name = randomUUID();
const command = {
  id: name,
  device: process.argv[2],
  command: "unlock",
  params: { password: readFileSync(0, "utf8").split("\n")[0].trim() },
  ttl: TTL,
  timeout: TIMEOUT,
  reply_to: name,
  issued_by: "command.mjs",
};
let end;
while (!end) {
  try {
    end = await carryOut(command);
  } catch (error) {
    if (error.message.startsWith("NOPERM") || error.message.startsWith("WRONGPASS")) throw error;
    await sleep(1000);
  }
}
console.log(end.state, end.reason ?? "");
// Anything else: it may be open. Look before you command again; later evidence still makes it "confirmed".
process.exitCode = end.state === "confirmed" ? 0 : NOT_OPENED.includes(end.state) ? 1 : 2;

// Follow the events of all locks and miss none, in Node: npm install && JT709C_REDIS=redis://… node consumer.mjs

import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "redis";

const STREAM = "jt709c:events", GROUP = "logbook", CONSUMER = "logbook-1";

// Yours. Each event comes here at least once; after a crash perhaps again, with the same id.
async function handle(event) {
  console.log(event.id, event.kind, event.device);
}

// First what we were given before and never acknowledged (from 0 on), then what is new (>).
async function follow(server) {
  await server.xGroupCreate(STREAM, GROUP, "0", { MKSTREAM: true }).catch((error) => {
    if (!error.message.includes("BUSYGROUP")) throw error;
  });
  let after = "0";
  for (;;) {
    const reply = await server.xReadGroup(GROUP, CONSUMER, { key: STREAM, id: after }, { COUNT: 100, BLOCK: 5000 });
    const entries = reply?.[0].messages ?? [];
    for (const { id, message } of entries) {
      if (message?.event) await handle(JSON.parse(message.event));
      await server.xAck(STREAM, GROUP, id);
    }
    if (after !== ">") after = entries.at(-1)?.id ?? ">";
  }
}

for (;;) {
  // Connections are made anew here and not by the client, so that what was being read is asked for again.
  const server = createClient({
    url: process.env.JT709C_REDIS ?? "redis://127.0.0.1:6379",
    socket: { reconnectStrategy: false },
  });
  server.on("error", (error) => console.log(`Redis is away, trying again: ${error.message}`));
  try {
    await server.connect();
    await follow(server);
  } catch (error) {
    if (error.message.startsWith("NOPERM") || error.message.startsWith("WRONGPASS")) throw error;
  }
  server.destroy();
  await sleep(1000);
}

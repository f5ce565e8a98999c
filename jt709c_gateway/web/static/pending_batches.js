// Batches without an answer, kept in the browser until their state is known, without parameters.

import { now } from "./format.js";

const KEY = "jt709c-unsure-batches";
const KEPT_MS = 86400000;
let here = [];
/** The requests of this page, with their parameters, so that the rest of a batch can be given. */
const bodies = new Map();

/** The batches, oldest first: `{id, command, count, at}`. */
export function pendingBatches() {
  try {
    here = JSON.parse(localStorage.getItem(KEY) ?? "[]").filter(
      (one) => typeof one?.id === "string" && typeof one.at === "number",
    );
  } catch {
    // The storage is unavailable or malformed.
  }
  return here.filter((one) => one.at > now() - KEPT_MS);
}

/** Keep a batch before it is sent: it may arrive even if the page is closed. */
export function addPendingBatch(body) {
  bodies.set(body.id, body);
  const { id, command } = body;
  const others = pendingBatches().filter((one) => one.id !== id);
  write([...others, { id, command, count: body.devices.length, at: now() }]);
}

/** Remove a batch whose state is known. */
export function removePendingBatch(id) {
  const all = pendingBatches();
  const rest = all.filter((one) => one.id !== id);
  if (rest.length < all.length) write(rest);
}

/** The request of a batch if this page has sent it, or null. */
export function bodyOf(id) {
  return bodies.get(id) ?? null;
}

/** Forget the request of a batch, which may have a password. */
export function forgetBody(id) {
  bodies.delete(id);
}

function write(batches) {
  here = batches;
  try {
    localStorage.setItem(KEY, JSON.stringify(batches));
  } catch {
    // Only this page has them then.
  }
}

// Commands without a response: it was lost, or has not arrived yet, so the gateway may have received them or not.
//
// The browser stores them for all tabs, so that a user does not repeat one unknowingly after closing the dialog or the
// page. Parameters, which may be secret, are not stored.

import { now } from "./format.js";

const KEY = "jt709c-unsure-commands";
/** A command that the gateway does not know after this time has never arrived. */
const KEPT_MS = 86400000;

/** The commands of this page, for browsers without storage. */
let here = [];

/** Generate a command id. `crypto.randomUUID` is missing on pages without TLS. */
export function newCommandId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The commands, oldest first: `{id, command, device, lock, at}`; `lock` is the master of `device`, or itself. */
export function pendingCommands() {
  try {
    const kept = localStorage.getItem(KEY);
    if (kept !== null) here = JSON.parse(kept).filter(isCommand);
    else here = [];
  } catch {
    // The storage is unavailable or malformed.
  }
  return here.filter((command) => command.at > now() - KEPT_MS);
}

/** Store a command until its state is known. */
export function addPending({ id, command, device, lock, at }) {
  write([...pendingCommands().filter((command) => command.id !== id), { id, command, device, lock, at }]);
}

/** Remove a command whose state is known. */
export function removePending(id) {
  const all = pendingCommands();
  const rest = all.filter((command) => command.id !== id);
  if (rest.length < all.length) write(rest);
}

function write(commands) {
  here = commands;
  try {
    localStorage.setItem(KEY, JSON.stringify(commands));
  } catch {
    // Only this page has the commands then.
  }
}

function isCommand(one) {
  const texts = [one?.id, one?.command, one?.device, one?.lock];
  return texts.every((text) => typeof text === "string") && typeof one.at === "number";
}

// Commands of which it isn't known whether the gateway got them: their answers were lost, or aren't there yet.
//
// They are kept in the browser, for all its tabs, so that nobody gives one a second time unawares after closing the
// dialog or the page. Parameters, which may be secret, are not kept.

import { now } from "./format.js";

const KEY = "jt709c-unsure-commands";
/** What the gateway hasn't known of for so long has never arrived. */
const KEPT_MS = 86400000;

/** What this page itself remembers, for browsers that keep nothing. */
let here = [];

/** A new id for a command. `crypto.randomUUID` is not there on a page that came without TLS. */
export function newCommandId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The commands, oldest first: `{id, command, device, lock, at}`; `lock` is what `device` is reached through. */
export function pendingCommands() {
  try {
    const kept = localStorage.getItem(KEY);
    if (kept !== null) here = JSON.parse(kept).filter(isCommand);
    else here = [];
  } catch {
    // Nothing can be kept here, or somebody else wrote it.
  }
  return here.filter((command) => command.at > now() - KEPT_MS);
}

/** Keep a command until it is known what became of it. */
export function addPending({ id, command, device, lock, at }) {
  write([...pendingCommands().filter((command) => command.id !== id), { id, command, device, lock, at }]);
}

/** What became of a command is known. */
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
    // Then only this page remembers.
  }
}

function isCommand(one) {
  const texts = [one?.id, one?.command, one?.device, one?.lock];
  return texts.every((text) => typeof text === "string") && typeof one.at === "number";
}

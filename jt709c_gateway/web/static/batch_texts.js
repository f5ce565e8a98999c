// What is said about a command for many locks before it is given.

import { count, span } from "./format.js";
import { fullName } from "./label.js";

/** Locks that are named of each kind. */
const NAMED = 5;
/** Why locks get no command. */
const LEFT_OUT = {
  unknown: "never reported",
  refused: "can't carry it out",
  no_profile: "are of an unknown kind",
  incomplete: "lack a password",
  repeated: "are named twice",
};
const ODD = {
  offline: "not connected: it waits for them",
  moving: "moving at this moment",
  command_waits: "waiting for another command already",
};

/** The name of a lock with its id, or its id. */
export function lockName(id, fleet) {
  return fullName(id, fleet.rows.get(id)?.summary.label);
}

/** The first of these locks, and how many more. */
function named(devices, fleet) {
  const rest = devices.length - NAMED;
  const first = devices.slice(0, rest === 1 ? NAMED + 1 : NAMED).map((id) => lockName(id, fleet));
  return `${first.join(", ")}${rest > 1 ? ` and ${count(rest)} more` : ""}`;
}

/** The locks of a preview that are left out or unlike the others, as sentences. */
export function oddities(preview, fleet) {
  const texts = [];
  for (const [problem, text] of Object.entries(LEFT_OUT)) {
    const found = preview.left_out.filter((one) => one.problems.includes(problem));
    if (found.length === 0) continue;
    const reason = problem === "refused" || problem === "incomplete" ? `, ${found[0].message}` : "";
    texts.push(`${count(found.length)} left out, they ${text}: ${named(found.map((one) => one.device), fleet)}${reason}.`);
  }
  for (const [problem, text] of Object.entries(ODD)) {
    const found = preview.odd.filter((one) => one.problems.includes(problem));
    if (found.length) texts.push(`${count(found.length)} ${text}: ${named(found.map((one) => one.device), fleet)}.`);
  }
  return texts;
}

/** What the command does, as sentences. */
export function effectOf(preview, wait) {
  return [
    preview.physical
      ? "This physically moves each of these locks. It is written to each at most once."
      : "This doesn't move the locks.",
    `Locks that are away get it when they connect, within ${span(wait)}; after that it ends as expired.`,
    "The history of each lock keeps who gave it.",
  ];
}

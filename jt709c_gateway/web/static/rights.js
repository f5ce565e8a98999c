// What the user may do, as the gateway says; the gateway itself checks every request.

import { get } from "./api.js";

/** The name that a command for a sub-lock has in its record, and the one that it was given by. */
const GIVEN_AS = { sublock_unlock: "unlock" };

/** The rights of a user: `config` and `me` are answers of the API. */
export class Rights {
  #me;

  constructor(config, me) {
    /** Whether the user may give any commands. */
    this.commands = Boolean(config.commands);
    this.#me = me;
  }

  /** The name of the user, or null. */
  get name() {
    return this.#me.name;
  }

  get role() {
    return this.#me.role;
  }

  /** Whether the user may change labels and areas. */
  get admin() {
    return this.commands && this.role === "admin";
  }

  /** Whether the user may give only some commands. */
  get limited() {
    return this.#me.commands !== null;
  }

  /** Whether the user may give a command, to whatever lock. */
  allows(command) {
    return this.commands && (!this.limited || this.#me.commands.includes(command));
  }

  /** Why the user may give no command to a lock with this label; "" if there is no reason. */
  against(label) {
    const { groups } = this.#me;
    if (!this.commands) return "You may not give commands.";
    if (groups === null || groups.includes(label?.group)) return "";
    const yours = groups.length > 1 ? `the groups ${groups.join(", ")}` : `the group ${groups[0]}`;
    const its = label?.group ? `in the group ${label.group}` : "in no group";
    return `You may give commands to locks of ${yours}. This one is ${its}.`;
  }

  /** Whether the user may cancel the command of a record; the label of its lock may be unknown. */
  cancels({ command, peripheral }, label) {
    const given = peripheral && this.allows(GIVEN_AS[command]);
    return (given || this.allows(command)) && (!label || !this.against(label));
  }

  /** Ask the gateway again; returns whether anything has changed. */
  async changed() {
    try {
      return JSON.stringify(await get("me")) !== JSON.stringify(this.#me);
    } catch {
      return false;
    }
  }
}

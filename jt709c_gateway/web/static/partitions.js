// Which partitions of the store are away, and the banner that says so.

import { answers, get } from "./api.js";

/** Answers may name partitions while the stream is not live. Then the page asks again after this time. */
const ASK_MS = 10000;

/** Fires `back` when a partition can be read again. */
export class Partitions extends EventTarget {
  #away = [];
  #timer = null;

  constructor(live, banner) {
    super();
    this.banner = banner;
    live.addEventListener("partitions", (event) => this.#set(event.detail.partitions_away));
    answers.addEventListener("away", (event) => this.#set([...this.#away, ...event.detail]));
  }

  #set(numbers) {
    const away = [...new Set(numbers)].sort((a, b) => a - b);
    const isBack = this.#away.some((number) => !away.includes(number));
    this.#away = away;
    this.#show();
    clearTimeout(this.#timer);
    if (away.length > 0) this.#timer = setTimeout(() => this.#ask(), ASK_MS);
    if (isBack) this.dispatchEvent(new Event("back"));
  }

  /** Read something from all partitions. */
  async #ask() {
    try {
      const page = await get("devices", { limit: 1 });
      this.#set(page.partitions_away ?? []);
    } catch {
      this.#timer = setTimeout(() => this.#ask(), ASK_MS);
    }
  }

  #show() {
    const [one, ...more] = this.#away;
    const which = more.length > 0 ? `Partitions ${this.#away.join(", ")} of the store are` : `Partition ${one} of the store is`;
    const text =
      `${which} away. Locks, events and commands in there are missing here, ` +
      "or are shown as they were. Their commands wait.";
    this.banner.hidden = one === undefined;
    if (one !== undefined && this.banner.textContent !== text) this.banner.textContent = text;
  }
}

// Sound and notifications when locks begin to need attention, once the user has switched them on.

import { now } from "./format.js";
import { ALARM, reasonsOf } from "./needs.js";
import { Tone } from "./tone.js";

const KEY = "jt709c-alerts";
/** News are gathered for so long, so that a burst is one alert; there is no other one for a while after it. */
const GATHER_MS = 1500;
const PAUSE_MS = 10000;
/** Locks that a notification of many names. */
const NAMED = 3;

/** Fires `change`. `sound` and `notify` say what is on; `problem` says in a sentence why the browser refuses, or is "". */
export class Alerts extends EventTarget {
  sound = false;
  notify = false;
  #refusal = "";
  #pending = new Map();
  #since = 0;
  #last = -Infinity;
  #timer = null;

  constructor(attention, selection, live) {
    super();
    this.selection = selection;
    this.live = live;
    this.tone = new Tone(() => this.#changed());
    this.#restore();
    attention.addEventListener("news", (event) => this.#gather(event.detail));
  }

  /** Whether any is on. */
  get on() {
    return this.sound || this.notify;
  }

  /** Why the browser doesn't do what is on, in a sentence, or "". */
  get problem() {
    return [this.sound ? this.tone.problem : "", this.#refusal].filter(Boolean).join(" ");
  }

  /** Whether the browser refuses what is on. */
  get blocked() {
    return Boolean((this.sound && this.tone.problem) || (this.notify && this.#refusal));
  }

  /** Switch the sound on or off; to be called by a click, since browsers require one. */
  setSound(on) {
    this.sound = on;
    if (on) this.tone.start();
    this.#store();
  }

  /** Switch notifications on or off; asks the browser's user. */
  async setNotify(on) {
    this.#refusal = on ? await permission() : "";
    this.notify = on && this.#refusal === "";
    this.#store();
  }

  /** Give an alert now, as an example. */
  test() {
    this.#give("Test", "So an alert looks and sounds when a lock needs attention.", "jt709c-test", "");
  }

  #restore() {
    try {
      const kept = JSON.parse(localStorage.getItem(KEY));
      this.sound = kept?.sound === true;
      this.notify = kept?.notify === true;
    } catch {
      // The storage is unavailable or malformed: all is off.
    }
    if (this.sound) this.tone.start();
    if (this.notify) this.#refusal = refusal();
    this.live.stays = this.on;
  }

  #store() {
    try {
      localStorage.setItem(KEY, JSON.stringify({ sound: this.sound, notify: this.notify }));
    } catch {
      // It is on for this page only.
    }
    this.live.stays = this.on;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }

  #gather(news) {
    if (!this.on) return;
    if (this.#pending.size === 0) this.#since = performance.now();
    for (const { row, need, alarms } of news) {
      const before = this.#pending.get(row);
      this.#pending.set(row, {
        need: need | (before?.need ?? 0),
        alarms: [...(before?.alarms ?? []), ...alarms],
      });
    }
    clearTimeout(this.#timer);
    const wait = Math.max(this.#since + GATHER_MS, this.#last + PAUSE_MS) - performance.now();
    this.#timer = setTimeout(() => this.#tell(), wait);
  }

  /** Give one alert about all that is pending and has not cleared meanwhile. */
  #tell() {
    const pending = [...this.#pending];
    this.#pending.clear();
    const told = [];
    for (const [row, news] of pending) {
      const text = this.#text(row, news);
      if (text) told.push({ row, text });
      // Cleared before it was told: the next time is news again.
      else row.told &= ~news.need;
    }
    if (!told.length || !this.on) return;
    this.#last = performance.now();
    if (told.length === 1) {
      const [{ row, text }] = told;
      this.#give(row.name, text, `jt709c-${row.id}-${text}`, `#/device/${encodeURIComponent(row.id)}`);
      return;
    }
    const lines = told.slice(0, NAMED).map(({ row, text }) => `${row.name}: ${text}`);
    if (told.length > NAMED) lines.push(`and ${told.length - NAMED} more`);
    this.#give(`${told.length} locks need attention`, lines.join("\n"), `jt709c-${now()}`, "#/?show=attention");
  }

  /** The reasons of a row that are new, in words. */
  #text(row, { need, alarms }) {
    return reasonsOf(row, this.selection.silence)
      .filter((one) => one.need & need && (one.need !== ALARM || alarms.includes(one.name)))
      .map(({ text }) => text)
      .join(", ");
  }

  #give(title, body, tag, hash) {
    if (this.sound) this.tone.play();
    if (!this.notify) return;
    try {
      const shown = new Notification(title, { body, tag, icon: new URL("static/icon-192.png", document.baseURI).href });
      shown.addEventListener("click", () => {
        window.focus();
        if (hash) location.hash = hash;
        shown.close();
      });
    } catch {
      // Chrome on Android has the class, and refuses its use without a service worker.
      this.#refusal = "This browser shows no notifications of an open page. The sound works.";
      this.#changed();
    }
  }
}

/** Why the browser shows no notifications, as far as it tells without asking its user; or "". */
function refusal() {
  if (!window.isSecureContext)
    return "Browsers show notifications only for pages with TLS (https://), or on localhost.";
  if (!("Notification" in window)) return "This browser has no notifications.";
  if (Notification.permission === "denied")
    return "The browser refuses notifications of this page. Allow them in its settings for this site, and switch them on again.";
  return Notification.permission === "granted"
    ? ""
    : "The browser has not been allowed to show notifications. Switch them on again to be asked.";
}

async function permission() {
  if (window.isSecureContext && window.Notification?.permission === "default")
    await Notification.requestPermission();
  return refusal();
}

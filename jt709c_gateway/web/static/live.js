// The stream of live events of a page, and its state.
//
// It uses fetch instead of EventSource, to see the status of an error and the heartbeat comments, without which a dead
// connection would look alive. A page has one stream, since browsers limit the connections to a host.

import { ApiError, apiUrl, errorOf, errorText } from "./api.js";
import { now, stamp } from "./format.js";

/** The server sends something at least every 15 s. */
const SILENCE_MS = 40000;
const FIRST_WAIT_MS = 1000;
const MAX_WAIT_MS = 30000;
/** A hidden page closes its stream after this time, unless it gives alerts. */
const HIDDEN_MS = 60000;

/**
 * Fires `open` (each time the stream has started), `state`, and `event`, `devices`, `labels`, `partitions` or `skipped`
 * with the decoded data as `detail`.
 */
export class Live extends EventTarget {
  state = "connecting";
  text = "connecting…";
  reason = "";
  /** Whether the stream has the updates of the fleet, and whether it stays open while the page is hidden. */
  withDevices = false;
  stays = false;
  #url = null;
  #abort = null;
  #wait = FIRST_WAIT_MS;
  #timer = null;
  #lastReceived = null;
  #hiding = null;

  constructor() {
    super();
    document.addEventListener("visibilitychange", () => this.#visibility());
    window.addEventListener("online", () => this.#connect());
  }

  /** The time of the last sign of life, ms since 1970. */
  get heard() {
    return this.#lastReceived ?? now();
  }

  /** Set the subscription: `{devices: 1, device, kind: [names]}`. Returns whether the stream restarts. */
  subscribe(params) {
    const key = apiUrl("events/live", params).href;
    if (key === this.#url) return false;
    this.#url = key;
    this.withDevices = Boolean(params.devices);
    this.#wait = FIRST_WAIT_MS;
    this.#connect();
    return true;
  }

  /** Close the stream for good. */
  close() {
    this.#url = null;
    this.#stop();
  }

  #visibility() {
    clearTimeout(this.#hiding);
    this.#hiding = null;
    if (document.hidden) this.#hiding = setTimeout(() => this.#pause(), HIDDEN_MS);
    else if (this.state !== "live") this.#connect();
  }

  #pause() {
    if (this.stays) return;
    this.#stop();
    this.#setState("paused", "paused while out of sight");
  }

  #stop() {
    clearTimeout(this.#timer);
    this.#abort?.abort();
    this.#abort = null;
  }

  async #connect() {
    if (!this.#url) return;
    this.#stop();
    const abort = new AbortController();
    this.#abort = abort;
    if (this.state !== "lost") this.#setState("connecting", "connecting…");
    let error;
    try {
      await this.#listen(this.#url, abort);
      error = new ApiError(0, "the stream has ended");
    } catch (caught) {
      error = caught instanceof ApiError ? caught : new ApiError(0, String(caught?.message ?? caught));
    }
    if (this.#abort === abort) this.#lost(error);
  }

  #lost(error) {
    this.#abort = null;
    const since = this.#lastReceived ? `no answer since ${stamp(this.#lastReceived)}` : "no answer yet";
    this.#setState("lost", error.status ? `not live (${error.status})` : since, errorText(error));
    const wait = this.#wait * (0.75 + Math.random() / 2);
    this.#wait = Math.min(this.#wait * 2, MAX_WAIT_MS);
    this.#timer = setTimeout(() => this.#connect(), wait);
  }

  async #listen(url, abort) {
    let silence = null;
    const alive = () => {
      clearTimeout(silence);
      silence = setTimeout(() => abort.abort(), SILENCE_MS);
    };
    alive();
    try {
      const response = await fetch(url, {
        signal: abort.signal,
        headers: { accept: "text/event-stream" },
        credentials: "same-origin",
        cache: "no-store",
      });
      if (!response.ok) throw errorOf(response.status, await response.json().catch(() => null));
      this.#wait = FIRST_WAIT_MS;
      this.#setState("live", "live");
      this.dispatchEvent(new Event("open"));
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new Parser((type, data) => this.#dispatch(type, data));
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        if (this.#abort !== abort) return;
        alive();
        this.#lastReceived = now();
        parser.feed(value);
      }
    } finally {
      clearTimeout(silence);
    }
  }

  #dispatch(type, data) {
    let detail;
    try {
      detail = JSON.parse(data);
    } catch {
      return;
    }
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #setState(state, text, reason = "") {
    this.state = state;
    this.text = text;
    this.reason = reason;
    this.dispatchEvent(new Event("state"));
  }
}

/** Parses server-sent events into (type, data); ignores comments and ids. */
export class Parser {
  #rest = "";
  #type = "";
  #data = [];

  constructor(found) {
    this.found = found;
  }

  /** Parse the next chunk of text. */
  feed(text) {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line);
  }

  #line(line) {
    if (line === "") {
      if (this.#data.length > 0) this.found(this.#type || "message", this.#data.join("\n"));
      this.#type = "";
      this.#data = [];
      return;
    }
    const [, name, value] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
    if (name === "event") this.#type = value ?? "";
    else if (name === "data") this.#data.push(value ?? "");
  }
}

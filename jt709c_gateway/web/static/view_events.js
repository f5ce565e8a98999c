// Events as they happen.

import { h, throttle, setChildren } from "./dom.js";
import { explanation } from "./explain.js";
import { moment, timeElement, words } from "./format.js";
import { FREQUENT, KINDS, eventSummary } from "./event_summary.js";
import { withKeypad } from "./keypad.js";
import { deviceLink } from "./label.js";
import { PagedHistory } from "./paged_history.js";
import { positionOf } from "./position.js";

/** Events shown by default, and at most; the same number is buffered while paused. */
const SHOWN = 500;
const MAX_SHOWN = 2000;
const PAGE = 100;

/** Open the view. `query` has the selection, `storeQuery` stores it in the URL. */
export function open({ live, labels, query, storeQuery }) {
  let chosen = fromQuery(query);
  let shown = [];
  let waiting = [];
  let missed = 0;
  let paused = false;
  let most = SHOWN;

  const device = h("input", {
    type: "search",
    class: "search",
    placeholder: "name, device id or IMEI",
    "aria-label": "Only events of this lock: its name, plate, device id or IMEI",
    value: chosen.device,
    autocomplete: "off",
    spellcheck: "false",
    "data-search": true,
    on: { change: () => choose(), keydown: (event) => escape(event) },
  });
  const kinds = KINDS.map((kind) =>
    h(
      "button",
      {
        type: "button",
        class: "fact",
        "data-kind": kind,
        "aria-pressed": String(chosen.kinds.has(kind)),
        on: { click: () => toggle(kind) },
      },
      words(kind),
    ),
  );
  const pause = h(
    "button",
    { type: "button", class: "button", "aria-pressed": "false", on: { click: () => setPaused(!paused) } },
    "Pause",
  );
  const note = h("p", { class: "shown", role: "status" });
  const list = h("ol", { class: "events", "aria-label": "Events, newest first" });
  const empty = h("p", { class: "empty" }, "Loading…");
  const pages = new PagedHistory({
    path: () => "events",
    params: () => ({ ...params(), limit: PAGE }),
    wanted: PAGE,
    take: (page, begins) => takePage(page, begins),
    changed: () => draw(),
  });
  const element = h(
    "div",
    { class: "view view-events" },
    h("h1", { class: "unseen", tabindex: -1 }, "Events"),
    h(
      "section",
      { class: "filterbar", "aria-label": "Which events" },
      h(
        "div",
        {
          class: "facts",
          role: "group",
          "aria-label": "Kinds; none pressed is all but locations and heartbeats",
        },
        kinds,
      ),
      h("div", { class: "tools" }, withKeypad(device, { numeric: false }), pause, note),
    ),
    empty,
    list,
    pages.element,
  );

  const params = () => {
    const one = chosen.device || null;
    const usual = one ? [] : KINDS.filter((kind) => !FREQUENT.includes(kind));
    return { device: one, kind: chosen.kinds.size ? [...chosen.kinds] : usual };
  };
  const escape = (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    if (device.value === "") return device.blur();
    device.value = "";
    choose();
  };
  const toggle = (kind) => {
    if (!chosen.kinds.delete(kind)) chosen.kinds.add(kind);
    choose();
  };
  const choose = () => {
    chosen.device = labels.resolve(device.value.trim());
    device.value = chosen.device;
    storeQuery(toQuery(chosen));
    for (const button of kinds)
      button.setAttribute("aria-pressed", String(chosen.kinds.has(button.dataset.kind)));
    clear();
    if (!live.subscribe(params())) load();
  };
  const clear = () => {
    shown = [];
    waiting = [];
    missed = 0;
    most = SHOWN;
    list.replaceChildren();
    pages.reset();
    draw();
  };
  const load = () => pages.newest();
  const takePage = ({ entries }, begins) => {
    const ids = known();
    const joins = begins && pages.loaded && entries.some(({ event }) => ids.has(event.id));
    if (!begins) {
      most = Math.min(Math.max(most, shown.length + entries.length), MAX_SHOWN);
      take(entries, shown);
      if (shown.length >= MAX_SHOWN)
        pages.full = `The last ${MAX_SHOWN} are shown. Choose a kind or a lock to see older ones.`;
    } else {
      if (pages.loaded && !joins && !paused && entries.length) {
        // Entries are missing in between: restart the list.
        shown = [];
        most = SHOWN;
        pages.full = "";
      }
      take(entries, paused && pages.loaded ? waiting : shown);
    }
    return joins ? null : entries.length;
  };
  const known = () => new Set([...shown, ...waiting].map((one) => one.event.id));
  // The list and the stream overlap; an event has one id.
  const take = (entries, into) => {
    const ids = known();
    for (const { event, entry } of entries) {
      if (!ids.has(event.id)) into.push({ event, entry, at: moment(event.received_at) ?? 0, element: null });
    }
    into.sort((a, b) => b.at - a.at);
    cut(into);
  };
  const cut = (some) => {
    if (some.length <= most) return;
    some.length = most;
    if (some === shown) pages.rewind(shown.findLast((one) => one.entry)?.entry);
  };
  const draw = () => {
    const wantedElements = shown.map((one) => (one.element ??= eventItem(one.event, labels)));
    const kept = new Set(wantedElements);
    for (const old of [...list.children]) if (!kept.has(old)) old.remove();
    wantedElements.forEach((item, index) => {
      if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
    });
    empty.hidden = list.children.length > 0 && !pages.problem;
    const nothing = "There are no such events. New ones appear here.";
    empty.textContent = pages.problem || (pages.ended ? nothing : "Loading…");
    const parts = [
      chosen.kinds.size || chosen.device ? "" : "without locations and heartbeats",
      paused ? `paused, ${waiting.length}${waiting.length >= most ? " or more" : ""} new` : "",
      missed ? `${missed} left out: there were too many to send` : "",
    ];
    const text = parts.filter(Boolean).join("; ");
    if (note.textContent !== text) note.textContent = text;
  };
  const setPaused = (value) => {
    paused = value;
    pause.textContent = paused ? "Resume" : "Pause";
    pause.setAttribute("aria-pressed", String(paused));
    if (!paused) {
      shown = [...waiting, ...shown].sort((a, b) => b.at - a.at);
      waiting = [];
      cut(shown);
    }
    draw();
  };

  let arrived = [];
  const later = throttle(() => {
    take(
      arrived.map((event) => ({ event, entry: null })),
      paused ? waiting : shown,
    );
    arrived = [];
    draw();
  }, 250);
  const onEvent = (event) => {
    arrived.push(event.detail);
    if (arrived.length > SHOWN) arrived.shift();
    later();
  };
  const onSkipped = (event) => {
    missed += event.detail.count ?? 0;
    // After an outage of Redis: the list has the missed events.
    if (event.detail.count) later();
    else load();
  };
  const renamed = throttle(() => labels.rename(list), 250);
  live.addEventListener("event", onEvent);
  live.addEventListener("skipped", onSkipped);
  labels.addEventListener("change", renamed);
  return {
    element,
    title: "Events",
    subscription: params(),
    connected: (restarted) => Promise.all([load(), labels.load(restarted)]),
    restart: () => {
      clear();
      load();
    },
    chosen: (asked) => {
      chosen = fromQuery(asked);
      device.value = chosen.device;
      choose();
    },
    close: () => {
      pages.stop();
      later.stop();
      renamed.stop();
      labels.removeEventListener("change", renamed);
      live.removeEventListener("event", onEvent);
      live.removeEventListener("skipped", onSkipped);
    },
  };
}

/** The query of a URL; invalid values are ignored. */
function fromQuery(query) {
  return {
    device: (query.get("device") ?? "").trim(),
    kinds: new Set(query.getAll("kind").filter((kind) => KINDS.includes(kind))),
  };
}

function toQuery({ device, kinds }) {
  const query = new URLSearchParams([...kinds].map((kind) => ["kind", kind]));
  if (device) query.set("device", device);
  return query;
}

function eventItem(event, labels) {
  const body = h("div", { hidden: true });
  const toggle = h(
    "button",
    { type: "button", class: "event-summary event-toggle", "aria-expanded": "false" },
    eventSummary(event) || "details",
  );
  // The link is beside the button, since not everybody can reach a control within another one.
  const head = h(
    "div",
    { class: "event-head", on: { click: (click) => click.target.closest("a") || open() } },
    timeElement(event.received_at),
    deviceLink(event.device, labels.of(event.device) ?? event.label, { class: "event-device" }),
    h("span", { class: `kind kind-${event.kind}` }, words(event.kind)),
    toggle,
  );
  const open = () => {
    // Selecting text is no click.
    if (String(getSelection())) return;
    body.hidden = !body.hidden;
    toggle.setAttribute("aria-expanded", String(!body.hidden));
    if (body.hidden || body.hasChildNodes()) return;
    const { raw, ...rest } = event;
    setChildren(
      body,
      positionOf(event),
      raw ? [h("code", { class: "raw" }, raw), explanation(raw)] : null,
      h("pre", { class: "json", tabindex: 0 }, JSON.stringify(rest, null, 2)),
    );
  };
  return h("li", {}, head, body);
}

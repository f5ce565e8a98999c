// Events as they happen.

import { get, sentence } from "./api.js";
import { h, paced, show } from "./dom.js";
import { explanation } from "./explain.js";
import { moment, timeElement, words } from "./format.js";
import { FREQUENT, KINDS, gist } from "./gist.js";

/** So many are shown; the oldest go. While paused as many wait. */
const MOST = 500;
const FIRST = 100;

/** Open the view. */
export function open({ live, memory, query }) {
  memory.kinds ??= new Set();
  if (query.has("device")) memory.device = query.get("device");
  memory.device ??= "";
  let shown = [];
  let waiting = [];
  let missed = 0;
  let paused = false;
  let generation = 0;

  const device = h("input", {
    type: "search",
    class: "search",
    placeholder: "device id or IMEI",
    "aria-label": "Only events of this device",
    value: memory.device,
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
        "aria-pressed": String(memory.kinds.has(kind)),
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
      h("div", { class: "tools" }, device, pause, note),
    ),
    empty,
    list,
  );

  const wanted = () => {
    const one = memory.device.trim() || null;
    const usual = one ? [] : KINDS.filter((kind) => !FREQUENT.includes(kind));
    return { device: one, kind: memory.kinds.size ? [...memory.kinds] : usual };
  };
  const escape = (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    if (device.value === "") return device.blur();
    device.value = "";
    choose();
  };
  const toggle = (kind) => {
    if (!memory.kinds.delete(kind)) memory.kinds.add(kind);
    for (const button of kinds)
      button.setAttribute("aria-pressed", String(memory.kinds.has(button.dataset.kind)));
    choose();
  };
  const choose = () => {
    memory.device = device.value;
    shown = [];
    waiting = [];
    missed = 0;
    list.replaceChildren();
    empty.textContent = "Loading…";
    if (!live.want(wanted())) load();
  };
  const load = async () => {
    const mine = (generation += 1);
    try {
      const page = await get("events", { ...wanted(), limit: FIRST });
      if (mine !== generation) return;
      take(page.entries.map((entry) => entry.event));
      empty.textContent = "Nothing of this kind has happened lately. What happens appears here by itself.";
    } catch (error) {
      if (mine === generation) empty.textContent = sentence(error);
    }
    draw();
  };
  // The list and the stream overlap; an event has one id.
  const take = (events) => {
    const into = paused ? waiting : shown;
    const ids = new Set([...shown, ...waiting].map((one) => one.event.id));
    for (const event of events) {
      if (!ids.has(event.id)) into.push({ event, at: moment(event.received_at) ?? 0, element: null });
    }
    into.sort((a, b) => b.at - a.at);
    into.splice(MOST);
  };
  const draw = () => {
    if (!paused) {
      const wantedElements = shown.map((one) => (one.element ??= eventItem(one.event)));
      const kept = new Set(wantedElements);
      for (const old of [...list.children]) if (!kept.has(old)) old.remove();
      wantedElements.forEach((item, index) => {
        if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
      });
    }
    empty.hidden = list.children.length > 0;
    const parts = [
      memory.kinds.size || memory.device.trim() ? "" : "without locations and heartbeats",
      paused ? `paused, ${waiting.length}${waiting.length === MOST ? " or more" : ""} new` : "",
      missed ? `${missed} left out: more happened than can be sent` : "",
    ];
    const text = parts.filter(Boolean).join("; ");
    if (note.textContent !== text) note.textContent = text;
  };
  const setPaused = (value) => {
    paused = value;
    pause.textContent = paused ? "Go on" : "Pause";
    pause.setAttribute("aria-pressed", String(paused));
    if (!paused) {
      shown = [...waiting, ...shown].sort((a, b) => b.at - a.at).slice(0, MOST);
      waiting = [];
    }
    draw();
  };

  let arrived = [];
  const later = paced(() => {
    take(arrived);
    arrived = [];
    draw();
  }, 250);
  const heard = (event) => {
    arrived.push(event.detail);
    if (arrived.length > MOST) arrived.shift();
    later();
  };
  const skipped = (event) => {
    missed += event.detail.count ?? 0;
    // Redis was away: what happened meanwhile is in the list.
    if (event.detail.count) later();
    else load();
  };
  live.addEventListener("event", heard);
  live.addEventListener("skipped", skipped);
  return {
    element,
    title: "Events",
    want: wanted(),
    connected: load,
    close: () => {
      generation += 1;
      later.stop();
      live.removeEventListener("event", heard);
      live.removeEventListener("skipped", skipped);
    },
  };
}

function eventItem(event) {
  const body = h("div", {});
  const details = h(
    "details",
    {},
    h(
      "summary",
      {},
      timeElement(event.received_at),
      h("a", { class: "event-device", href: `#/device/${encodeURIComponent(event.device)}` }, event.device),
      h("span", { class: `kind kind-${event.kind}` }, words(event.kind)),
      h("span", { class: "gist" }, gist(event)),
    ),
    body,
  );
  details.addEventListener("toggle", () => {
    if (!details.open || body.hasChildNodes()) return;
    const { raw, ...rest } = event;
    show(
      body,
      raw ? [h("code", { class: "raw" }, raw), explanation(raw)] : null,
      h("pre", { class: "json", tabindex: 0 }, JSON.stringify(rest, null, 2)),
    );
  });
  return h("li", {}, details);
}

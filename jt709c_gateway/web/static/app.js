// The start of the page: configuration, event stream, and the view of the URL.

import { Alerts } from "./alerts.js";
import { ApiError, get, errorText } from "./api.js";
import { showAccount } from "./account.js";
import { Attention } from "./attention.js";
import { h, isTyping, setChildren } from "./dom.js";
import { Fleet } from "./fleet.js";
import { setServerTime } from "./format.js";
import { Labels } from "./label.js";
import { Live } from "./live.js";
import { Marks } from "./marks.js";
import { Partitions } from "./partitions.js";
import { Rights } from "./rights.js";
import { Selection } from "./selection.js";
import * as device from "./view_device.js";
import * as events from "./view_events.js";
import * as fleetView from "./view_fleet.js";
import * as mapView from "./view_map.js";
import * as report from "./view_report.js";
import * as batch from "./view_batch.js";
import * as commands from "./view_commands.js";

const VIEWS = { fleet: fleetView, map: mapView, events, batch, commands, device, report };
const CHORDS = { f: "fleet", m: "map", e: "events", c: "commands", r: "report" };
/** How long the key "g" waits for the second key. */
const CHORD_MS = 1500;

const main = document.getElementById("main");
const connection = document.getElementById("connection");
const notice = document.getElementById("notice");
const memories = {};
let context = null;
let view = null;
let route = { name: "", id: "", query: new URLSearchParams() };

/** The view and the query of a URL. */
function parse(hash) {
  const [path, query = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
  const [, first = "", second = ""] = path.split("/");
  const name = first === "" ? "fleet" : first;
  return {
    name: Object.hasOwn(VIEWS, name) ? name : "none",
    id: safeDecode(second),
    query: new URLSearchParams(query),
  };
}

function safeDecode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

const isFleet = (name) => name === "fleet" || name === "map";

function navigate() {
  const next = parse(location.hash);
  if (view && next.name === route.name && next.id === route.id) {
    if (isFleet(next.name) && next.query.toString() !== context.selection.toQuery())
      context.selection.fromQuery(next.query);
    else if (next.query.toString() !== route.query.toString()) {
      route = next;
      view.chosen?.(next.query);
    }
    return;
  }
  view?.close();
  const first = view === null;
  route = next;
  if (isFleet(next.name) && (first || next.query.size > 0)) context.selection.fromQuery(next.query);
  const memory = (memories[next.name] ??= {});
  view =
    next.name === "none"
      ? missing()
      : VIEWS[next.name].open({ ...context, memory, id: next.id, query: next.query, storeQuery });
  setChildren(main, view.element);
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === next.name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!first) main.querySelector("h1")?.focus({ preventScroll: true });
  window.scrollTo(0, 0);
  storeSelection();
  updateViewLink();
  view.opened?.();
  // A restarted stream fires `open`; a continued one has kept the fleet up to date.
  const restarted = subscribe();
  showTitle();
  if (!restarted && context.live.state === "live") view.connected?.(false);
}

/** Subscribe to what the view needs, and to the fleet for alerts. Returns whether the stream restarts. */
function subscribe() {
  const { alerts, live } = context;
  return live.subscribe(alerts.on ? { ...view.subscription, devices: 1 } : view.subscription);
}

/** Show the title, with the number of locks that need attention where the stream has the fleet. */
function showTitle() {
  const { attention, config, live } = context;
  const count = live.withDevices && attention.count ? `(${attention.count}) ` : "";
  document.title = `${count}${view.title} · ${config.gateway ?? "locks"}`;
}

function missing() {
  const element = h(
    "div",
    { class: "view" },
    h("h1", { tabindex: -1 }, "Nothing here"),
    h("p", {}, "There is no such page. ", h("a", { href: "#/" }, "To the fleet")),
  );
  return { element, title: "Nothing here", subscription: { devices: 1, kind: ["session"] }, close: () => {} };
}

/** Store the selection in the URL, so that it can be shared and survives a reload. */
function storeSelection() {
  if (!isFleet(route.name)) return;
  const query = context.selection.toQuery();
  const path = route.name === "fleet" ? "#/" : `#/${route.name}`;
  const hash = query ? `${path}?${query}` : path;
  if (location.hash !== hash && (location.hash || query)) history.replaceState(null, "", hash);
}

/** Store the query of a view in the URL and in the link to the view. */
function storeQuery(query) {
  route.query = query;
  const [path] = location.hash.split("?");
  const hash = query.size ? `${path}?${query}` : path;
  if (location.hash !== hash) history.replaceState(null, "", hash);
  updateViewLink();
}

/** Let the link to a list keep its last query. */
function updateViewLink() {
  if (!["events", "commands"].includes(route.name)) return;
  const query = route.query.size ? `?${route.query}` : "";
  document.querySelector(`nav a[data-view="${route.name}"]`).hash = `#/${route.name}${query}`;
}

function showConnection() {
  const { live, fleet } = context;
  connection.dataset.state = live.state;
  if (connection.textContent !== live.text) connection.textContent = live.text;
  const text = live.state === "lost" ? live.reason : fleet.error ? errorText(fleet.error) : "";
  notice.hidden = !text;
  if (notice.textContent !== text) notice.textContent = text;
}

let chord = -Infinity;

function shortcut(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
  if (performance.now() - chord < CHORD_MS && Object.hasOwn(CHORDS, event.key)) {
    location.hash = document.querySelector(`nav a[data-view="${CHORDS[event.key]}"]`).hash;
    chord = -Infinity;
  } else if (event.key === "g") {
    chord = performance.now();
    return;
  } else if (event.key === "/") {
    const search = main.querySelector("[data-search]");
    if (!search) return;
    search.focus();
    search.select();
  } else if (event.key === "?") {
    document.getElementById("keys").showModal();
  } else if (event.key === "ArrowDown" && view.enter) {
    view.enter();
  } else if (event.key === "Escape" && route.name === "device") {
    location.hash = "#/";
  } else {
    return;
  }
  event.preventDefault();
}

async function configuration() {
  for (let wait = 1000; ; wait = Math.min(wait * 2, 30000)) {
    try {
      return await Promise.all([get("config"), get("me")]);
    } catch (error) {
      const starting = document.getElementById("starting");
      const text = error instanceof ApiError ? errorText(error) : String(error);
      if (starting) starting.textContent = text;
      connection.dataset.state = "lost";
      connection.textContent = "no answer yet";
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}

async function start() {
  const [config, me] = await configuration();
  setServerTime(config.server_time);
  document.getElementById("gateway").textContent = config.gateway ?? "Locks";
  document.getElementById("brand").title = `jt709c-gateway ${config.version ?? ""}`;
  const live = new Live();
  const rights = new Rights(config, me);
  showAccount(document.getElementById("user"), rights, () => live.close());
  const fleet = new Fleet(live);
  const selection = new Selection();
  const attention = new Attention(fleet, selection, live);
  context = {
    config,
    rights,
    live,
    fleet,
    labels: new Labels(live),
    selection,
    attention,
    alerts: new Alerts(attention, selection, live),
    marks: new Marks(),
    go: (hash) => (location.hash = hash),
  };
  context.selection.addEventListener("change", storeSelection);
  live.addEventListener("state", showConnection);
  live.addEventListener("open", async () => {
    view.connected?.(true);
    if (context.alerts.on && !isFleet(route.name) && !fleet.current) fleet.load();
    // The gateway ends the stream when the rights of its user change.
    if (await rights.changed()) location.reload();
  });
  attention.addEventListener("change", showTitle);
  context.alerts.addEventListener("change", subscribe);
  const partitions = new Partitions(live, document.getElementById("away"));
  partitions.addEventListener("back", () => (view.restart ?? view.connected)?.(true));
  context.fleet.addEventListener("change", showConnection);
  document.addEventListener("keydown", shortcut);
  document.getElementById("skip").addEventListener("click", (event) => {
    // Not followed: the fragment of the URL selects the view.
    event.preventDefault();
    main.focus();
  });
  window.addEventListener("hashchange", navigate);
  navigate();
}

start();

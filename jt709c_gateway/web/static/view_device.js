// The page of one lock: state, track, timeline and frames.

import { apiUrl, get, errorText } from "./api.js";
import { h, throttle, setChildren } from "./dom.js";
import { Frames } from "./frames.js";
import { ago, known, moment, speed, timeElement } from "./format.js";
import { icon, iconOf } from "./icons.js";
import { reasonElements } from "./need_column.js";
import { positionElement } from "./position.js";
import { nameParts } from "./label.js";
import { LabelForm } from "./label_form.js";
import { CommandForm } from "./command_form.js";
import { Timeline } from "./timeline.js";
import { TrackMap } from "./track_map.js";

/** Open the view of the device with this id or IMEI. */
export function open({ config, rights, fleet, live, selection, id }) {
  let device = null;
  let detail = null;
  const heading = h("h1", { tabindex: -1 }, id);
  const state = h("p", { class: "lock-state" });
  const problem = h("p", { class: "problem", hidden: true, role: "alert" });
  const facts = h("dl", { class: "details" });
  const peripherals = h("section", { class: "card", hidden: true });
  const map = new TrackMap(config);
  const frames = new Frames(id);
  const links = documentLinks(id);
  const form = rights.commands ? new CommandForm(id, () => detail, rights) : null;
  const timeline = new Timeline(id, form?.cancelling);
  const naming = config.labels
    ? new LabelForm(
        () => device ?? id,
        () => ({ label: detail?.device.label, groups: fleet.groups }),
        (label) => rename(label),
      )
    : null;
  const element = h(
    "div",
    { class: "view view-device" },
    h("header", { class: "lock-head" }, h("a", { href: "#/", class: "back" }, "← Fleet"), heading, state, naming?.button),
    naming?.form,
    problem,
    h(
      "div",
      { class: "columns" },
      h(
        "div",
        { class: "column" },
        h("section", { class: "card of-heard" }, h("h2", {}, "State"), facts),
        form?.element,
        h("section", { class: "card" }, h("h2", {}, "Timeline"), links.report, timeline.element),
      ),
      h(
        "div",
        { class: "column" },
        h("section", { class: "card of-heard" }, h("h2", {}, "Track"), map.element, links.track),
        peripherals,
        h("section", { class: "card of-heard" }, h("h2", {}, "Frames"), frames.element),
      ),
    ),
  );

  const needs = (summary) => {
    const interval = fleet.rows.get(summary.device)?.interval ?? 0;
    const row = { summary, seen: moment(summary.seen) ?? 0, interval };
    const found = reasonElements(row, selection.silence);
    return found.length ? h("span", { class: "needs" }, " · ", found) : null;
  };
  const draw = () => {
    if (!detail) return;
    const { device: summary, location } = detail;
    setChildren(heading, nameParts(summary.device, summary.label));
    setChildren(
      state,
      icon(iconOf(summary), !summary.online),
      h("strong", {}, summary.lock_state ?? "state unknown"),
      ` · ${summary.online ? "online" : "offline"} · last seen `,
      timeElement(summary.seen, ago),
      needs(summary),
    );
    setChildren(facts, details(summary, location));
    map.position(summary);
    drawPeripherals(peripherals, detail.peripherals);
    form?.offer(summary.device, detail.peripherals);
    form?.refuse(rights.against(summary.label));
  };
  const rename = (label) => {
    if (!detail) return load();
    detail.device.label = label;
    draw();
  };
  const load = async () => {
    try {
      detail = await get(`devices/${encodeURIComponent(id)}`);
      const before = device;
      device = detail.device.device;
      problem.hidden = true;
      element.classList.remove("unheard");
      draw();
      if (before === null && device !== id) reroute();
    } catch (error) {
      problem.hidden = false;
      // It may have waiting commands and a history.
      element.classList.toggle("unheard", error.status === 404);
      problem.textContent =
        error.status === 404
          ? `No lock ${id} is known here. It may never have reported, or its state was deleted.`
          : errorText(error);
    }
  };
  // Opened by IMEI: use the device id from here on, so that live events match.
  const reroute = () => location.replace(`#/device/${encodeURIComponent(device)}`);
  const reload = throttle(load, 1000);
  const loadAll = () => Promise.all([load(), timeline.load(), frames.load(), map.load(id), form?.load()]);
  const catchUp = throttle(loadAll, 10000);
  const onEvent = (event) => {
    const { detail: found } = event;
    if (found.device !== (device ?? id)) return;
    timeline.add(found);
    frames.add(found);
    form?.handleEvent(found);
    if (found.kind === "location" && found.data) map.add(found);
    reload();
  };
  const onLabels = (event) => {
    for (const one of event.detail.labels) if (one.device === device) rename(one.label);
  };
  live.addEventListener("event", onEvent);
  live.addEventListener("labels", onLabels);
  live.addEventListener("skipped", catchUp);
  const tick = setInterval(draw, 5000);
  return {
    element,
    title: id,
    subscription: { device: id },
    opened: () => map.start(),
    connected: loadAll,
    close: () => {
      clearInterval(tick);
      reload.stop();
      catchUp.stop();
      live.removeEventListener("skipped", catchUp);
      form?.close();
      timeline.close();
      frames.close();
      map.close();
      live.removeEventListener("event", onEvent);
      live.removeEventListener("labels", onLabels);
    },
  };
}

/** Links to the report of a lock, and to its track as a file. */
function documentLinks(id) {
  const name = encodeURIComponent(id);
  // All positions that are kept.
  const file = (format) => apiUrl(`devices/${name}/track`, { format, limit: 10000 }).href;
  const track = ["GPX", "GeoJSON"].map((text) => [
    " ",
    h("a", { href: file(text.toLowerCase()), download: "" }, text),
  ]);
  return {
    report: h("p", { class: "documents" }, h("a", { href: `#/report?device=${name}&period=week` }, "Seal report")),
    track: h("p", { class: "documents" }, "Track as a file:", track),
  };
}

function details(summary, location) {
  const where = positionElement(summary.latitude, summary.longitude);
  const at = location ?? {};
  const { group, plate, note } = summary.label ?? {};
  const rows = [
    ...[
      ["Group", group],
      ["Plate", plate],
      ["Note", note],
    ].filter(([, value]) => value),
    ["IMEI", known(summary.imei)],
    ["Dialect, firmware", [summary.dialect, summary.firmware].filter(Boolean).join(", ") || "—"],
    [
      "Connected",
      summary.online
        ? [`${summary.gateway} · ${summary.transport} · ${summary.peer} · since `, timeElement(summary.since)]
        : "no",
    ],
    [
      "Battery",
      [
        known(summary.battery_percent, " %"),
        at.battery_volts ? `, ${at.battery_volts} V` : "",
        summary.charging ? ", charging" : "",
      ],
    ],
    [
      "Signal",
      [known(summary.gsm_signal), typeof at.satellites === "number" ? `, ${at.satellites} satellites` : ""],
    ],
    ["Rope", yes(summary.rope_open, "open", "closed")],
    ["Back cover", yes(at.back_cover_open, "open", "closed")],
    [
      "Position",
      where
        ? [
            where,
            summary.fix && summary.fix !== "gnss" ? ` (${summary.fix === "lbs" ? "by cell" : "no fix"})` : "",
          ]
        : "—",
    ],
    ["Position taken", position(summary.position_time)],
    [
      "Moving",
      typeof summary.speed_kmh === "number"
        ? `${speed(summary.speed_kmh)} towards ${known(summary.course_deg, "°")}`
        : "—",
    ],
    ["Odometer", known(at.odometer_km, " km")],
    ["Woken by", known(at.wake_reason)],
  ];
  return rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)));
}

function position(value) {
  return moment(value) ? [timeElement(value), `, ${ago(moment(value))}`] : "—";
}

function yes(value, positive, negative) {
  return value === null || value === undefined ? "—" : value ? positive : negative;
}

function drawPeripherals(section, list) {
  section.hidden = !list?.length;
  if (section.hidden) return;
  const head = h(
    "tr",
    {},
    ["Sub-lock or sensor", "Type", "Lock", "Battery", "Last seen"].map((text) =>
      h("th", { scope: "col" }, text),
    ),
  );
  const rows = list.map((one) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, one.peripheral),
      h("td", {}, known(one.type)),
      h("td", {}, known(one.lock_state)),
      h("td", {}, known(one.battery_percent, " %")),
      h("td", {}, timeElement(one.seen, ago)),
    ),
  );
  setChildren(
    section,
    h("h2", {}, "Sub-locks and sensors"),
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Sub-locks and sensors" },
      h("table", { class: "plain" }, h("thead", {}, head), h("tbody", {}, rows)),
    ),
  );
}

// A small map with the track and the position of a lock.

import { get } from "./api.js";
import { clusterLayer } from "./cluster_layer.js";
import { h, setChildren } from "./dom.js";
import { dated, known, moment, place, speed } from "./format.js";
import { leaflet, makeMap, removeMap } from "./leaflet.js";

const CLOSE_ZOOM = 15;
/** Maximum positions, while the number that is kept is unknown. */
const DEFAULT_CAPACITY = 300;

/** The map; `start()` makes it, `load(id)` loads the track, `position` and `add` update it. */
export class TrackMap {
  #points = [];
  #capacity = DEFAULT_CAPACITY;
  #summary = null;
  #map = null;
  #parts = null;
  #touched = false;
  /** The number of positions that the map was last fitted to. */
  #shown = -1;
  #closed = false;

  constructor(config) {
    this.config = config;
    this.place = h("div", { class: "map map-small", role: "region", "aria-label": "Map of the track" });
    this.caption = h("p", { class: "hint" });
    this.element = h("div", {}, h("div", { class: "map-frame" }, this.place), this.caption);
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.recolour = () => {
      this.#parts?.here.recolour();
      this.#map?.fire("recolour");
      this.#draw();
    };
  }

  /** Make the map. */
  async start() {
    const L = await leaflet();
    if (this.#closed) return;
    if (!L) {
      setChildren(
        this.place,
        h(
          "p",
          { class: "empty" },
          "There is no map: the map library is not installed with this gateway.",
        ),
      );
      return;
    }
    const map = await makeMap(L, this.place, this.config, { scrollWheelZoom: false });
    if (this.#closed) return removeMap(map);
    this.#map = map;
    this.#parts = { L, track: L.layerGroup().addTo(map), here: clusterLayer(L, { buttons: false }).addTo(map) };
    this.dark.addEventListener("change", this.recolour);
    for (const type of ["pointerdown", "wheel", "keydown"]) {
      this.place.addEventListener(type, () => (this.#touched = true), { passive: true });
    }
    this.#draw();
  }

  /** Load the track. */
  async load(id) {
    try {
      const { points, capacity } = await get(`devices/${encodeURIComponent(id)}/track`);
      this.#points = points;
      this.#capacity = capacity || DEFAULT_CAPACITY;
    } catch {
      // The page shows the error of the lock; the map stays, without a track.
      this.#points = [];
    }
    this.#draw();
  }

  /** Show the position of a summary. */
  position(summary) {
    const moved =
      summary.position_time !== this.#summary?.position_time || summary.online !== this.#summary?.online;
    this.#summary = summary;
    if (moved) this.#draw();
  }

  /** Add the position of a live event. */
  add({ data }) {
    if (
      data.fix === "none" ||
      typeof data.latitude !== "number" ||
      typeof data.longitude !== "number" ||
      !data.time
    )
      return;
    const { time, latitude, longitude, speed_kmh, course_deg } = data;
    if (this.#points.some((point) => point.time === time)) return;
    this.#points.push({ time, latitude, longitude, speed_kmh, course_deg });
    this.#points.sort((a, b) => moment(a.time) - moment(b.time));
    if (this.#points.length > this.#capacity) this.#points.shift();
    this.#draw();
  }

  #draw() {
    const points = this.#points;
    const last = points.at(-1);
    const first = points[0];
    this.caption.textContent = points.length
      ? `${points.length} position${points.length === 1 ? "" : "s"}, from ${dated(moment(first.time))} to ${dated(moment(last.time))}`
      : "No track is kept of this lock.";
    if (!this.#parts) return;
    const { L, track, here } = this.#parts;
    const colour = getComputedStyle(document.documentElement).getPropertyValue("--track").trim();
    track.clearLayers();
    const line = unwrapped(points);
    L.polyline(line, { color: colour, weight: 3, opacity: 0.75, interactive: false }).addTo(track);
    points.forEach((point, at) => {
      const dot = L.circleMarker(line[at], {
        radius: 3,
        color: colour,
        weight: 1,
        fillOpacity: 0.9,
      });
      dot.bindTooltip(() => tooltip(point)).addTo(track);
    });
    const summary = this.#summary;
    here.setRows(summary ? [{ id: summary.device, summary }] : []);
    this.#fit(L, line);
  }

  /** Fit the map to all positions, unless the user has moved it. */
  #fit(L, line) {
    const { latitude, longitude } = this.#summary ?? {};
    const here =
      typeof latitude === "number" && typeof longitude === "number"
        ? [[latitude, nearTo(longitude, line.at(-1)?.[1])]]
        : [];
    const all = [...line, ...here];
    if (this.#touched || all.length === 0) return;
    const wanted = L.latLngBounds(all);
    if (this.#shown === line.length && this.#map.getBounds().contains(wanted)) return;
    this.#shown = line.length;
    this.#map.fitBounds(wanted.pad(0.15), { maxZoom: CLOSE_ZOOM, animate: false });
  }

  /** Remove the map. */
  close() {
    this.#closed = true;
    this.dark.removeEventListener("change", this.recolour);
    if (this.#map) removeMap(this.#map);
    this.#map = this.#parts = null;
  }
}

/** A longitude that is the short way round the world from another one; it may be beyond 180 degrees. */
function nearTo(longitude, other = longitude) {
  return longitude + 360 * Math.round((other - longitude) / 360);
}

/** The line of positions, which goes on across the antimeridian. */
export function unwrapped(points) {
  const line = [];
  for (const { latitude, longitude } of points) line.push([latitude, nearTo(longitude, line.at(-1)?.[1])]);
  return line;
}

function tooltip(point) {
  const lines = [
    dated(moment(point.time)),
    place(point.latitude, point.longitude),
    `${speed(point.speed_kmh) ?? "—"}, ${known(point.course_deg, "°")}`,
  ];
  return h(
    "div",
    {},
    lines.map((line) => h("div", {}, line)),
  );
}

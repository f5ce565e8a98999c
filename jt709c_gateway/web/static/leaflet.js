// The map library, fetched when a map is first shown, and a map as this page wants it.

import { h, show } from "./dom.js";

const TILE_EDGE = 85;

let styled = null;

/** Leaflet; null when it can't be had. */
export async function leaflet() {
  try {
    // It is no module; run as one it still leaves its name behind.
    await Promise.all([import("./leaflet/leaflet.js"), (styled ??= styleSheet("leaflet/leaflet.css"))]);
    return globalThis.L;
  } catch {
    styled = null;
    return null;
  }
}

/** Put a style sheet before the page's own, which have the last word. */
function styleSheet(path) {
  return new Promise((resolve, reject) => {
    const link = h("link", {
      rel: "stylesheet",
      href: new URL(path, import.meta.url).href,
      on: { load: resolve, error: reject },
    });
    document.head.prepend(link);
  });
}

/** The configured text, which may be HTML as map services give it: its words and its links, and nothing else. */
function attribution(html) {
  const parts = [...new DOMParser().parseFromString(html, "text/html").body.childNodes];
  return parts.map((part) => {
    const href = part instanceof HTMLAnchorElement ? (part.getAttribute("href") ?? "") : "";
    return /^https?:/.test(href) ? h("a", { href, rel: "noopener" }, part.textContent) : part.textContent;
  });
}

/**
 * A map in `element` with the tiles of `config`, or with a graticule where there are none or they don't come.
 * Leaflet's own attribution control puts markup into the page; this page doesn't.
 */
export async function makeMap(L, element, config, options = {}) {
  const { graticule } = await import("./graticule.js");
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const map = L.map(element, {
    attributionControl: false,
    zoomControl: true,
    preferCanvas: true,
    minZoom: 1,
    maxZoom: config.tiles.max_zoom ?? 19,
    maxBounds: [
      [-TILE_EDGE, -200],
      [TILE_EDGE, 200],
    ],
    zoomAnimation: !still,
    fadeAnimation: !still,
    inertia: !still,
    ...options,
  });
  map.setView([20, 0], 2);
  L.control.scale({ imperial: false }).addTo(map);
  const lines = graticule(L);
  lines.addTo(map);
  if (config.tiles.url) addTiles(L, map, config.tiles, lines);
  // Leaflet looks after the window's size only.
  const size = new ResizeObserver(() => map.invalidateSize({ animate: false }));
  size.observe(element);
  map.on("unload", () => size.disconnect());
  return map;
}

/**
 * Take a map down, after the next frame: Leaflet's canvas can have one left to draw that it no longer knows of, since
 * a redraw at once forgets the frame that was asked for before, and it would be drawn on a canvas that is gone.
 */
export function takeDown(map) {
  requestAnimationFrame(() => map.remove());
}

function addTiles(L, map, tiles, lines) {
  const layer = L.tileLayer(tiles.url, { maxZoom: tiles.max_zoom ?? 19, referrerPolicy: "strict-origin" });
  const note = L.control({ position: "bottomright" });
  const text = h("div", { class: "map-note" }, attribution(tiles.attribution ?? ""));
  note.onAdd = () => text;
  note.addTo(map);
  let came = 0;
  layer.on("loading", () => {
    came = 0;
  });
  layer.on("tileload", () => {
    came += 1;
    if (map.hasLayer(lines)) lines.remove();
    show(text, attribution(tiles.attribution ?? ""));
  });
  layer.on("tileerror", () => {
    if (came > 0) return;
    if (!map.hasLayer(lines)) lines.addTo(map);
    text.textContent = "The map's tiles don't come; positions are on a plain grid.";
  });
  layer.addTo(map);
}

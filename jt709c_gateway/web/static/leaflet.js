// Loads the map library when a map is first shown, and makes maps.

import { h, setChildren } from "./dom.js";

const TILE_EDGE = 85;

let styled = null;

/** Load Leaflet; null if it can't be loaded. */
export async function leaflet() {
  try {
    // It is no module, but sets its global name when it is imported as one.
    await Promise.all([import("./leaflet/leaflet.js"), (styled ??= styleSheet("leaflet/leaflet.css"))]);
    return globalThis.L;
  } catch {
    styled = null;
    return null;
  }
}

/** Insert a style sheet before those of the page, which override it. */
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

/** The text and the links of the configured attribution, which may be HTML. */
function attribution(html) {
  const parts = [...new DOMParser().parseFromString(html, "text/html").body.childNodes];
  return parts.map((part) => {
    const href = part instanceof HTMLAnchorElement ? (part.getAttribute("href") ?? "") : "";
    return /^https?:/.test(href) ? h("a", { href, rel: "noopener" }, part.textContent) : part.textContent;
  });
}

/**
 * Make a map in `element` with the tiles of `config`; without tiles, with outlines of countries and a graticule.
 * Leaflet's attribution control is not used, since it inserts markup.
 */
export async function makeMap(L, element, config, options = {}) {
  const [{ graticule }, { outlineLayer }] = await Promise.all([
    import("./graticule.js"),
    import("./outlines.js"),
  ]);
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const map = L.map(element, {
    attributionControl: false,
    zoomControl: true,
    preferCanvas: true,
    minZoom: 1,
    maxZoom: config.tiles.max_zoom ?? 19,
    maxBounds: [
      [-TILE_EDGE, -360],
      [TILE_EDGE, 360],
    ],
    zoomAnimation: !still,
    fadeAnimation: !still,
    inertia: !still,
    ...options,
  });
  map.setView([20, 0], 2);
  L.control.scale({ imperial: false }).addTo(map);
  const plain = L.layerGroup([graticule(L)]).addTo(map);
  const land = outlineLayer(L);
  if (config.tiles.url) addTiles(L, map, config.tiles, plain, land);
  else land.addTo(plain);
  // Leaflet only observes the size of the window.
  const size = new ResizeObserver(() => map.invalidateSize({ animate: false }));
  size.observe(element);
  map.on("unload", () => size.disconnect());
  return map;
}

/**
 * Remove a map, after the next frame: Leaflet may have a frame requested that it can't cancel, and would draw it on a
 * canvas that is gone.
 */
export function removeMap(map) {
  requestAnimationFrame(() => map.remove());
}

/** Add tiles; while none can be loaded, `plain` is shown instead, with `land`. */
function addTiles(L, map, tiles, plain, land) {
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
    if (map.hasLayer(plain)) plain.remove();
    setChildren(text, attribution(tiles.attribution ?? ""));
  });
  layer.on("tileerror", () => {
    if (came > 0) return;
    if (!plain.hasLayer(land)) plain.addLayer(land);
    if (!map.hasLayer(plain)) plain.addTo(map);
    text.textContent = "The map tiles can't be loaded; positions are shown on outlines of countries.";
  });
  layer.addTo(map);
}

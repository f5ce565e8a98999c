// A map layer that draws the icons of many locks on one canvas, and finds the lock at a point.

import { iconOf, sprites } from "./icons.js";

/** Maximum distance of the pointer, pixels. */
const MAX_DISTANCE = 12;
/** The drawing order; later icons are on top. */
const ORDER = { unknown: 0, locked: 1, unlocked: 2, alarm: 3 };

/** The scale of icons, smaller if there are many. */
function iconScale(count) {
  return count > 3000 ? 0.6 : count > 800 ? 0.8 : 1;
}

/** A layer of Leaflet; `rows` are those of the fleet, `at(point)` finds the row at a point of the map's element. */
export function markerLayer(L) {
  const Markers = L.Layer.extend({
    initialize() {
      this._rows = [];
      this._drawn = [];
    },

    onAdd(map) {
      this._canvas = L.DomUtil.create("canvas", "points leaflet-zoom-hide", map.getPane("markerPane"));
      this._canvas.setAttribute("aria-hidden", "true");
      this.recolour();
    },

    onRemove() {
      this._canvas.remove();
    },

    getEvents() {
      return { moveend: this._draw, resize: this._draw, viewreset: this._draw };
    },

    setRows(rows) {
      this._rows = rows
        .filter(
          ({ summary }) => typeof summary.latitude === "number" && typeof summary.longitude === "number",
        )
        .map((row) => ({ row, name: iconOf(row.summary) }))
        .sort((a, b) => ORDER[a.name] - ORDER[b.name]);
      this._draw();
    },

    recolour() {
      this._sprites = sprites(window.devicePixelRatio || 1);
      this._draw();
    },

    bounds() {
      return this._rows.length
        ? L.latLngBounds(this._rows.map(({ row }) => [row.summary.latitude, row.summary.longitude]))
        : null;
    },

    inView() {
      return this._drawn.map((one) => one.row);
    },

    at({ x, y }) {
      let best = null;
      let nearest = MAX_DISTANCE * MAX_DISTANCE;
      for (const one of this._drawn) {
        const distance = (one.x - x) ** 2 + (one.y - y) ** 2;
        if (distance <= nearest) [best, nearest] = [one.row, distance];
      }
      return best;
    },

    // With a margin, so that dragging the map shows no empty strip.
    _draw() {
      const map = this._map;
      if (!map) return;
      const size = map.getSize();
      const margin = Math.round(Math.min(size.x, size.y) / 3);
      const scale = window.devicePixelRatio || 1;
      const { _canvas: canvas, _sprites: pictures } = this;
      const corner = map.containerPointToLayerPoint([-margin, -margin]);
      const [width, height] = [size.x + 2 * margin, size.y + 2 * margin];
      L.DomUtil.setPosition(canvas, corner);
      canvas.width = width * scale;
      canvas.height = height * scale;
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
      const context = canvas.getContext("2d");
      context.scale(scale, scale);
      const near = [];
      for (const { row, name } of this._rows) {
        const { x, y } = map.latLngToContainerPoint([row.summary.latitude, row.summary.longitude]);
        if (x >= -margin && y >= -margin && x <= size.x + margin && y <= size.y + margin)
          near.push({ row, name, x, y });
      }
      const across = pictures.size * iconScale(near.length);
      for (const { row, name, x, y } of near) {
        const [left, top] = [x + margin - across / 2, y + margin - across / 2];
        context.drawImage(pictures.get(name, !row.summary.online), left, top, across, across);
      }
      this._drawn = near.filter(({ x, y }) => x >= 0 && y >= 0 && x <= size.x && y <= size.y);
      canvas.dataset.points = String(this._drawn.length);
      this.fire("drawn");
    },
  });
  return new Markers();
}

// A map layer with one canvas over the visible part and a margin, so that dragging the map shows no empty strip.

/** Pixels of the world at zoom 0, as Leaflet has it. */
export const WORLD = 256;
const MAX_LATITUDE = 85.0511287798;

/** A longitude on a map whose width is 1. */
export const mapX = (longitude) => longitude / 360 + 0.5;

/** A latitude on a map whose height is 1, from the top (Mercator); the poles are on its edges. */
export function mapY(latitude) {
  const within = Math.max(-MAX_LATITUDE, Math.min(MAX_LATITUDE, latitude));
  return 0.5 - Math.atanh(Math.sin((within * Math.PI) / 180)) / (2 * Math.PI);
}

/**
 * The class of such layers. A subclass has `paint(context, frame)`: `frame` has `zoom`, the pixels across the world at
 * it, `world`, the pixel of the world at the canvas' corner, `left` and `top`, its `width`, `height` and `margin`. The
 * options `pane` and `name` are its place and its class; with `follows` it is scaled during a zoom, otherwise hidden.
 */
export function canvasLayer(L) {
  return L.Layer.extend({
    options: { pane: "markerPane", name: "points", follows: false },

    initialize(options) {
      L.setOptions(this, options);
    },

    onAdd(map) {
      const { pane, name, follows } = this.options;
      const kind = follows ? "leaflet-zoom-animated" : "leaflet-zoom-hide";
      this._canvas = L.DomUtil.create("canvas", `${name} ${kind}`, map.getPane(pane));
      this._canvas.setAttribute("aria-hidden", "true");
      this.redraw();
    },

    onRemove() {
      this._canvas.remove();
    },

    getEvents() {
      const events = { moveend: this.redraw, resize: this.redraw, recolour: this.redraw, zoom: this._zoomed };
      return this.options.follows ? { ...events, zoomanim: this._scale } : events;
    },

    redraw() {
      const map = this._map;
      if (!map || this._canvas.parentNode === null) return;
      const size = map.getSize();
      const margin = Math.round(Math.min(size.x, size.y) / 3);
      const scale = window.devicePixelRatio || 1;
      const { x, y } = map.getPixelBounds().min;
      const zoom = map.getZoom();
      this._frame = {
        zoom,
        world: WORLD * 2 ** zoom,
        left: x - margin,
        top: y - margin,
        width: size.x + 2 * margin,
        height: size.y + 2 * margin,
        margin,
      };
      const { width, height } = this._frame;
      const canvas = this._canvas;
      L.DomUtil.setPosition(canvas, map.containerPointToLayerPoint([-margin, -margin]));
      canvas.width = width * scale;
      canvas.height = height * scale;
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
      const context = canvas.getContext("2d");
      context.scale(scale, scale);
      this.paint(context, this._frame);
    },

    _zoomed() {
      this._scale({ center: this._map.getCenter(), zoom: this._map.getZoom() });
    },

    // What is drawn is moved and scaled, until it is drawn again.
    _scale({ center, zoom }) {
      const map = this._map;
      const scale = map.getZoomScale(zoom, this._frame.zoom);
      const pane = L.DomUtil.getPosition(map.getPane("mapPane"));
      const origin = map.project(center, zoom).subtract(map.getSize().divideBy(2)).add(pane).round();
      const corner = L.point(this._frame.left, this._frame.top).multiplyBy(scale);
      L.DomUtil.setTransform(this._canvas, corner.subtract(origin), scale);
    },
  });
}

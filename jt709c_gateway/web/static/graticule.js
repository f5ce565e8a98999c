// Lines of latitude and longitude with their degrees, where there are no tiles.

/** Possible distances of lines in degrees. */
const STEPS = [45, 30, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005];
/** The minimum distance of lines in pixels. */
const MIN_DISTANCE = 90;
const MAX_LATITUDE = 85;

/** The distance of lines, for a number of degrees in a number of pixels. */
export function stepFor(degrees, pixels) {
  const fit = (step) => (step / degrees) * pixels >= MIN_DISTANCE;
  return STEPS.findLast(fit) ?? STEPS[0];
}

/** A label such as "57.605°W", with the decimals of the step. */
export function label(value, step, positive, negative) {
  const decimals = (String(step).split(".")[1] ?? "").length;
  const half = Math.abs(value) < step / 2 ? "" : value < 0 ? negative : positive;
  return `${Math.abs(value).toFixed(decimals)}°${half}`;
}

/** A longitude from -180 to 180. */
export function wrapped(longitude) {
  return longitude - 360 * Math.round(longitude / 360);
}

/** The multiples of `step` from `low` to `high`. */
export function multiples(low, high, step) {
  const found = [];
  for (let n = Math.ceil(low / step); n * step <= high; n += 1) found.push(n * step);
  return found;
}

/** A layer of Leaflet that draws the graticule. */
export function graticule(L) {
  const Graticule = L.Layer.extend({
    onAdd(map) {
      this._canvas = L.DomUtil.create("canvas", "graticule leaflet-zoom-hide", map.getPane("tilePane"));
      this._canvas.setAttribute("aria-hidden", "true");
      this._draw();
    },

    onRemove() {
      this._canvas.remove();
    },

    getEvents() {
      return { moveend: this._draw, move: this._draw, resize: this._draw, recolour: this._draw };
    },

    _draw() {
      const map = this._map;
      const size = map.getSize();
      const scale = window.devicePixelRatio || 1;
      const canvas = this._canvas;
      L.DomUtil.setPosition(canvas, map.containerPointToLayerPoint([0, 0]));
      canvas.width = size.x * scale;
      canvas.height = size.y * scale;
      canvas.style.width = `${size.x}px`;
      canvas.style.height = `${size.y}px`;
      const context = canvas.getContext("2d");
      context.scale(scale, scale);
      draw(L, map, context, size);
      canvas.dataset.step = String((this._step = steps(map, size).longitude));
    },
  });
  return new Graticule();
}

function steps(map, size) {
  const bounds = map.getBounds();
  const longitude = stepFor(Math.max(1e-6, bounds.getEast() - bounds.getWest()), size.x || 1);
  return { bounds, longitude, latitude: longitude };
}

function draw(L, map, context, size) {
  const { bounds, longitude: step } = steps(map, size);
  const style = getComputedStyle(document.documentElement);
  const line = style.getPropertyValue("--grid-line").trim();
  const strong = style.getPropertyValue("--grid-line-strong").trim();
  const ink = style.getPropertyValue("--ink-soft").trim();
  const paper = style.getPropertyValue("--map-paper").trim();
  const south = Math.max(-MAX_LATITUDE, bounds.getSouth());
  const north = Math.min(MAX_LATITUDE, bounds.getNorth());
  const west = bounds.getWest();
  const east = bounds.getEast();
  const point = (latitude, longitude) => map.latLngToContainerPoint([latitude, longitude]);
  const top = Math.max(0, point(north, west).y);
  const bottom = Math.min(size.y, point(south, west).y);
  const stroke = (value, from, to) => {
    context.strokeStyle = Math.abs(value) < step / 2 ? strong : line;
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(...to);
    context.stroke();
  };
  const write = (text, x, y) => {
    context.strokeStyle = paper;
    context.lineWidth = 3;
    context.strokeText(text, x, y);
    context.lineWidth = 1;
    context.fillStyle = ink;
    context.fillText(text, x, y);
  };
  context.lineWidth = 1;
  context.font = "11px system-ui, sans-serif";
  const across = multiples(west, east, step);
  const up = multiples(south, north, step);
  for (const value of across) {
    const x = Math.round(point(0, value).x) + 0.5;
    stroke(value, [x, top], [x, bottom]);
  }
  for (const value of up) {
    const y = Math.round(point(value, 0).y) + 0.5;
    stroke(value, [0, y], [size.x, y]);
  }
  context.textAlign = "center";
  context.textBaseline = "top";
  for (const value of across) write(label(wrapped(value), step, "E", "W"), point(0, value).x, Math.max(4, top + 4));
  context.textAlign = "right";
  context.textBaseline = "middle";
  let last = Infinity;
  for (const value of up) {
    const { y } = point(value, 0);
    // The distance of the lines varies with the latitude; labels must not overlap.
    if (y < 24 || y > size.y - 8 || last - y < 16) continue;
    last = y;
    write(label(value, step, "N", "S"), size.x - 6, y);
  }
}

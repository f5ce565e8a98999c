// Coasts, borders and names of countries (Natural Earth), drawn where there are no tiles.

import { canvasLayer, mapX, mapY } from "./canvas_layer.js";

/** Pixels between points of a line, at least. */
const DETAIL = 0.7;
/** Pixels around the canvas to which land is cut, so that its cut edges are not seen. */
const BEYOND = 8;
const NAME_FONT = "12px system-ui, sans-serif";
const NAME_HEIGHT = 14;

let loading = null;

/** Load the outlines, once: `{land, borders, names}`, or null if they can't be loaded. */
export async function outlines() {
  loading ??= fetch(new URL("outlines.json", import.meta.url)).then(async (answer) => {
    if (!answer.ok) throw new Error(answer.statusText);
    return decoded(await answer.json());
  });
  try {
    return await loading;
  } catch {
    loading = null;
    return null;
  }
}

/** The outlines of a file (docs/make_outlines.py) on a map whose width and height are 1. */
export function decoded(file) {
  const line = (text) => decodedLine(text, file.scale);
  return {
    land: file.land.map(line),
    borders: file.borders.map(line),
    names: file.names.map(([text, longitude, latitude, zoom]) => ({
      text,
      x: mapX(longitude),
      y: mapY(latitude),
      zoom,
    })),
  };
}

/** A line: its points `[x, y, x, y, …]`, and the box around it. */
export function decodedLine(text, scale) {
  let at = 0;
  const number = () => {
    let value = 0;
    for (let shift = 0; ; shift += 5) {
      const part = text.charCodeAt(at++) - 63;
      value |= (part & 31) << shift;
      if (part < 32) return value & 1 ? ~(value >> 1) : value >> 1;
    }
  };
  const points = [];
  let [longitude, latitude] = [0, 0];
  while (at < text.length) {
    longitude += number();
    latitude += number();
    points.push(mapX(longitude / scale), mapY(latitude / scale));
  }
  let [west, north, east, south] = [Infinity, Infinity, -Infinity, -Infinity];
  for (let one = 0; one < points.length; one += 2) {
    west = Math.min(west, points[one]);
    east = Math.max(east, points[one]);
    north = Math.min(north, points[one + 1]);
    south = Math.max(south, points[one + 1]);
  }
  return { points: Float32Array.from(points), box: [west, north, east, south] };
}

/** Cut a ring, `[x, y, x, y, …]`, to a box (Sutherland and Hodgman). */
export function cutRing(ring, [west, north, east, south]) {
  const edges = [
    [0, west, 1],
    [0, east, -1],
    [1, north, 1],
    [1, south, -1],
  ];
  return edges.reduce((points, [axis, edge, sign]) => {
    const cut = [];
    let before = [points.at(-2), points.at(-1)];
    for (let at = 0; at < points.length; at += 2) {
      const point = [points[at], points[at + 1]];
      const [was, is] = [sign * (before[axis] - edge), sign * (point[axis] - edge)];
      if (was >= 0 !== is >= 0) {
        const part = was / (was - is);
        cut.push(before[0] + part * (point[0] - before[0]), before[1] + part * (point[1] - before[1]));
      }
      if (is >= 0) cut.push(...point);
      before = point;
    }
    return cut;
  }, ring);
}

/** A layer of Leaflet with the outlines, which are loaded when it is added; names are above other lines. */
export function outlineLayer(L) {
  const Part = canvasLayer(L).extend({
    paint(context, frame) {
      if (this._outlines) this.options.draw(context, this._outlines, frame);
    },

    show(found) {
      this._outlines = found;
      this.redraw();
      this._canvas.dataset.loaded = String(found !== null);
    },
  });
  const part = (name, draw) => new Part({ pane: "tilePane", name, follows: true, draw });
  const parts = [part("outlines", drawLand), part("names", drawNames)];
  const layer = L.layerGroup(parts);
  layer.on("add", async () => {
    const found = await outlines();
    for (const one of parts) one.show(found);
  });
  return layer;
}

const colours = () => {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(name).trim();
};

function drawLand(context, { land, borders }, frame) {
  const colour = colours();
  const ground = new Path2D();
  const coast = new Path2D();
  const lines = new Path2D();
  for (const copy of copies(frame)) {
    for (const one of inFrame(land, frame, copy)) {
      const line = placed(one, frame, copy);
      fillPath(ground, line, frame);
      linePath(coast, line, frame);
    }
    for (const one of inFrame(borders, frame, copy)) linePath(lines, placed(one, frame, copy), frame);
  }
  context.fillStyle = colour("--map-land");
  context.fill(ground, "evenodd");
  context.lineJoin = "round";
  context.strokeStyle = colour("--map-border");
  context.stroke(lines);
  context.strokeStyle = colour("--map-coast");
  context.stroke(coast);
}

/** The numbers of the copies of the world that are in the frame, side by side; 0 is that around longitude 0. */
function copies({ left, width, world }) {
  // One more to the west, since lines go on beyond 180 degrees.
  const found = [];
  for (let copy = Math.floor(left / world) - 1; copy * world < left + width; copy += 1) found.push(copy);
  return found;
}

/** The lines that may be seen: not those that are beyond the frame, or smaller than a pixel. */
function inFrame(lines, { left, top, width, height, world }, copy) {
  const [x, y] = [left / world - copy, top / world];
  return lines.filter(
    ({ box: [west, north, east, south] }) =>
      Math.max(east - west, south - north) * world >= DETAIL &&
      west <= x + width / world &&
      east >= x &&
      north <= y + height / world &&
      south >= y,
  );
}

/** The points of a line without those that are too close to others in a world of so many pixels. */
function thinned(line, world) {
  if (line.world !== world) {
    const least = DETAIL / world;
    const { points } = line;
    const kept = [];
    const end = points.length - 2;
    for (let at = 0; at <= end; at += 2) {
      const [x, y] = [points[at], points[at + 1]];
      if (at > 0 && at < end && Math.abs(x - kept.at(-2)) < least && Math.abs(y - kept.at(-1)) < least) continue;
      kept.push(x, y);
    }
    line.thin = Float32Array.from(kept);
    line.world = world;
  }
  return line.thin;
}

/** A line in pixels of the canvas. */
function placed(line, { left, top, world }, copy) {
  const points = thinned(line, world);
  const found = new Array(points.length);
  for (let at = 0; at < points.length; at += 2) {
    found[at] = (points[at] + copy) * world - left;
    found[at + 1] = points[at + 1] * world - top;
  }
  return found;
}

/** Whether a line is within a box; it is not if it only crosses it. */
function isWithin(line, [west, north, east, south]) {
  for (let at = 0; at < line.length; at += 2)
    if (line[at] < west || line[at] > east || line[at + 1] < north || line[at + 1] > south) return false;
  return true;
}

function fillPath(path, line, { width, height, top, world }) {
  let ring = line;
  // The ring around the south pole is closed along the edge of the map.
  if (Math.abs(ring.at(-2) - ring[0]) > world / 2) {
    ring = [...line, line.at(-2), world - top, line[0], world - top];
  }
  const box = [-BEYOND, -BEYOND, width + BEYOND, height + BEYOND];
  const cut = isWithin(ring, box) ? ring : cutRing(ring, box);
  for (let at = 0; at < cut.length; at += 2) {
    if (at === 0) path.moveTo(cut[0], cut[1]);
    else path.lineTo(cut[at], cut[at + 1]);
  }
  path.closePath();
}

/** Add the parts of a line that may be seen: not those with both ends beyond the same side. */
function linePath(path, line, { width, height }) {
  let [fromX, fromY] = line;
  let joined = false;
  for (let at = 2; at < line.length; at += 2) {
    const [x, y] = [line[at], line[at + 1]];
    const unseen =
      Math.max(fromX, x) < 0 ||
      Math.min(fromX, x) > width ||
      Math.max(fromY, y) < 0 ||
      Math.min(fromY, y) > height;
    if (!unseen) {
      if (!joined) path.moveTo(fromX, fromY);
      path.lineTo(x, y);
    }
    joined = !unseen;
    [fromX, fromY] = [x, y];
  }
}

function drawNames(context, { names }, frame) {
  const colour = colours();
  const { zoom, left, top, width, height, world } = frame;
  context.font = NAME_FONT;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineWidth = 3;
  context.fillStyle = colour("--ink-soft");
  context.strokeStyle = colour("--map-land");
  const taken = [];
  for (const copy of copies(frame)) {
    for (const { text, x, y, zoom: from } of names) {
      if (from > zoom) break;
      const [across, down] = [(x + copy) * world - left, y * world - top];
      if (across < 0 || across > width || down < 0 || down > height) continue;
      const half = context.measureText(text).width / 2;
      const box = [across - half, across + half, down];
      if (taken.some((one) => box[0] < one[1] && box[1] > one[0] && Math.abs(down - one[2]) < NAME_HEIGHT))
        continue;
      taken.push(box);
      context.strokeText(text, across, down);
      context.fillText(text, across, down);
    }
  }
}

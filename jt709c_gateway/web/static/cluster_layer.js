// A map layer with all locks: close ones are one group. Groups are drawn on a canvas, with a button over each.

import { canvasLayer } from "./canvas_layer.js";
import { DISTANCE, across, grouped, placedRows, sentence, shortSpan } from "./clusters.js";
import { Marks, radiusOf } from "./cluster_marks.js";
import { attribute, h } from "./dom.js";
import { ago } from "./format.js";
import { fullName } from "./label.js";

/** Pixels across the button of one lock. */
const BUTTON = 26;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** What a lock is, in words. */
export function lockText(row) {
  const parts = [row.summary.lock_state ?? "state unknown", ago(row.seen), row.alarms];
  if (!row.summary.online) parts.splice(1, 0, "offline");
  return `${fullName(row.id, row.summary.label)}: ${parts.filter(Boolean).join(", ")}`;
}

/** What a group is known by while it is drawn again: one lock may move to another square. */
const keyOf = ({ key, members }) => (members.length === 1 ? members[0].row.id : key);

/** What a group is, in words. */
export const textOf = (group) => (group.members.length === 1 ? lockText(group.members[0].row) : sentence(group));

/**
 * A layer of Leaflet. `setRows(rows, since)` sets the locks; those not heard `since` are silent. It fires `drawn`;
 * `chosen` with the `group` that was activated and whether by the `keyboard`; and `pointed` with `found`, a group and its
 * `point` on the map, or null. Without `buttons` it only draws.
 */
export function clusterLayer(L, { buttons = true } = {}) {
  const Base = canvasLayer(L);
  const Clusters = Base.extend({
    initialize() {
      this._placed = [];
      this._groups = new Map();
      this._shown = [];
      this._active = null;
      this._pointed = null;
      this._marks = new Marks();
      this._list = buttons ? this._makeList() : null;
    },

    onAdd(map) {
      if (this._list) map.getPane("markerPane").append(this._list);
      Base.prototype.onAdd.call(this, map);
    },

    onRemove(map) {
      this._list?.remove();
      Base.prototype.onRemove.call(this, map);
    },

    setRows(rows, since = 0) {
      this._placed = placedRows(rows, since);
      this._groups.clear();
      this.redraw();
    },

    recolour() {
      this._marks = new Marks();
      this.redraw();
    },

    /** The area of all locks, or null. */
    bounds() {
      if (!this._placed.length) return null;
      const [west, east] = shortSpan(this._placed.map((one) => one.x));
      const latitudes = this._placed.map((one) => one.row.summary.latitude);
      const [south, north] = [Math.min, Math.max].map((pick) => latitudes.reduce((a, b) => pick(a, b)));
      return L.latLngBounds([south, (west - 0.5) * 360], [north, (east - 0.5) * 360]);
    },

    /** The rows in sight, the most urgent first. */
    inView() {
      return (this._inView ??= this._rowsInView());
    },

    _rowsInView() {
      const { left, top, world, width, height, margin } = this._frame;
      const [x, y] = [(left + width / 2) / world, (top + height / 2) / world];
      const [wide, high] = [(width / 2 - margin) / world, (height / 2 - margin) / world];
      return this._placed
        .filter((one) => Math.abs(across(x, one.x)) <= wide && Math.abs(one.y - y) <= high)
        .sort((one, other) => one.state - other.state)
        .map((one) => one.row);
    },

    paint(context, frame) {
      const { zoom, world, left, top, width, height, margin } = frame;
      this._inView = null;
      if (!this._groups.has(zoom)) this._groups.set(zoom, grouped(this._placed, zoom));
      const middle = (left + width / 2) / world;
      const found = [];
      for (const group of this._groups.get(zoom)) {
        // The copy of the world that is nearest to the middle of the map.
        const x = (middle + across(middle, group.x)) * world - left;
        const y = group.y * world - top;
        if (x >= 0 && y >= 0 && x <= width && y <= height) found.push({ group, x, y });
      }
      found.sort((one, other) => other.group.state - one.group.state);
      for (const { group, x, y } of found) this._marks.draw(context, group, x, y);
      const inside = (at, size) => at >= margin && at <= size - margin;
      this._shown = found.filter(({ x, y }) => inside(x, width) && inside(y, height));
      this._canvas.dataset.points = String(this.inView().length);
      this._canvas.dataset.groups = String(this._shown.length);
      if (this._list) this._place();
      this.fire("drawn");
    },

    /** The element of the buttons: one of them is in the order of the Tab key, arrow keys go to the others. */
    _makeList() {
      const groupOf = (event) => {
        const button = event.target.closest("button");
        return button && this._shown.find((one) => one.key === button.dataset.key);
      };
      const point = (event) => this._point(event.target.closest("button")?.dataset.key ?? null);
      const leave = () => this._point(null);
      const click = (event) => {
        const found = groupOf(event);
        const keyboard = event.detail === 0;
        // The end of a drag that began on a button is a click, too.
        const dragged = !keyboard && this._map.dragging?.moved();
        L.DomEvent.stop(event);
        if (found && !dragged) this.fire("chosen", { group: found.group, keyboard });
      };
      return h("div", {
        class: "map-groups leaflet-zoom-hide",
        role: "group",
        "aria-label": "Locks on the map; arrow keys go from one to the next",
        on: {
          click,
          dblclick: (event) => event.stopPropagation(),
          mouseover: point,
          mouseout: leave,
          focusin: (event) => {
            this._active = event.target.dataset.key;
            this._place();
            point(event);
          },
          focusout: leave,
          keydown: (event) => this._key(event),
        },
      });
    },

    /** Fire `pointed` for the group with a key; null for none. */
    _point(key) {
      if (key === null && this._pointed === null) return;
      const found = this._shown.find((one) => one.key === key);
      const { margin } = this._frame;
      this._pointed = found ? key : null;
      this.fire("pointed", {
        found: found ? { group: found.group, point: { x: found.x - margin, y: found.y - margin } } : null,
      });
    },

    _key(event) {
      const way = ARROWS[event.key];
      if (!way || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      const here = this._shown.find((one) => one.key === event.target.dataset.key);
      const next = here && nextGroup(this._shown, here, way);
      if (next) this._button(next.key)?.focus({ preventScroll: true });
    },

    _button(key) {
      return [...this._list.children].find((one) => one.dataset.key === key) ?? null;
    },

    /** Focus the group of a row, or one near the middle of the map; the map itself if there is none. */
    focusNear(id = null) {
      const { width, height } = this._frame;
      const far = ({ x, y }) => Math.hypot(x - width / 2, y - height / 2);
      const of = this._shown.find(({ group }) => group.members.some(({ row }) => row.id === id));
      const found = of ?? [...this._shown].sort((one, other) => far(one) - far(other))[0];
      const element = found ? this._button(found.key) : this._map.getContainer();
      element?.focus({ preventScroll: true });
    },

    /** Put a button over each group that is shown; a group that stays keeps its button, and so the focus. */
    _place() {
      const frame = this._frame;
      const had = new Map([...this._list.children].map((one) => [one.dataset.key, one]));
      const focused = this._list.contains(document.activeElement);
      const zero = this._map.containerPointToLayerPoint([-frame.margin, -frame.margin]);
      for (const one of this._shown) one.key = `${frame.zoom}/${keyOf(one.group)}`;
      const first = this._shown.some((one) => one.key === this._active) ? this._active : this._shown.at(-1)?.key;
      for (const { group, x, y, key } of this._shown) {
        const button = had.get(key) ?? h("button", { type: "button", "data-key": key });
        had.delete(key);
        if (!button.isConnected) this._list.append(button);
        attribute(button, "aria-label", textOf(group));
        attribute(button, "tabindex", key === first ? 0 : -1);
        const size = group.members.length === 1 ? BUTTON : Math.min(DISTANCE, 2 * radiusOf(group.members.length));
        button.style.width = button.style.height = `${size}px`;
        L.DomUtil.setPosition(button, zero.add([x - size / 2, y - size / 2]));
      }
      for (const gone of had.values()) gone.remove();
      this._point(this._pointed);
      if (focused && !this._list.contains(document.activeElement)) this.focusNear();
    },
  });
  return new Clusters();
}

/** The group that comes next in a direction: near, and not far to the side. */
function nextGroup(shown, here, [right, down]) {
  let best = null;
  let least = Infinity;
  for (const one of shown) {
    const [dx, dy] = [one.x - here.x, one.y - here.y];
    const ahead = dx * right + dy * down;
    const aside = Math.abs(dx * down) + Math.abs(dy * right);
    const far = ahead + 2 * aside;
    if (one !== here && ahead > 0 && far < least) [best, least] = [one, far];
  }
  return best;
}

// The last positions of the chosen locks on a map.

import { h, throttle, setChildren } from "./dom.js";
import { errorText } from "./api.js";
import { FilterBar } from "./filter_bar.js";
import { clusterLayer, textOf } from "./cluster_layer.js";
import { STATES, stateOf } from "./clusters.js";
import { ago, count, now } from "./format.js";
import { ICONS, icon } from "./icons.js";
import { nameParts } from "./label.js";
import { leaflet, makeMap } from "./leaflet.js";
import { showGroup } from "./map_choice.js";
import { MapPopup } from "./map_popup.js";

/** Maximum locks listed beside the map. */
const LISTED = 60;
const CLOSE_ZOOM = 14;
/** Pixels from a group up to the text about it. */
const HOVER_ABOVE = 56;

/** Open the view. */
export function open({ config, fleet, selection, memory }) {
  const bar = new FilterBar(selection);
  const place = h("div", {
    class: "map",
    role: "region",
    "aria-label": "Map of last positions; the list beside it has the same locks",
  });
  const hover = h("p", { class: "map-hover", hidden: true });
  const list = h("ul", { class: "map-list", "aria-label": "Locks in sight" });
  const heading = h("h2", {}, "In sight");
  const note = h("p", { class: "empty", hidden: true });
  const legend = h("ul", { class: "legend", "aria-label": "Legend" });
  setChildren(
    legend,
    Object.entries(ICONS).map(([name, { text }]) => h("li", {}, icon(name), text)),
    h("li", {}, icon("locked", true), "hollow: offline"),
    h("li", {}, h("span", { class: "legend-ring", "aria-hidden": "true" }, "9"), "locks close together"),
  );
  const fit = h(
    "button",
    { type: "button", class: "button small", on: { click: () => fitAll() } },
    "Show all",
  );
  const aside = h("aside", { class: "map-aside" }, h("div", { class: "map-aside-head" }, heading, fit), list);
  const element = h(
    "div",
    { class: "view view-map" },
    h("h1", { class: "unseen", tabindex: -1 }, "Map"),
    bar.element,
    note,
    h("div", { class: "map-area" }, h("div", { class: "map-frame" }, place, hover, legend), aside),
  );
  let L = null;
  let map = null;
  let markers = null;
  let popup = null;
  let fitted = false;
  let closed = false;

  const since = () => now() - selection.silence * 1000;
  const href = (row) => `#/device/${encodeURIComponent(row.id)}`;
  const refresh = () => {
    const { rows, counts, groups } = selection.apply(fleet.rows);
    bar.update({ counts, groups, total: fleet.rows.size, shown: rows.length });
    const text = fleet.error && !fleet.loaded ? errorText(fleet.error) : "";
    note.hidden = !text;
    note.textContent = text;
    if (!markers) return;
    markers.setRows(rows, since());
    popup.refresh(fleet.rows, since());
    if (!fitted && fleet.loaded) {
      fitted = true;
      if (memory.view) map.setView(...memory.view, { animate: false });
      else fitAll();
    }
  };
  const fitAll = () => {
    const bounds = markers?.bounds();
    if (bounds) map.fitBounds(bounds.pad(0.05), { maxZoom: CLOSE_ZOOM, animate: false });
  };
  const listVisible = throttle(() => {
    const rows = markers.inView();
    heading.textContent = `${count(rows.length)} in sight`;
    const first = rows.slice(0, LISTED);
    setChildren(
      list,
      first.map((row) =>
        h(
          "li",
          {},
          h(
            "a",
            { href: href(row) },
            icon(STATES[stateOf(row, since())], !row.summary.online),
            h("span", { class: "named" }, nameParts(row.id, row.summary.label)),
            h("small", {}, row.alarms || ago(row.seen)),
          ),
        ),
      ),
      rows.length > first.length
        ? h("li", { class: "more" }, `and ${count(rows.length - first.length)} more: zoom in or search`)
        : null,
    );
  }, 1000);
  const showHover = ({ found }) => {
    hover.hidden = found === null;
    if (!found) return;
    hover.textContent = textOf(found.group);
    const half = hover.offsetWidth / 2;
    const x = Math.max(half, Math.min(place.clientWidth - half, found.point.x));
    hover.style.transform = `translate(${x - half}px, ${Math.max(4, found.point.y - HOVER_ABOVE)}px)`;
  };

  const start = async () => {
    L = await leaflet();
    if (closed) return;
    if (!L) {
      setChildren(
        place,
        h(
          "p",
          { class: "empty" },
          "There is no map: the map library is not installed with this gateway. The table has the same locks.",
        ),
      );
      return;
    }
    map = await makeMap(L, place, config);
    if (closed) return map.remove();
    markers = clusterLayer(L).addTo(map);
    popup = new MapPopup(L, map, { href, closed: (id) => markers.focusNear(id) });
    markers.on("drawn", listVisible);
    markers.on("pointed", showHover);
    markers.on("chosen", (event) => showGroup(L, map, popup, since(), event));
    refresh();
  };
  const changed = throttle(refresh, 1000);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const recolour = () => {
    markers?.recolour();
    map?.fire("recolour");
  };
  dark.addEventListener("change", recolour);
  fleet.addEventListener("change", changed);
  selection.addEventListener("change", refresh);
  return {
    element,
    title: "Map",
    subscription: { devices: 1, kind: ["session"] },
    opened: () => {
      refresh();
      start();
    },
    connected: (restarted) => (restarted || !fleet.loaded) && fleet.load(),
    close: () => {
      closed = true;
      changed.stop();
      listVisible.stop();
      dark.removeEventListener("change", recolour);
      fleet.removeEventListener("change", changed);
      selection.removeEventListener("change", refresh);
      if (map) {
        memory.view = [map.getCenter(), map.getZoom()];
        map.remove();
      }
    },
  };
}

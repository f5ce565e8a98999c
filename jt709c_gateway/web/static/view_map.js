// The last positions of the chosen locks on a map.

import { h, throttle, setChildren } from "./dom.js";
import { errorText } from "./api.js";
import { FilterBar } from "./filter_bar.js";
import { ago, count } from "./format.js";
import { leaflet, makeMap } from "./leaflet.js";
import { ICONS, icon, iconOf } from "./icons.js";
import { markerLayer } from "./device_markers.js";

/** Maximum locks listed beside the map. */
const LISTED = 60;
const CLOSE_ZOOM = 14;

/** Open the view. */
export function open({ config, fleet, selection, go, memory }) {
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
  let fitted = false;
  let closed = false;

  const href = (row) => `#/device/${encodeURIComponent(row.id)}`;
  const refresh = () => {
    const { rows, counts } = selection.apply(fleet.rows);
    bar.update({ counts, total: fleet.rows.size, shown: rows.length });
    const text = fleet.error && !fleet.loaded ? errorText(fleet.error) : "";
    note.hidden = !text;
    note.textContent = text;
    if (!markers) return;
    markers.setRows(rows);
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
    const first = rows.slice(-LISTED).reverse();
    setChildren(
      list,
      first.map((row) =>
        h(
          "li",
          {},
          h(
            "a",
            { href: href(row) },
            icon(iconOf(row.summary), !row.summary.online),
            h("span", {}, row.id),
            h("small", {}, row.alarms || ago(row.seen)),
          ),
        ),
      ),
      rows.length > first.length
        ? h("li", { class: "more" }, `and ${count(rows.length - first.length)} more: zoom in or search`)
        : null,
    );
  }, 1000);
  const showHover = (event) => {
    const row = markers.at(event.containerPoint);
    place.classList.toggle("pointing", row !== null);
    hover.hidden = row === null;
    if (row)
      setChildren(
        hover,
        h("strong", {}, row.id),
        ` ${row.summary.lock_state ?? "state unknown"}, ${ago(row.seen)}${row.alarms ? `, ${row.alarms}` : ""}`,
      );
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
    markers = markerLayer(L).addTo(map);
    markers.on("drawn", listVisible);
    map.on("mousemove", showHover);
    map.on("mouseout", () => {
      hover.hidden = true;
    });
    map.on("click", (event) => {
      const row = markers.at(event.containerPoint);
      if (row) go(href(row));
    });
    refresh();
  };
  const changed = throttle(refresh, 1000);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const recolour = () => {
    markers?.recolour();
    map?.fire("viewreset");
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

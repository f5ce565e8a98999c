// What opens on the map for a lock, or for locks at one place.

import { sentence, stateOf, STATES } from "./clusters.js";
import { h } from "./dom.js";
import { ago, count } from "./format.js";
import { icon } from "./icons.js";
import { nameParts } from "./label.js";
import { positionElement } from "./position.js";

/** Maximum locks in the list of a place. */
const LISTED = 100;
const WIDTH = 260;
/** Pixels of the popup besides its list, and of the list at least and at most. */
const BESIDES = 180;
const LIST_HEIGHT = [80, 200];
/** Pixels at the left and top of the map that the popup keeps free, for the buttons there. */
const CORNER = [48, 12];

const nameOf = (row) => nameParts(row.id, row.summary.label);

/** What is shown of a lock: all of a single one. */
function shownOf({ row, state }, single) {
  const { summary } = row;
  return [row.id, state, row.alarms, single ? summary : [summary.lock_state, summary.online, summary.label]];
}

/** The popup of a map: `open(group)`, and `refresh(rows, since)` when locks have changed. */
export class MapPopup {
  #ids = [];
  #text = "";
  #keyboard = false;

  /** `href(row)` is the address of a lock; `closed(id)` is called when Escape has closed the popup. */
  constructor(L, map, { href, closed }) {
    this.map = map;
    this.href = href;
    this.content = h("div", { class: "map-popup", role: "group", "aria-label": "Locks at this place" });
    this.popup = L.popup({ maxWidth: WIDTH, minWidth: WIDTH - 80, autoPanPadding: [12, 12], autoPanPaddingTopLeft: CORNER });
    this.popup.setContent(this.content);
    this.content.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      map.closePopup(this.popup);
      closed(this.#ids[0]);
    });
  }

  /** Open it for the members of a group at a place. */
  open({ members }, latlng, since, keyboard) {
    this.#ids = members.map(({ row }) => row.id);
    this.#text = "";
    this.#keyboard = keyboard;
    this.#fill(members.map(({ row }) => row), since);
    this.popup.setLatLng(latlng).openOn(this.map);
    if (keyboard) this.content.querySelector("a").focus();
  }

  /** Show the present states; it stays where it is. */
  refresh(rows, since) {
    if (!this.popup.isOpen()) return;
    this.#fill(this.#ids.map((id) => rows.get(id)).filter(Boolean), since);
  }

  #fill(rows, since) {
    const members = rows
      .map((row) => ({ row, state: stateOf(row, since) }))
      .sort((one, other) => one.state - other.state);
    const text = JSON.stringify(members.map((one) => shownOf(one, members.length === 1)));
    if (text === this.#text) return;
    this.#text = text;
    const at = [...this.content.querySelectorAll("a, button")].indexOf(document.activeElement);
    const scrolled = this.content.querySelector("ul")?.scrollTop;
    this.content.replaceChildren(...(members.length === 1 ? this.#one(members[0]) : this.#several(members)));
    // This hides the popup for a moment, so the focus comes after it.
    if (this.popup.isOpen()) this.popup.update();
    if (scrolled) this.content.querySelector("ul")?.scrollTo(0, scrolled);
    if (at >= 0) [...this.content.querySelectorAll("a, button")][at]?.focus({ preventScroll: true });
  }

  #one({ row, state }) {
    const { summary } = row;
    const moving = summary.speed_kmh ? `${Math.round(summary.speed_kmh)} km/h` : "";
    const said = [summary.lock_state ?? "state unknown", summary.online ? "online" : "offline", moving];
    return [
      h("h2", {}, h("a", { href: this.href(row) }, nameOf(row))),
      h(
        "p",
        {},
        icon(STATES[state], !summary.online),
        `${said.filter(Boolean).join(", ")}, seen ${ago(row.seen)}`,
      ),
      row.alarms ? h("p", { class: "alarms" }, row.alarms) : "",
      h("p", {}, positionElement(summary.latitude, summary.longitude)),
    ].filter(Boolean);
  }

  #several(members) {
    const counts = STATES.map((_, state) => members.filter((one) => one.state === state).length);
    const { summary } = members[0].row;
    const list = h(
      "ul",
      { class: "map-list", "aria-label": "Locks at this place" },
      members.slice(0, LISTED).map((one) => this.#listed(one)),
      members.length > LISTED
        ? h("li", { class: "more" }, `and ${count(members.length - LISTED)} more: search for one`)
        : null,
    );
    const [least, most] = LIST_HEIGHT;
    list.style.maxHeight = `${Math.max(least, Math.min(most, this.map.getSize().y - BESIDES))}px`;
    return [
      h("h2", {}, sentence({ members, counts })),
      list,
      h("p", {}, positionElement(summary.latitude, summary.longitude)),
    ];
  }

  #listed({ row, state }) {
    return h(
      "li",
      {},
      h(
        "a",
        { href: this.href(row) },
        icon(STATES[state], !row.summary.online),
        h("span", { class: "named" }, nameOf(row)),
        h("small", {}, row.alarms || row.summary.lock_state || "state unknown"),
      ),
    );
  }
}

// A position that can be opened in a map application and copied.

import { h } from "./dom.js";
import { place } from "./format.js";

/** Decimals that are copied: a tenth of a metre. */
const DECIMALS = 6;
/** How long a button says that it has copied, ms. */
const SAID_MS = 2500;

/** The text of a position that is copied: "51.507350, -0.127758". */
export function copyText(latitude, longitude) {
  return `${latitude.toFixed(DECIMALS)}, ${longitude.toFixed(DECIMALS)}`;
}

/** The URI of a position (RFC 5870). */
export function geoUri(latitude, longitude) {
  return `geo:${latitude.toFixed(DECIMALS)},${longitude.toFixed(DECIMALS)}`;
}

/** A position as a link to a map application, with a button that copies it; null for one that is unknown. */
export function positionElement(latitude, longitude) {
  const text = place(latitude, longitude);
  if (text === null) return null;
  const link = h(
    "a",
    { href: geoUri(latitude, longitude), title: "Open in a map application", rel: "noopener" },
    text,
  );
  return h("span", { class: "position" }, link, " ", copyButton(copyText(latitude, longitude)));
}

/** The position of an event, in a line of its own; null for an event without one. */
export function positionOf({ data }) {
  const element = positionElement(data?.latitude, data?.longitude);
  return element && h("span", { class: "position-line" }, element);
}

/** An event without its position, for a summary beside which the position is shown. */
export function withoutPosition(event) {
  const { latitude, longitude, ...data } = event.data ?? {};
  return { ...event, data };
}

/** A button that copies a text, and says so. */
function copyButton(text) {
  const said = h("span", { role: "status" });
  const button = h(
    "button",
    { type: "button", class: "button small copy", "aria-label": `Copy ${text}`, title: `Copy ${text}` },
    "Copy",
  );
  let timer = null;
  button.addEventListener("click", async (event) => {
    event.stopPropagation();
    clearTimeout(timer);
    if (await copied(text)) {
      said.textContent = "Copied";
      timer = setTimeout(() => said.replaceChildren(), SAID_MS);
    } else {
      said.replaceChildren(byHand(text));
      said.querySelector("input").select();
    }
  });
  return [button, " ", said];
}

/** Copy a text; false if the browser refuses. */
async function copied(text) {
  try {
    // Browsers have it on HTTPS and on localhost only.
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(text);
      return true;
    }
  } catch {
    // It may be refused by the user or by the frame; the older way may still work.
  }
  return copiedFromField(text);
}

/** Copy a text from a field that is selected for a moment. */
function copiedFromField(text) {
  const before = document.activeElement;
  const field = h("textarea", { class: "unseen", "aria-hidden": "true", tabindex: -1, readonly: true });
  field.value = text;
  // Within an open dialog, nothing outside of it can be selected.
  (before?.closest("dialog") ?? document.body).append(field);
  field.select();
  let done = false;
  try {
    done = document.execCommand("copy");
  } catch {
    done = false;
  }
  field.remove();
  before?.focus({ preventScroll: true });
  return done;
}

/** The text in a field, to be copied with the keyboard. */
function byHand(text) {
  const field = h("input", {
    class: "by-hand",
    readonly: true,
    size: text.length,
    "aria-label": "This browser does not let the page copy: press Ctrl+C, or ⌘C",
    title: "Press Ctrl+C, or ⌘C",
  });
  field.value = text;
  return field;
}

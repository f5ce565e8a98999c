// Shows the explanation of a frame: each field with offset, bytes, name, value and meaning.

import { get, post, errorText } from "./api.js";
import { h, setChildren } from "./dom.js";
import { known, words } from "./format.js";

/** Maximum length of a frame in the URL; longer frames are sent in the body. */
const MAX_QUERY = 1500;

/** An element that loads and shows the explanation of a frame. */
export function explanation(frame) {
  const element = h("div", { class: "explanation" }, h("p", { class: "empty" }, "Taking it apart…"));
  const ask = frame.length > MAX_QUERY ? post("explain", { frame }) : get("explain", { frame });
  ask.then(
    (answer) => setChildren(element, answer.frames.map(one)),
    (error) => setChildren(element, h("p", { class: "problem" }, errorText(error))),
  );
  return element;
}

function one(tree) {
  const facts = [
    tree.dialect,
    tree.direction === "down" ? "to the lock" : tree.direction === "up" ? "from the lock" : null,
    named("device", tree.device),
  ];
  const caption = h(
    "caption",
    {},
    h("strong", {}, tree.title || "frame"),
    ` ${facts.filter(Boolean).join(" · ")}`,
    tree.broken ? h("span", { class: "problem" }, " broken") : "",
  );
  const head = h(
    "tr",
    {},
    ["Offset", "Bytes", "Field", "Value", "Meaning"].map((text) => h("th", { scope: "col" }, text)),
  );
  const table = h(
    "table",
    { class: "fields" },
    caption,
    h("thead", {}, head),
    h(
      "tbody",
      {},
      tree.fields.flatMap((field) => rows(field, 0)),
    ),
  );
  const whole = tree.whole?.length
    ? [
        h("h4", {}, "The whole message"),
        h(
          "table",
          { class: "fields" },
          h(
            "tbody",
            {},
            tree.whole.flatMap((field) => rows(field, 0)),
          ),
        ),
      ]
    : [];
  return h(
    "div",
    { class: "fields-frame", tabindex: 0, role: "region", "aria-label": "Fields of the frame" },
    table,
    whole,
    footer(tree),
  );
}

const named = (name, value) => (value ? `${name} ${value}` : null);

function rows(field, depth) {
  const nested = field.children?.length > 0;
  const row = h(
    "tr",
    { class: `depth-${Math.min(depth, 5)}${nested ? " nested" : ""}${field.problem ? " broken" : ""}` },
    h("td", { class: "number" }, known(field.offset)),
    h("td", { class: "bytes" }, nested ? `${field.raw.length / 2} bytes` : spaced(field.raw)),
    h("th", { scope: "row" }, words(field.name)),
    h("td", { class: "value" }, shown(field.value)),
    h("td", {}, field.meaning, field.problem ? h("span", { class: "problem" }, ` ${field.problem}`) : ""),
  );
  return [
    row,
    ...(field.bits ?? []).map((bits) => bitRow(bits, depth + 1)),
    ...(field.children ?? []).flatMap((child) => rows(child, depth + 1)),
  ];
}

function bitRow(bits, depth) {
  const range = bits.first === bits.last ? `bit ${bits.first}` : `bits ${bits.first}–${bits.last}`;
  return h(
    "tr",
    { class: `bits depth-${Math.min(depth, 5)}` },
    h("td", {}),
    h("td", { class: "bytes" }, range),
    h("th", { scope: "row" }, words(bits.name)),
    h("td", { class: "value" }, shown(bits.value)),
    h("td", {}, bits.meaning),
  );
}

function spaced(hex) {
  return (hex ?? "").replace(/(..)(?=.)/g, "$1 ");
}

function shown(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function footer(tree) {
  const kinds = (tree.events ?? [])
    .map((event) => (typeof event === "string" ? event : event.kind))
    .filter(Boolean);
  const parts = [
    kinds.length ? `Events made of it: ${kinds.map(words).join(", ")}.` : "",
    tree.answer ? `Answered with ${tree.answer}.` : "",
  ];
  const text = parts.filter(Boolean).join(" ");
  return text ? h("p", { class: "fields-foot" }, text) : null;
}

// The icons of locks in table, map and legend: each state has its own shape and colour.

import { s } from "./dom.js";

/** Shapes in a square of 16 by 16. */
const PATHS = {
  locked: "M8 2a6 6 0 1 0 0 12A6 6 0 1 0 8 2Z",
  unlocked: "M2.5 2.5h11v11h-11Z",
  alarm: "M8 1.2 15.2 14H.8Z",
  silent: "M2.5 1.5h11L9.2 8l4.3 6.5h-11L6.8 8Z",
  unknown: "M8 1 15 8 8 15 1 8Z",
};

/** The icons with their meaning and the custom property of their colour. */
export const ICONS = {
  alarm: { text: "alarm", colour: "--alarm" },
  unlocked: { text: "unlocked", colour: "--unlocked" },
  silent: { text: "silent", colour: "--silent" },
  locked: { text: "locked", colour: "--locked" },
  unknown: { text: "state unknown", colour: "--unknown" },
};

/** The icon name of a lock. */
export function iconOf(summary) {
  if (summary.alarms.length > 0) return "alarm";
  return summary.lock_state === "locked" || summary.lock_state === "unlocked"
    ? summary.lock_state
    : "unknown";
}

/** An icon as an SVG element, hollow for an offline lock; hidden from screen readers, since text is beside it. */
export function icon(name, hollow = false) {
  return s(
    "svg",
    {
      viewBox: "-1 -1 18 18",
      class: `mark mark-${name}${hollow ? " hollow" : ""}`,
      "aria-hidden": "true",
      width: 14,
      height: 14,
    },
    s("path", { d: PATHS[name] }),
  );
}

/** All icons as pictures for a canvas, in the current colour scheme: `get(name, hollow)`. */
export function sprites(scale) {
  const style = getComputedStyle(document.documentElement);
  const paper = style.getPropertyValue("--paper").trim();
  const size = Math.ceil(18 * scale);
  const made = new Map();
  for (const [name, { colour }] of Object.entries(ICONS)) {
    const ink = style.getPropertyValue(colour).trim();
    for (const hollow of [false, true])
      made.set(`${name}${hollow}`, drawn(PATHS[name], ink, paper, hollow, size, scale));
  }
  return { size: 18, get: (name, hollow) => made.get(`${name}${hollow}`) };
}

function drawn(path, ink, paper, hollow, size, scale) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.translate(1, 1);
  const shape = new Path2D(path);
  context.lineJoin = "round";
  context.lineWidth = hollow ? 2 : 1.2;
  context.fillStyle = hollow ? paper : ink;
  context.strokeStyle = hollow ? ink : paper;
  context.fill(shape);
  context.stroke(shape);
  return canvas;
}

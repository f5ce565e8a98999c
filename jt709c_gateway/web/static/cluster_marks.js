// Draws groups of locks: a ring with a part for each state around their number, and the urgent states below it.

import { STATES } from "./clusters.js";
import { ICONS, sprites } from "./icons.js";
import { count } from "./format.js";

const FONT = "system-ui, sans-serif";
const RING = 5;
/** The smallest part of a ring, of its whole. */
const LEAST = 0.07;
/** States whose number is below the ring, and how many of them at most. */
const URGENT = 3;
const BADGES = 2;
const BADGE = { height: 16, icon: 12, gap: 2, font: `600 11px ${FONT}` };

/** Pixels from the middle of a group to its edge. */
export function radiusOf(number) {
  return number === 1 ? 9 : Math.min(28, 13 + 3.2 * Math.log2(number) ** 0.8);
}

/** The parts of a ring, which together are 1; small ones are larger than they would be. */
export function parts(counts) {
  const whole = counts.reduce((sum, number) => sum + number, 0);
  const wide = counts.map((number) => (number ? Math.max(LEAST, number / whole) : 0));
  const sum = wide.reduce((one, other) => one + other, 0);
  return wide.map((one) => one / sum);
}

/** The colours and icons of groups in the present colour scheme. */
export class Marks {
  constructor() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    this.icons = sprites(window.devicePixelRatio || 1);
    this.colours = STATES.map((name) => colour(ICONS[name].colour));
    this.paper = colour("--paper");
    this.ink = colour("--ink");
    this.line = colour("--grid-line-strong");
  }

  /** Draw a group at a point: one lock as its icon, several as a ring. */
  draw(context, group, x, y) {
    if (group.members.length === 1) {
      const { row } = group.members[0];
      const { size } = this.icons;
      const picture = this.icons.get(STATES[group.state], !row.summary.online);
      context.drawImage(picture, x - size / 2, y - size / 2, size, size);
    } else {
      this.#ring(context, group, x, y);
      this.#badges(context, group.counts, x, y + radiusOf(group.members.length) + 1);
    }
  }

  #ring(context, { members, counts }, x, y) {
    const radius = radiusOf(members.length);
    context.beginPath();
    context.arc(x, y, radius + 1.5, 0, 2 * Math.PI);
    context.fillStyle = this.paper;
    context.fill();
    context.lineWidth = 1;
    context.strokeStyle = this.line;
    context.stroke();
    context.lineWidth = RING;
    const shares = parts(counts);
    const alone = shares.includes(1);
    let from = -Math.PI / 2;
    shares.forEach((share, state) => {
      if (!share) return;
      const to = from + share * 2 * Math.PI;
      const gap = alone ? 0 : 1 / radius;
      context.beginPath();
      context.arc(x, y, radius - RING / 2, from + gap, to - gap);
      context.strokeStyle = this.colours[state];
      context.stroke();
      from = to;
    });
    context.fillStyle = this.ink;
    context.font = `600 ${members.length > 999 ? 11 : 12}px ${FONT}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(count(members.length), x, y + 0.5);
  }

  #badges(context, counts, x, y) {
    const urgent = counts.map((number, state) => ({ number, state })).slice(0, URGENT);
    const shown = urgent.filter(({ number }) => number > 0).slice(0, BADGES);
    context.font = BADGE.font;
    context.textAlign = "left";
    context.textBaseline = "middle";
    const { height, icon, gap } = BADGE;
    const widths = shown.map(({ number }) => context.measureText(count(number)).width + icon + 3 * gap + 2);
    let left = x - (widths.reduce((sum, one) => sum + one, 0) + gap * (shown.length - 1)) / 2;
    shown.forEach(({ number, state }, at) => {
      context.beginPath();
      context.roundRect(left, y - height / 2, widths[at], height, height / 2);
      context.fillStyle = this.paper;
      context.fill();
      context.lineWidth = 1;
      context.strokeStyle = this.colours[state];
      context.stroke();
      context.drawImage(this.icons.get(STATES[state], false), left + gap, y - icon / 2, icon, icon);
      context.fillStyle = this.ink;
      context.fillText(count(number), left + icon + 2 * gap, y + 0.5);
      left += widths[at] + gap;
    });
  }
}

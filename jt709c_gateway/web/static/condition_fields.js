// The part of the command form that says where, how fast and when a command may be written, and the same in words.

import { get } from "./api.js";
import { h, setChildren } from "./dom.js";
import { dated, moment, place } from "./format.js";

const ANYWHERE = "";
const AROUND = "around";
const AREA = "area:";
const RADIUS_M = 200;

/** The fields, in a fold that is closed at first. `summary()` returns the summary of the lock, or null. */
export class ConditionFields {
  constructor(summary) {
    this.summary = summary;
    this.where = h("select", { id: "command-where", on: { change: () => this.#drawn() } });
    this.radius = number("command-radius", { value: RADIUS_M, min: 1, max: 1000000 });
    this.radiusField = field("Within so many metres of its present place", this.radius);
    this.speed = number("command-speed", { min: 0, max: 300 });
    this.from = h("input", { id: "command-not-before", type: "datetime-local" });
    this.until = h("input", { id: "command-not-after", type: "datetime-local" });
    this.wait = h("input", { id: "command-not-allowed", type: "checkbox" });
    this.element = h(
      "details",
      { class: "conditions", on: { toggle: () => this.#loadAreas() } },
      h("summary", {}, "Only where and when"),
      field("Only while the lock is", this.where),
      this.radiusField,
      field("Only up to so many km/h", this.speed),
      field("Not before", this.from),
      field("Not after", this.until),
      h(
        "div",
        { class: "field" },
        h("label", { for: this.wait.id }, this.wait, " Elsewhere, or too fast: wait until it is there, and slow"),
        h("p", { class: "hint" }, "Otherwise the command ends as rejected, and nothing is written."),
      ),
    );
    this.#offer([]);
  }

  /** The fields of a command that these conditions are; throws an Error with a sentence for a mistake. */
  value() {
    const found = {};
    const chosen = this.where.value;
    if (chosen === AROUND) {
      const { latitude, longitude } = this.summary() ?? {};
      if (typeof latitude !== "number" || typeof longitude !== "number")
        throw new Error("The present place of the lock is not known: choose an area instead.");
      found.only_within = { circle: { center: [latitude, longitude], radius_m: value(this.radius, "metres") } };
    } else if (chosen.startsWith(AREA)) {
      found.only_within = { area: chosen.slice(AREA.length) };
    }
    if (this.speed.value !== "" || this.speed.validity.badInput) found.max_speed_kmh = value(this.speed, "km/h");
    if (this.from.value) found.not_before = new Date(this.from.value).toISOString();
    if (this.until.value) found.not_after = new Date(this.until.value).toISOString();
    if (this.wait.checked && (found.only_within || "max_speed_kmh" in found)) found.when_not_allowed = "wait";
    return found;
  }

  async #loadAreas() {
    if (!this.element.open) return;
    try {
      this.#offer((await get("areas")).areas);
    } catch {
      // Without the list the rest can be chosen; the next opening asks again.
    }
  }

  #offer(areas) {
    const before = this.where.value;
    setChildren(
      this.where,
      h("option", { value: ANYWHERE }, "anywhere"),
      h("option", { value: AROUND }, "near its present place"),
      areas.map((name) => h("option", { value: AREA + name }, `in area ${name}`)),
    );
    if ([...this.where.options].some((option) => option.value === before)) this.where.value = before;
    this.#drawn();
  }

  #drawn() {
    this.radiusField.hidden = this.where.value !== AROUND;
  }
}

/** Sentences about the conditions of a command, as its request has them. */
export function conditionTexts(body) {
  const bounds = [whereText(body.only_within), "max_speed_kmh" in body ? `at ${body.max_speed_kmh} km/h or less` : ""];
  const bound = bounds.filter(Boolean).join(", and ");
  const otherwise = body.when_not_allowed === "wait" ? "the command waits until it is" : "the command ends as rejected";
  return [
    bound
      ? `It is written only while the lock is ${bound}, by a position not older than ${body.position_max_age ?? 120} s. Where it is not, ${otherwise}; while that is not known, it waits.`
      : null,
    body.not_before ? `It is not written before ${dated(moment(body.not_before))}.` : null,
    body.not_after ? `It is not written after ${dated(moment(body.not_after))}.` : null,
  ].filter(Boolean);
}

function whereText(within) {
  if (!within) return "";
  if (within.area) return `in area ${within.area}`;
  if (!within.circle) return "in the area that is given";
  const { center, radius_m: radius } = within.circle;
  return `within ${radius} m of ${place(center[0], center[1])}`;
}

function value(input, unit) {
  const found = input.valueAsNumber;
  if (Number.isNaN(found) || !input.checkValidity())
    throw new Error(`Expected ${unit} from ${input.min} to ${input.max}.`);
  return found;
}

function number(id, more) {
  return h("input", { id, type: "number", step: "any", inputmode: "decimal", autocomplete: "off", ...more });
}

function field(label, input) {
  return h("div", { class: "field" }, h("label", { for: input.id }, label), input);
}

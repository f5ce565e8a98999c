// Form fields for the parameters of a command, by their types in the catalogue.

import { h } from "./dom.js";
import { withKeypad } from "./keypad.js";
import { words } from "./format.js";

/** What is expected of the password of a lock: so many characters, mostly digits. */
const LOCK_PASSWORD = /^text of 6 /;

/**
 * A field for a parameter: `element`, `value()` (undefined if empty), `shown()` (the value as text), `clear()`.
 * `value()` throws an Error with a sentence for a value that can't be parsed. Its id begins with
 * `prefix`.
 */
export function paramField(param, prefix = "param") {
  const id = `${prefix}-${param.name}`;
  const input = control(param, id);
  const label = h(
    "label",
    { for: id },
    words(param.name),
    param.required ? h("abbr", { title: "needed", class: "needed" }, " *") : "",
  );
  const hint = [param.summary, expectation(param)].filter(Boolean).join(" ");
  const element = h(
    "div",
    { class: "field" },
    label,
    param.secret && LOCK_PASSWORD.test(param.expected) ? withKeypad(input) : input,
    hint ? h("p", { class: "hint", id: `${id}-hint` }, hint) : null,
  );
  if (hint) input.setAttribute("aria-describedby", `${id}-hint`);
  return {
    name: param.name,
    secret: param.secret,
    element,
    input,
    value: () => parse(param, input),
    shown: () => (param.secret ? "••••••" : valueText(parse(param, input))),
    clear: () => {
      if (param.secret) input.value = "";
    },
  };
}

function expectation({ type, secret, choices, default: preset, expected }) {
  const plain = secret || choices?.length || type === "boolean";
  const known = preset !== null && preset !== undefined;
  return [
    expected && !plain ? `Expected: ${expected}.` : "",
    known && !choices?.length ? `If left out: ${valueText(preset)}.` : "",
  ]
    .filter(Boolean)
    .join(" ");
}

function control(param, id) {
  const common = { id, name: param.name, required: param.required, autocomplete: "off", spellcheck: "false" };
  if (param.secret) return h("input", { ...common, type: "password", autocomplete: "new-password" });
  if (param.choices?.length)
    return select(
      common,
      param.choices.map((choice) => [choice, words(choice)]),
      param,
    );
  switch (param.type) {
    case "boolean":
      return select(
        common,
        [
          ["true", "yes"],
          ["false", "no"],
        ],
        param,
      );
    case "integer":
    case "number":
      return h("input", {
        ...common,
        type: "number",
        step: param.type === "integer" ? 1 : "any",
        min: param.minimum,
        max: param.maximum,
        inputmode: "decimal",
      });
    case "list":
      return h("textarea", { ...common, rows: 3, placeholder: "one on each line" });
    case "places":
      return h("textarea", { ...common, rows: 4, placeholder: "22.5550, 113.4227 on each line" });
    case "parameters":
      return h("textarea", { ...common, rows: 4, placeholder: '{"0013": "gate.example.com"}' });
    case "free_text":
      return h("textarea", { ...common, rows: 2 });
    default:
      return h("input", { ...common, type: "text" });
  }
}

function select(common, options, param) {
  const unset = param.required ? "choose…" : "as the lock has it";
  const preset = param.default === null || param.default === undefined ? "" : String(param.default);
  const all =
    preset && options.some(([value]) => String(value) === preset) ? options : [["", unset], ...options];
  const element = h(
    "select",
    common,
    all.map(([value, text]) => h("option", { value }, text)),
  );
  element.value = preset;
  return element;
}

function parse(param, input) {
  const text = param.secret ? input.value : input.value.trim();
  if (text === "") {
    if (param.required) throw new Error(`${words(param.name)} is needed.`);
    return undefined;
  }
  switch (param.type) {
    case "boolean":
      return text === "true";
    case "integer":
      if (!/^-?\d+$/.test(text)) throw new Error(`${words(param.name)} has to be a whole number.`);
      return Number(text);
    case "number":
      if (Number.isNaN(Number(text))) throw new Error(`${words(param.name)} has to be a number.`);
      return Number(text);
    case "list":
      return text
        .split(/[\n,]/)
        .map((item) => item.trim())
        .filter(Boolean);
    case "places":
      return text
        .split("\n")
        .filter((line) => line.trim())
        .map((line) => place(param, line));
    case "parameters":
      return parseObject(param, text);
    default:
      return text;
  }
}

function place(param, line) {
  const numbers = line.split(",").map((part) => (part.trim() ? Number(part) : NaN));
  if (numbers.length === 2 && !numbers.some(Number.isNaN)) return numbers;
  throw new Error(`${words(param.name)} have to be a latitude and a longitude on each line.`);
}

function parseObject(param, text) {
  try {
    const value = JSON.parse(text);
    if (value && typeof value === "object" && !Array.isArray(value)) return value;
  } catch {
    // The error below, as for JSON that is no object.
  }
  throw new Error(`${words(param.name)} has to be a JSON object.`);
}

function valueText(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

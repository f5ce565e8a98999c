// Phones show their keypad of digits for a field, with a button beside it for letters.

import { h } from "./dom.js";

/**
 * An input with its button, which only devices without a fine pointer show. `numeric` is how it begins: most passwords
 * and ids are digits, though some have letters.
 */
export function withKeypad(input, { numeric = true } = {}) {
  const button = h("button", {
    type: "button",
    class: "button small keypad",
    on: {
      click: () => {
        show(input.inputMode !== "numeric");
        input.focus();
      },
    },
  });
  const show = (digits) => {
    input.inputMode = digits ? "numeric" : "text";
    button.textContent = digits ? "abc" : "123";
    button.setAttribute("aria-label", digits ? "abc: keyboard with letters" : "123: keypad of digits");
  };
  show(numeric);
  return h("div", { class: "with-keypad" }, input, button);
}

// Makes elements. Data is inserted as text: nothing in the page parses it as markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element. `props` are attributes, and listeners under `on`; an attribute that is null, undefined or false is
 * left out. Children are nodes, text, or arrays of them; null and false are left out.
 */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** Make an SVG element. */
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [type, listener] of Object.entries(value)) element.addEventListener(type, listener);
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...flatten(children));
  return element;
}

/** Flatten children, without empty ones. */
function flatten(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false && child !== "");
}

/** Replace the children of an element. */
export function setChildren(element, ...children) {
  element.replaceChildren(...flatten(children));
}

/** Set an attribute, or remove it for null. */
export function attribute(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value));
}

/** Whether an element takes typed text. */
export function isTyping(target) {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))
  );
}

/** A function that calls `callback` at most once in `wait` ms, and once after the last call. `stop()` cancels it. */
export function throttle(callback, wait) {
  let timer = null;
  let last = -Infinity;
  const run = () => {
    timer = null;
    last = performance.now();
    callback();
  };
  const call = () => {
    if (timer !== null) return;
    timer = setTimeout(run, Math.max(0, last + wait - performance.now()));
  };
  call.stop = () => {
    clearTimeout(timer);
    timer = null;
  };
  return call;
}

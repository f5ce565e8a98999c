// Making elements. Text goes in as text: nothing here, or anywhere in the page, reads markup out of data.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element. `props` are attributes; `on` holds listeners, `class` may be null, and an attribute that is null,
 * undefined or false is left out. Children are nodes or text; null and false are left out.
 */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
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
  element.append(...present(children));
  return element;
}

/** What is there of a list of children, also of lists in it. */
export function present(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false && child !== "");
}

/** Put these children in place of those that an element has. */
export function show(element, ...children) {
  element.replaceChildren(...present(children));
}

/** Set an attribute, or remove it for null. */
export function attribute(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value));
}

/** Whether keys typed now are meant for a field. */
export function isTyping(target) {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))
  );
}

/** Calls `deed` at most once in `wait` ms, and in the end once more. */
export function paced(deed, wait) {
  let timer = null;
  let last = -Infinity;
  const run = () => {
    timer = null;
    last = performance.now();
    deed();
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

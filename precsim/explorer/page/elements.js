// Elements of the page, made without a framework.

// Make an element: properties that begin with "on" are listeners, with "--" numbers of a drawing.
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.replace("on", ""), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (name === "value" || name === "checked" || name === "open") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

// Make an element of a drawing.
export function s(tag, properties = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Fields of a code as coloured groups of digits.
export function digits(fields) {
  if (!fields.length) return h("span", { class: "muted" }, "no code");
  return h(
    "code",
    { class: "digits" },
    fields.map((field) =>
      h("span", { class: `field-${field.name.split(" ").pop()}`, title: field.name }, field.bits),
    ),
  );
}

// Names and texts beside each other.
export function facts(pairs, properties = {}) {
  return h(
    "dl",
    { class: "facts", ...properties },
    pairs.map(([name, ...content]) => h("div", {}, h("dt", {}, name), h("dd", {}, content))),
  );
}

// A table that scrolls inside its own frame.
export function table(caption, heads, rows, properties = {}) {
  return scrolled(
    caption,
    properties.class ?? "",
    h(
      "table",
      {},
      h("caption", { class: "hidden" }, caption),
      h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, rows),
    ),
  );
}

// A frame that the keyboard can scroll.
export function scrolled(label, kind, content) {
  return h(
    "div",
    { class: `scroll ${kind}`, tabindex: "0", role: "region", "aria-label": label },
    content,
  );
}

// A number as one reads it digit by digit.
export function number(text) {
  return h("span", { class: "number" }, text);
}

// A row of a table, whose first cell is its head.
export function row(cells, properties = {}) {
  const [first, ...rest] = cells;
  return h(
    "tr",
    properties,
    h("th", { scope: "row" }, first),
    rest.map((cell) => h("td", {}, cell)),
  );
}

// Text that a drawing says to those who do not see it.
export function picture(label, ...children) {
  return h("div", { class: "picture", role: "img", "aria-label": label }, children);
}

export const ARROWS = { up: "↑", down: "↓", exact: "=", none: "" };
export const WAYS = { up: "up", down: "down", exact: "exact", none: "not a number" };

// The direction of a rounding: an arrow for the eye, a word for the ear.
export function arrow(direction) {
  return h(
    "span",
    { class: `arrow ${direction}` },
    h("span", { "aria-hidden": "true" }, ARROWS[direction]),
    h("span", { class: "hidden" }, WAYS[direction]),
  );
}

// What stands in the place of rules that all give the same.
export function allAgree(value) {
  return h(
    "p",
    { class: "muted" },
    "For this number every one of these rules gives ",
    h("span", { class: "number" }, value),
    ".",
  );
}

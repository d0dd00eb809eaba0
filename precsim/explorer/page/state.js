// What is chosen: kept in the address after #, so that a link shows the same to everybody.
//
// An address is #/PANEL?NAME=VALUE&...; what is not named has its default. #PANEL is read too.

const DEFAULTS = {
  value: "0.1",
  code: "",
  format: "fp16",
  mode: "",
  overflow: "",
  subnormals: "",
  view: "number",
  scale: "linear",
  first: "0",
  source: "example",
  example: "gradients",
  values: "1e-3, 3e-6, 2e-8, 1e-9, 0.02, 5e-5",
  formats: "fp16,bf16,e4m3,e5m2",
  block: "mxfp4",
  elements:
    "0.11, -0.42, 0.9, 1.3, -0.07, 0.003, 2.4, -6.5, 0.6, -1.1, 0.25, 0.018, 3.2, -0.9, 0.01, 0.5",
  addends: "0.01 x 1000",
  arrangement: "as given",
  order: "sequential",
  machine: "h100",
  operands: "fp16",
  a: "-2^13, -0.5, -0.25, -0.125",
  b: "2^10, 1, 1, 1",
  c: "2^23",
  power: "",
};

const chosen = new Map();
const listeners = new Set();
let panel = "";

export function get(name) {
  return chosen.has(name) ? chosen.get(name) : DEFAULTS[name];
}

// Whether neither the address nor the page has chosen it.
export function isDefault(name) {
  return !chosen.has(name);
}

export function currentPanel() {
  return panel;
}

// Read the address.
export function read() {
  const [name, query] = location.hash.replace(/^#[/]?/, "").split("?");
  panel = name;
  if (query === undefined) return;
  for (const key of Object.keys(DEFAULTS)) chosen.delete(key);
  const given = new URLSearchParams(query);
  for (const [key, value] of given) {
    if (key in DEFAULTS) chosen.set(key, value);
  }
}

// Change what is chosen, and tell those who draw it; what is drawn already changes quietly.
export function set(changes, { quietly = false } = {}) {
  for (const [key, value] of Object.entries(changes)) {
    if (value === DEFAULTS[key]) chosen.delete(key);
    else chosen.set(key, value);
  }
  history.replaceState(null, "", address(panel));
  for (const listener of listeners) listener(Object.keys(changes), quietly);
}

// The address of a panel with all that is chosen.
export function address(name) {
  const query = new URLSearchParams([...chosen]).toString();
  return query ? `#/${name}?${query}` : `#/${name}`;
}

// Tell all who draw that everything may be another.
export function announce() {
  for (const listener of listeners) listener(Object.keys(DEFAULTS));
}

export function onChange(listener) {
  listeners.add(listener);
}

// The format that is chosen, as requests take it: a name, or the fields of one that was made.
export function format() {
  const given = get("format");
  if (!given.startsWith("{")) return given;
  try {
    return JSON.parse(given);
  } catch {
    return given;
  }
}

// The format and the rule that are chosen, as requests take them.
export function rule() {
  return {
    format: format(),
    mode: get("mode"),
    overflow: get("overflow"),
    subnormals: get("subnormals"),
  };
}

// The fields in which one chooses: numbers, formats, rules, data.

import { ask } from "./transport.js";
import { h } from "./elements.js";
import { get, set, onChange } from "./state.js";

export const choices = await loaded();

async function loaded() {
  const [formats, examples] = await Promise.all([
    ask({ question: "formats" }),
    ask({ question: "examples" }),
  ]);
  return { ...formats, ...examples };
}

let fields = 0;

// A label and what it labels; a hint stands below.
export function labelled(label, input, hint) {
  fields += 1;
  input.id ||= `field-${fields}`;
  const below = hint ? h("small", { id: `${input.id}-hint` }, hint) : null;
  if (below) input.setAttribute("aria-describedby", below.id);
  return h("div", { class: "field" }, h("label", { for: input.id }, label), input, below);
}

// Keep a field equal to what is chosen, unless somebody is typing in it.
function follow(input, name) {
  onChange((names) => {
    if (names.includes(name) && document.activeElement !== input) input.value = get(name);
  });
  return input;
}

let waiting;

// Change after a short pause, so that typing is not answered letter by letter.
function later(changes) {
  clearTimeout(waiting);
  waiting = setTimeout(() => set(changes), 200);
}

export function textField(label, name, { hint, lines, also = {} } = {}) {
  const input = h(lines ? "textarea" : "input", {
    value: get(name),
    rows: lines,
    type: lines ? null : "text",
    spellcheck: "false",
    autocomplete: "off",
    autocapitalize: "off",
    class: "number",
    oninput: () => later({ [name]: input.value, ...also }),
    onchange: () => {
      clearTimeout(waiting);
      set({ [name]: input.value, ...also });
    },
  });
  return labelled(label, follow(input, name), hint);
}

export function selectField(label, name, options, hint) {
  const input = h(
    "select",
    { onchange: () => set({ [name]: input.value }) },
    options.map(([value, text]) => h("option", { value }, text ?? value)),
  );
  input.value = get(name);
  return labelled(label, follow(input, name), hint);
}

// Buttons that fill fields with an example.
export function presets(label, examples) {
  return h(
    "div",
    { class: "presets", role: "group", "aria-label": label },
    h("span", { class: "muted", "aria-hidden": "true" }, label),
    examples.map(([text, changes]) =>
      h("button", { type: "button", class: "chip", onclick: () => set(changes) }, text),
    ),
  );
}

// One of a few, all of them seen.
export function radios(label, name, options) {
  const inputs = options.map(([value, text]) => {
    const input = h("input", { type: "radio", name: `radio-${name}-${label}`, value });
    input.addEventListener("change", () => set({ [name]: value }));
    input.checked = get(name) === value;
    return [input, h("label", {}, input, h("span", {}, text))];
  });
  onChange((names) => {
    if (!names.includes(name)) return;
    for (const [input] of inputs) input.checked = get(name) === input.value;
  });
  return h(
    "fieldset",
    { class: "radios" },
    h("legend", {}, label),
    h("div", {}, inputs.map(([, whole]) => whole)),
  );
}

const KINDS = { float: "floating point", fixed: "fixed point" };
const OWN = "own";

// Choose a format of the catalogue, or make one of its fields.
export function formatField({ widest = "64" } = {}) {
  const known = Object.keys(KINDS).flatMap((kind) => choices.kinds[kind]);
  const groups = Object.entries(KINDS).map(([kind, label]) =>
    h(
      "optgroup",
      { label },
      choices.kinds[kind]
        .filter((each) => widest === "64" || each.is_small)
        .map((each) => h("option", { value: each.name }, each.name)),
    ),
  );
  const own = h("option", { value: OWN }, "your own …");
  const input = h("select", { class: "number" }, groups, own);
  const editor = h("div", { class: "editor" });
  let like = "e4m3";
  const show = () => {
    const given = get("format");
    const isOwn = given.startsWith("{");
    input.value = isOwn ? OWN : given;
    if (!isOwn) like = given;
    editor.hidden = !isOwn;
    if (isOwn && !editor.contains(document.activeElement)) editor.replaceChildren(made(given));
  };
  input.addEventListener("change", () => {
    if (input.value !== OWN) {
      set({ format: input.value, code: "" });
      return;
    }
    const from = known.find((each) => each.name === like) ?? known[0];
    set({ format: JSON.stringify({ kind: from.kind, ...from.fields }), code: "" });
    editor.querySelector("input, select")?.focus();
  });
  onChange((names) => names.includes("format") && show());
  show();
  return h("div", { class: "chooser" }, labelled("Format", input), editor);
}

const WORDS = {
  precision: "precision",
  exponent_bits: "exponent bits",
  bias: "bias",
  specials: "infinities and NaNs",
  has_subnormals: "subnormals",
  is_signed: "sign bit",
  has_negative_zero: "-0",
  integer_bits: "integer bits",
  fraction_bits: "fraction bits",
};

// The fields of a format of one's own.
function made(given) {
  const format = JSON.parse(given);
  const shown = { ...choices.defaults[format.kind], ...format };
  const change = (name, value) => {
    format[name] = value;
    set({ format: JSON.stringify(format), code: "" });
  };
  const kind = h(
    "select",
    {
      onchange: () => {
        const first = choices.kinds[kind.value].at(-1);
        const next = JSON.stringify({ kind: kind.value, ...first.fields });
        kind.blur();
        set({ format: next, code: "" });
      },
    },
    Object.entries(KINDS).map(([value, text]) => h("option", { value }, text)),
  );
  kind.value = format.kind;
  const inputs = choices.fields[format.kind].map((name) => {
    const value = shown[name];
    if (name === "specials") {
      const input = h(
        "select",
        { onchange: () => change(name, input.value) },
        choices.specials.map(([word, text]) => h("option", { value: word }, text)),
      );
      input.value = value;
      return labelled(WORDS[name], input);
    }
    if (name.startsWith("has_") || name.startsWith("is_")) {
      const input = h("input", { type: "checkbox", checked: value ?? false });
      input.indeterminate = value === null; // as the other fields have it
      input.addEventListener("change", () => change(name, input.checked));
      return h("label", { class: "check" }, input, ` ${WORDS[name]}`);
    }
    const input = h("input", { type: "number", step: "1", value: value ?? "" });
    input.addEventListener("input", () => change(name, input.value ? input.valueAsNumber : null));
    return labelled(WORDS[name], input);
  });
  return h(
    "fieldset",
    { class: "made" },
    h("legend", {}, "Your own format"),
    labelled("kind", kind),
    inputs,
  );
}

// Choose the rule of a rounding.
export function ruleFields() {
  const words = { mode: "Rounding", overflow: "Overflow", subnormals: "Below the normal range" };
  const selects = Object.entries(words).map(([name, label]) => {
    const own = name === "mode" ? [] : [["", "as the format has it"]];
    const options = choices.rule[name].map((each) => [
      each.value === "rne" ? "" : each.value,
      name === "mode" ? `${each.label} (${each.value})` : each.label,
    ]);
    return selectField(label, name, [...own, ...options]);
  });
  return h(
    "details",
    { class: "more" },
    h("summary", {}, "Rule of rounding"),
    h("div", { class: "controls" }, selects),
  );
}

let file = null;

// Choose the numbers of a tensor: an example, typed ones, or those of a file.
export function dataFields() {
  const tensors = h("div");
  const input = h("input", { type: "file", accept: ".npy,.safetensors" });
  input.addEventListener("change", async () => {
    const [chosen] = input.files;
    if (!chosen) return;
    if (chosen.size > choices.largest_file) {
      tensors.replaceChildren(
        h("p", { class: "error" }, `${chosen.name} has more than ${choices.largest_file} bytes.`),
      );
      return;
    }
    file = { name: chosen.name, file: await bytes(chosen), tensor: null };
    const found = await ask({ question: "tensors", ...file });
    const select = h(
      "select",
      {},
      (found.tensors ?? []).map((name) => h("option", { value: name }, name)),
    );
    select.addEventListener("change", () => {
      file.tensor = select.value;
      set({ source: "file" });
    });
    tensors.replaceChildren(...(found.tensors?.length ? [labelled("Tensor", select)] : []));
    set({ source: "file" });
  });
  const parts = {
    example: selectField(
      "Example",
      "example",
      choices.examples.map((each) => [each.name, each.label]),
    ),
    typed: textField("Numbers", "values", {
      lines: 3,
      hint: "Separated by commas or lines; 0.01 x 300 is 300 numbers.",
    }),
    file: h(
      "div",
      {},
      labelled("File", input, ".npy or .safetensors, at most 4 MB; it stays on this machine."),
      tensors,
    ),
  };
  const show = () => {
    for (const [name, part] of Object.entries(parts)) part.hidden = get("source") !== name;
  };
  onChange(show);
  show();
  const source = radios("Numbers from", "source", [
    ["example", "an example"],
    ["typed", "your text"],
    ["file", "a file"],
  ]);
  return h("div", { class: "data" }, source, Object.values(parts));
}

function bytes(chosen) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(",").pop());
    reader.onerror = reject;
    reader.readAsDataURL(chosen);
  });
}

// The numbers that are chosen, as requests take them; null where a file is not chosen yet.
export function data() {
  if (get("source") === "typed") return { values: get("values") };
  if (get("source") === "file") return file;
  return { example: get("example") };
}

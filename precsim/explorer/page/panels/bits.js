import { ask } from "../transport.js";
import { formatField, presets, ruleFields, textField } from "../controls.js";
import { arrow, facts, h, number } from "../elements.js";
import { format, get, rule, set } from "../state.js";

function answer() {
  if (get("code")) return ask({ question: "code", code: get("code"), format: format() });
  return ask({ question: "number", value: get("value"), ...rule() });
}

// The bits as buttons: one press turns one bit over.
function bits(said) {
  const all = said.fields.flatMap((field) => [...field.bits]);
  const places = all.keys();
  const groups = said.fields.map((field) => {
    const short = field.name.split(" ").pop();
    const buttons = [...field.bits].map((bit, within) => {
      const at = places.next().value;
      return h(
        "button",
        {
          type: "button",
          class: bit === "1" ? "bit one" : "bit",
          "data-key": `bit-${at}`,
          "aria-pressed": bit === "1" ? "true" : "false",
          "aria-label": `${field.name}, bit ${within + 1} of ${field.bits.length}: ${bit}`,
          onclick: () => {
            const turned = all.with(at, bit === "1" ? "0" : "1");
            set({ code: `0b${turned.join("")}`, value: get("value") });
          },
        },
        bit,
      );
    });
    return h(
      "div",
      { class: `group field-${short}`, role: "group", "aria-label": field.name },
      h("div", { class: "row" }, buttons),
      h(
        "span",
        { class: "name" },
        field.name,
        said.means[field.name] ? h("code", {}, said.means[field.name]) : null,
      ),
    );
  });
  return h("div", { class: "bits" }, groups);
}

function neighbour(text, label) {
  if (text === null) return "none";
  return h(
    "button",
    {
      type: "button",
      class: "chip number",
      "data-key": label,
      "aria-label": `go to the neighbour ${label}, ${text}`,
      onclick: () => set({ value: text, code: "" }),
    },
    text,
  );
}

function draw(said) {
  // The number follows the bits, so that it stays when the format is another.
  if (get("code")) set({ value: said.short }, { quietly: true });
  const error = said.errors;
  const wanted = said.given === null ? null : ["asked for", number(said.given)];
  const left = [
    wanted,
    ["exactly", h("span", { class: "number long" }, said.value)],
    ["in hexadecimal", number(said.hex_float)],
    said.code === null ? null : ["code", number(said.code)],
    said.derivation ? ["derived", h("span", { class: "number long" }, said.derivation)] : null,
  ];
  const right = [
    error ? ["error", `${error.absolute}, relative ${error.relative}`] : null,
    error ? ["error in ulp", error.ulp] : null,
    ["ulp here", number(said.ulp)],
    ["below", neighbour(said.neighbours[0], "below")],
    ["above", neighbour(said.neighbours[1], "above")],
    ["flags", said.flags.join(", ") || "none"],
  ];
  return [
    said.fields.length
      ? bits(said)
      : h("p", { class: "muted" }, "The format has no code for this result."),
    h(
      "p",
      { class: "value" },
      said.direction ? arrow(said.direction) : null,
      h("output", { class: "number", id: "value" }, said.shown),
      h("span", { class: `kind ${said.kind}` }, said.kind),
    ),
    said.why ? h("p", { class: "why" }, `Why: ${said.why}.`) : null,
    h("div", { class: "columns" }, facts(left.filter(Boolean)), facts(right.filter(Boolean))),
    h("h2", {}, "The format"),
    h("p", { class: "muted" }, `${said.name}: ${said.size}`),
    facts(said.facts, { class: "facts wide" }),
  ].filter(Boolean);
}

export default {
  title: "Bits",
  lead: "Type a number and see its bits, or turn a bit over and see the number.",
  fields: () => [
    textField("Number", "value", {
      also: { code: "" },
      hint: "3.14, 0x1.8p-3, 1/3, pi, 2^-24, 1e400, -0, nan",
    }),
    formatField(),
    ruleFields(),
    presets("Try", [
      ["0.1", { value: "0.1", code: "" }],
      ["1/3", { value: "1/3", code: "" }],
      ["pi", { value: "pi", code: "" }],
      ["2^-24", { value: "2^-24", code: "" }],
      ["1 + 2^-11", { value: "1+2^-11", code: "" }],
      ["65520", { value: "65520", code: "" }],
      ["-0", { value: "-0", code: "" }],
      ["nan", { value: "nan", code: "" }],
    ]),
  ],
  answer,
  draw,
  summary: (said) => `${said.shown} in ${said.name}, ${said.kind}`,
};

import { ask } from "../transport.js";
import { choices, labelled, presets, textField } from "../controls.js";
import { digits, facts, h, number, scrolled } from "../elements.js";
import { get, isDefault, onChange, set } from "../state.js";

// The machine and its operands: each machine has its own.
function machineFields() {
  const machine = h(
    "select",
    {},
    Object.keys(choices.machines).map((name) => h("option", { value: name }, name)),
  );
  const operands = h("select");
  const show = () => {
    machine.value = get("machine");
    const kinds = choices.machines[machine.value] ?? [];
    operands.replaceChildren(...kinds.map((name) => h("option", { value: name }, name)));
    operands.value = get("operands");
  };
  machine.addEventListener("change", () => {
    const kinds = choices.machines[machine.value];
    const kept = kinds.includes(get("operands")) ? get("operands") : kinds[0];
    set({ machine: machine.value, operands: kept });
  });
  operands.addEventListener("change", () => set({ operands: operands.value }));
  onChange((names) => {
    if (names.includes("machine") || names.includes("operands")) show();
  });
  show();
  return [labelled("Machine", machine), labelled("Operands", operands)];
}

// A row of bits: those that are kept, then those that are cut off.
function bits(text, kept, kind) {
  const [sign, ...cells] = [...text];
  return [
    h("td", { class: "sign" }, sign === "-" ? "−" : ""),
    cells.map((cell, at) =>
      h(
        "td",
        {
          class: [
            "cell",
            cell.trim() ? `bit-${cell}` : "blank",
            at < kept ? "kept" : "cut",
            at === kept ? "edge" : "",
            kind,
          ].join(" "),
        },
        cell.trim(),
      ),
    ),
  ];
}

function machine() {
  return `${get("machine")}:${get("operands")}`;
}

// Whether the machine multiplies its sums by scales at the end: then nothing is added to them.
function takesNoC() {
  return choices.without_c.includes(machine());
}

function step(said, at) {
  if (said.kind === "add") {
    return h(
      "p",
      {},
      "Two chains are added in ",
      `${said.in}: `,
      number(`${said.left} + ${said.right} = ${said.result}`),
      ".",
    );
  }
  if (said.kind === "output") {
    return h("p", {}, `Rounded to ${said.in}: `, number(`${said.left} → ${said.result}`), ".");
  }
  if (said.kind === "told" && !said.rows) {
    const line = said.exact === said.result ? said.result : `${said.exact} → ${said.result}`;
    return h("p", {}, `${said.name} = ${said.formula}: `, number(line), `, ${said.why}.`);
  }
  if (!said.rows) {
    return h("p", {}, `Step ${at}: the result is ${said.result}, without an alignment.`);
  }
  const how = said.how ?? "cut off";
  const places = h(
    "tr",
    { class: "places" },
    h("th", { scope: "col" }, "term"),
    h("td"),
    said.places.map((label, at) =>
      h("td", { class: at === said.kept ? "edge" : null }, label ? h("span", {}, label) : null),
    ),
    h("th", { scope: "col", class: "lost" }, said.how ? "lost" : "cut off"),
  );
  const rows = said.rows.map((each) =>
    h(
      "tr",
      {},
      h(
        "th",
        { scope: "row", title: each.value },
        each.text,
        each.count === 1 ? "" : `, ${each.count} times`,
      ),
      bits(each.bits, said.kept, "term"),
      h(
        "td",
        { class: "lost number" },
        each.lost === "0" ? "" : each.lost,
        each.lost === "0" || each.count === 1 ? "" : " each",
        each.goes_on ? " …" : "",
      ),
    ),
  );
  const sums = [
    ["sum of what is kept", said.total],
    ["rounded", said.rounded],
  ].map(([name, each]) =>
    h(
      "tr",
      { class: "sum" },
      h("th", { scope: "row" }, `${name}: ${each.value}`),
      bits(each.bits, said.kept, "total"),
      h("td", { class: "lost" }),
    ),
  );
  return h(
    "div",
    {},
    h("h2", {}, said.name ? `${said.name}: ${said.formula}` : `Step ${at}`),
    h(
      "p",
      { class: "muted" },
      `The largest exponent is that of ${said.largest}, so what is below ${said.unit} is ${how}. `,
      said.lost === "0" ? "Nothing is lost." : `Lost in all: ${said.lost}.`,
    ),
    scrolled(
      `Terms of ${said.name ?? `step ${at}`}`,
      "aligned",
      h("table", {}, h("thead", {}, places), h("tbody", {}, rows, sums)),
    ),
  );
}

function draw(said) {
  return [
    h(
      "p",
      { class: "value" },
      h("output", { class: "number" }, said.result.short),
      h("span", { class: "muted" }, ` on ${said.spec}; exact is ${said.exact}`),
    ),
    facts(
      [
        ...said.facts,
        ["rounded once", number(said.once)],
        ["error", said.errors ? said.errors.absolute || "0" : "not finite"],
        ["bits of the result", digits(said.result.fields)],
        said.scale ? ["scale of the arrays", number(said.scale)] : null,
      ].filter(Boolean),
      { class: "facts wide" },
    ),
    said.are_rounded
      ? h("p", { class: "muted" }, "The numbers are stored in the formats of the machine first.")
      : null,
    said.takes_c
      ? null
      : h("p", { class: "muted" }, "There is no c: scales multiply the sums at the end."),
    said.steps.map((each, at) => step(each, at + 1)),
  ]
    .flat()
    .filter(Boolean);
}

const FAMOUS = { a: "-2^13, -0.5, -0.25, -0.125", b: "2^10, 1, 1, 1", c: "2^23" };

export default {
  title: "Tensor cores",
  lead: "Terms are aligned, what is far below the largest is cut off, and the rest is added.",
  fields: () => [
    ...machineFields(),
    textField("a", "a", { hint: "one row" }),
    textField("b", "b", { hint: "one column, as long as a" }),
    textField("c", "c", { hint: "the accumulator's first value, or nothing" }),
    presets("Try", [
      ["-0.875 on v100", { ...FAMOUS, machine: "v100", operands: "fp16" }],
      ["on a100", { ...FAMOUS, machine: "a100", operands: "fp16" }],
      ["on h100", { ...FAMOUS, machine: "h100", operands: "fp16" }],
      ["on mi300x", { ...FAMOUS, machine: "mi300x", operands: "fp16" }],
      [
        "e4m3 on h100",
        { a: "1 x 31, 448", b: "2^-6 x 31, 1", c: "0", machine: "h100", operands: "e4m3" },
      ],
    ]),
  ],
  answer: () =>
    ask({
      question: "tensor_core",
      machine: machine(),
      a: get("a"),
      b: get("b"),
      c: takesNoC() && isDefault("c") ? null : get("c"),
    }),
  draw,
  summary: (said) => `${said.spec} gives ${said.result.short}, exact is ${said.exact}`,
};

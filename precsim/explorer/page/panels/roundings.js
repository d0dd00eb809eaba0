import { ask } from "../transport.js";
import { formatField, presets, ruleFields, textField } from "../controls.js";
import { allAgree, arrow, digits, h, number, row, table } from "../elements.js";
import { get, rule } from "../state.js";

const PARTS = {
  mode: "Rounding modes",
  overflow: "Overflow rules",
  subnormals: "Rules below the normal range",
};
const HEADS = ["rule", "name", "value", "bits", "way", "error in ulp", "flags", "why"];

function line(each, label) {
  return row(
    [
      label ?? each.label,
      h("code", {}, each.name),
      number(each.short),
      digits(each.fields),
      arrow(each.direction),
      number(each.errors?.ulp ?? ""),
      each.flags.join(", "),
      each.why ?? "",
    ],
    { class: each.is_chosen ? "chosen" : null },
  );
}

function draw(said) {
  const tables = Object.entries(PARTS).map(([part, title]) => {
    const rows = said.rows.filter((each) => each.part === part);
    if (!rows.length) return [];
    if (part !== "mode" && rows.every((each) => each.short === rows[0].short)) {
      return [h("h2", {}, title), allAgree(rows[0].short)];
    }
    const lines = rows.flatMap((each) => {
      if (!each.also) return [line(each)];
      const also = { ...each.also, name: each.name, why: each.also.chance };
      return [line({ ...each, why: "otherwise" }), line(also, "or")];
    });
    return [h("h2", {}, title), table(title, HEADS, lines, { class: "flat" })];
  });
  return [
    h("p", {}, "The number is ", number(said.given), "."),
    ...tables.flat(),
  ];
}

export default {
  title: "Roundings",
  lead: "One number under every rounding mode, overflow rule and rule for small numbers.",
  fields: () => [
    textField("Number", "value", { also: { code: "" } }),
    formatField(),
    ruleFields(),
    presets("Try", [
      ["a tie", { value: "2.5", format: "q7.8", code: "" }],
      ["0.1 in bf16", { value: "0.1", format: "bf16", code: "" }],
      ["-464 in e4m3", { value: "-464", format: "e4m3", code: "" }],
      ["2^-15 in fp16", { value: "1.7*2^-15", format: "fp16", code: "" }],
    ]),
  ],
  answer: () => ask({ question: "roundings", value: get("value"), ...rule() }),
  draw,
  summary: (said) => `${said.given} under ${said.rows.length} rules of ${said.spec}`,
};

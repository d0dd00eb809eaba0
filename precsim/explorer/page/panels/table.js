import { ask } from "../transport.js";
import { formatField } from "../controls.js";
import { digits, facts, h, number, row, table } from "../elements.js";
import { address, format, get, set } from "../state.js";

const KINDS = ["zero", "subnormal", "normal", "infinity", "NaN"];
const hidden = new Set();
let looked = "";

function draw(said) {
  const lines = said.rows.map((each) => {
    const go = h(
      "button",
      {
        type: "button",
        class: "chip number",
        "aria-label": `show the bits of ${each.code}`,
        onclick: () => {
          set({ code: each.code });
          location.hash = address("bits");
        },
      },
      each.code,
    );
    const line = row(
      [
        go,
        digits(each.fields),
        number(each.short),
        number(each.hex_float),
        h("span", { class: `kind ${each.kind}` }, each.kind),
        each.name,
      ],
      { class: "number" },
    );
    const words = [each.code, each.binary, each.value, each.short, each.kind, each.name].join(" ");
    return { line, kind: each.kind, words: words.toLowerCase() };
  });
  const map = h(
    "div",
    { class: "map", "aria-hidden": "true" },
    said.rows.map((each) =>
      h("span", { class: each.kind, title: `${each.code}: ${each.short}` }),
    ),
  );
  const count = h("p", { class: "muted", role: "status" });
  const filter = () => {
    for (const { line, kind, words } of lines) {
      line.hidden = hidden.has(kind) || !words.includes(looked);
    }
    const seen = lines.filter(({ line }) => !line.hidden);
    count.textContent = `${seen.length} of ${said.count} codes are listed.`;
  };
  const present = KINDS.filter((kind) => lines.some((line) => line.kind === kind));
  const boxes = present.map((kind) => {
    const input = h("input", { type: "checkbox", checked: !hidden.has(kind) });
    input.addEventListener("change", () => {
      if (input.checked) hidden.delete(kind);
      else hidden.add(kind);
      filter();
    });
    return h("label", { class: "check" }, input, h("span", { class: `kind ${kind}` }, kind));
  });
  const search = h("input", { type: "search", id: "table-search", value: looked, class: "number" });
  search.addEventListener("input", () => {
    looked = search.value.trim().toLowerCase();
    filter();
  });
  filter();
  const move = (label, first) =>
    first === null
      ? null
      : h(
          "button",
          { type: "button", "data-key": label, onclick: () => set({ first: String(first) }) },
          label,
        );
  return [
    h("p", { class: "muted" }, said.size),
    facts(said.facts, { class: "facts wide" }),
    map,
    h(
      "div",
      { class: "controls" },
      h("div", { class: "field" }, h("label", { for: "table-search" }, "Find"), search),
      h(
        "fieldset",
        { class: "boxes" },
        h("legend", {}, "Classes"),
        h("div", {}, boxes),
      ),
      h(
        "div",
        { class: "pages" },
        move("previous codes", said.before),
        move("next codes", said.after),
      ),
    ),
    count,
    table(
      "Codes and values",
      ["code", said.names.join(", "), "value", "in hexadecimal", "class", "name"],
      lines.map(({ line }) => line),
      { class: "tall" },
    ),
  ];
}

export default {
  title: "Value table",
  lead: "Every code of a small format with its value; of one up to 16 bits, page by page.",
  fields: () => [formatField({ widest: "16" })],
  answer: () => ask({ question: "table", format: format(), first: get("first") }),
  draw,
  summary: (said) => `${said.count} codes`,
};

import { ask } from "../transport.js";
import { formatField, presets, radios, ruleFields, textField } from "../controls.js";
import { allAgree, arrow, h, number, picture, row, table } from "../elements.js";
import { get, rule } from "../state.js";

const PARTS = {
  mode: "Rounding",
  overflow: "Overflow",
  subnormals: "Below the normal range",
};

function answer() {
  return ask({
    question: "line",
    value: get("value"),
    view: get("view"),
    scale: get("scale"),
    ...rule(),
  });
}

function line(said) {
  const points = said.points.map((point) =>
    h(
      "span",
      { class: `tick ${point.kind} row-${point.row}`, "--at": point.at, title: point.short },
      point.row ? h("span", { class: `label number ${point.side}` }, point.short) : null,
    ),
  );
  const cells = said.cells.map((cell) =>
    h("span", {
      class: "cell",
      "--at": cell.from,
      "--span": cell.span,
      title: `${cell.interval} becomes ${cell.short}`,
    }),
  );
  const mark =
    said.at === null ? null : h("span", { class: "mark", "--at": said.at, title: said.given });
  return picture(
    `The values of ${said.spec} on a line, and ${said.given} among them.`,
    h(
      "div",
      { class: "line" },
      h("div", { class: "cells" }, cells),
      h("div", { class: "axis" }, points, mark),
    ),
  );
}

function lane(each) {
  const ways = each.ways.filter(Boolean).map((way) => [
    h("span", { class: "way", "--at": way.from, "--span": way.span }),
    h("span", { class: "end", "--at": way.to }),
  ]);
  const results = [
    number(each.short),
    each.also
      ? h("span", { class: "muted" }, ` or ${each.also.short}, ${each.also.chance}`)
      : null,
  ];
  return h(
    "li",
    { class: each.is_chosen ? "lane chosen" : "lane" },
    h("span", { class: "rule" }, each.label, " ", h("code", {}, each.name)),
    h("span", { class: "track", "aria-hidden": "true" }, ways, startOf(each)),
    h("span", { class: "result" }, arrow(each.direction), " ", results),
  );
}

function startOf(each) {
  return each.at === null ? null : h("span", { class: "start", "--at": each.at });
}

function draw(said) {
  const beyond = said.is_beyond ? " It is beyond the end of the drawing." : "";
  const few = said.are_powers
    ? "Powers of two and the ends of the range are drawn, as all values would be too many."
    : "";
  const groups = Object.entries(PARTS).map(([part, title]) => {
    const lanes = said.lanes.filter((each) => each.part === part);
    if (!lanes.length) return [];
    if (part !== "mode" && lanes.every((each) => each.short === lanes[0].short)) {
      return [h("h2", {}, title), allAgree(lanes[0].short)];
    }
    return [
      h("h2", {}, title),
      h("ul", { class: "lanes" }, lanes.map((each) => lane({ ...each, at: said.at }))),
    ];
  });
  const cells = said.cells.length
    ? h(
        "details",
        { class: "more" },
        h("summary", {}, "Which numbers go to each value"),
        table(
          "Which numbers go to each value",
          ["value", "numbers that become it"],
          said.cells.map((cell) => row([cell.short, cell.interval], { class: "number" })),
        ),
      )
    : null;
  return [
    line(said),
    h(
      "p",
      { class: "muted" },
      `The mark is the number, ${said.given}.${beyond} `,
      said.cells.length ? "Each band is what becomes one value. " : "",
      few,
    ),
    cells,
    groups,
  ]
    .flat(2)
    .filter(Boolean);
}

export default {
  title: "Number line",
  lead: "Where the values of a format are, and where a number goes under every rule.",
  fields: () => [
    textField("Number", "value", { also: { code: "" } }),
    formatField(),
    radios("Show", "view", [
      ["number", "around the number"],
      ["zero", "around zero"],
      ["whole", "the whole range"],
    ]),
    radios("Scale", "scale", [
      ["linear", "linear"],
      ["log", "logarithmic"],
    ]),
    ruleFields(),
    presets("Try", [
      ["a tie", { value: "1+2^-4", format: "e4m3", view: "number", scale: "linear", code: "" }],
      ["too large", { value: "464", format: "e4m3", view: "number", scale: "linear", code: "" }],
      ["a subnormal", { value: "0.004", format: "e4m3", view: "zero", scale: "linear", code: "" }],
      ["six", { value: "2.6", format: "e2m1", view: "whole", scale: "linear", code: "" }],
    ]),
  ],
  answer,
  draw,
  summary: (said) => `${said.given} on the line of ${said.spec}`,
};

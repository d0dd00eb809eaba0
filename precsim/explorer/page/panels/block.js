import { ask } from "../transport.js";
import { choices, presets, selectField, textField } from "../controls.js";
import { digits, facts, h, number, picture, row, table } from "../elements.js";
import { get } from "../state.js";

function lanes(said) {
  return picture(
    `Numbers and what ${said.spec} makes of them, on one axis around zero.`,
    h(
      "div",
      { class: "strips" },
      said.rows.map((each) =>
        h(
          "div",
          {
            class: each.is_lost ? "strip lost" : "strip",
            title: `${each.given} becomes ${each.value}`,
          },
          h("span", { class: "zero", "--at": said.zero }),
          h("span", { class: "start", "--at": each.at }),
          h("span", { class: "end", "--at": each.to }),
        ),
      ),
    ),
    h(
      "p",
      { class: "legend" },
      h("span", { class: "key start" }, "the number"),
      h("span", { class: "key end" }, "what is stored"),
    ),
  );
}

function scale(each, said, at) {
  return h(
    "div",
    { class: "scale" },
    h("p", {}, h("strong", {}, `Scale of block ${at}: `), number(each.scale.short)),
    digits(each.scale.fields),
    h("p", { class: "muted" }, `${said.scale_format}; the largest magnitude is ${each.largest}`),
  );
}

function draw(said) {
  return [
    h(
      "p",
      { class: "value" },
      h("output", { class: "number" }, said.lost),
      h("span", { class: "muted" }, " of the numbers become zero"),
    ),
    facts(
      [
        ["elements", said.element],
        ["a scale for", `${said.block_size} numbers`],
        ["bits per number", said.bits_per_element],
        ["scale from the largest", said.rule],
        said.tensor_scale
          ? ["scale of the tensor", number(said.tensor_scale)]
          : null,
      ].filter(Boolean),
      { class: "facts wide" },
    ),
    h("div", { class: "scales" }, said.blocks.map((each, at) => scale(each, said, at + 1))),
    lanes(said),
    table(
      "Numbers and what is stored",
      ["number", "bits", "element", "value", "error", "relative error"],
      said.rows.map((each) =>
        row(
          [
            each.given,
            digits(each.element.fields),
            each.element.short,
            each.value,
            each.error,
            each.relative,
          ],
          { class: each.is_lost ? "number swallowed" : "number" },
        ),
      ),
    ),
  ];
}

export default {
  title: "Blocks",
  lead: "Neighbours in a block share one scale, so that one large number costs the small ones.",
  fields: () => [
    textField("Numbers", "elements", {
      lines: 3,
      hint: "Separated by commas or lines, up to 128.",
    }),
    selectField(
      "Block format",
      "block",
      choices.kinds.block.map((each) => [each.name]),
    ),
    presets("Try", [
      ["MXFP4", { block: "mxfp4" }],
      ["NVFP4", { block: "nvfp4" }],
      ["MXFP8", { block: "mxfp8_e4m3" }],
      ["an outlier", { elements: "0.11, -0.42, 0.9, 1.3, -0.07, 0.3, 96, -0.5, 0.6, -1.1, 0.25" }],
      ["a small block", { elements: "1, 2, 3, 4, 5, 6, 7, 8" }],
    ]),
  ],
  answer: () => ask({ question: "block", values: get("elements"), format: get("block") }),
  draw,
  summary: (said) => `${said.spec}: ${said.lost} of the numbers become zero`,
};

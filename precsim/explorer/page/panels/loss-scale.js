import { ask } from "../transport.js";
import { data, dataFields, formatField, labelled } from "../controls.js";
import { h, picture } from "../elements.js";
import { format, get, set } from "../state.js";
import { bars, counts, range, ticks } from "./histogram.js";

function draw(said) {
  const kept = said.scales.findIndex((each) => each.label === get("power"));
  const slider = h("input", {
    type: "range",
    min: "0",
    max: String(said.scales.at(-1).index),
    step: "1",
    value: String(kept in said.scales ? kept : said.one),
    "data-key": "scale",
  });
  const moving = h("div", { class: "bars moving" }, bars(said.bins));
  const now = h("p", { class: "value", role: "status" });
  const show = () => {
    const each = said.scales[slider.value];
    slider.setAttribute("aria-valuetext", `loss scale ${each.label}`);
    moving.style.setProperty("--shift", each.shift);
    now.replaceChildren(
      h("output", { class: "number" }, `× ${each.label}`),
      h("span", { class: each.zero ? "loss" : "loss none" }, `${each.underflow} become zero`),
      h("span", { class: each.over ? "loss" : "loss none" }, `${each.overflow} overflow`),
      h("span", { class: each.clipped ? "loss" : "loss none" }, `${each.saturated} saturate`),
    );
  };
  slider.addEventListener("input", show);
  slider.addEventListener("change", () => set({ power: said.scales[slider.value].label }));
  show();
  const best = said.scales[said.best];
  return [
    counts(said),
    labelled("Loss scale", slider),
    now,
    picture(
      `The gradients, moved by the loss scale over the range of ${said.spec}.`,
      h(
        "div",
        { class: "histogram one" },
        h("span", { class: "window", "--at": said.range.at, "--span": said.range.subnormal }),
        h("span", {
          class: "window full",
          "--at": said.range.normal_at,
          "--span": said.range.normal,
        }),
        moving,
        ticks(said),
        range(said.range),
      ),
      h(
        "p",
        { class: "legend" },
        h("span", { class: "key normal" }, "normal"),
        h("span", { class: "key subnormal" }, "subnormal: fewer digits"),
      ),
    ),
    h(
      "p",
      {},
      `Fewest are lost at ${best.label}: `,
      `${best.underflow} become zero, ${best.overflow} overflow, ${best.saturated} saturate. `,
      h(
        "button",
        { type: "button", "data-key": "best", onclick: () => set({ power: best.label }) },
        `Take ${best.label}`,
      ),
    ),
  ];
}

export default {
  title: "Loss scaling",
  lead: "Gradients too small for a format are multiplied first. Move them into its range.",
  fields: () => [dataFields(), formatField()],
  answer: () => {
    const numbers = data();
    if (!numbers) return { error: "Choose a file." };
    return ask({ question: "loss_scales", format: format(), ...numbers });
  },
  draw,
  summary: (said) => `${said.range.underflow} become zero in ${said.spec} without a scale`,
};

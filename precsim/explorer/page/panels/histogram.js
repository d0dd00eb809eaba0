import { ask } from "../transport.js";
import { choices, data, dataFields } from "../controls.js";
import { h, picture, row, table } from "../elements.js";
import { get, onChange, set } from "../state.js";

// Which formats have their range drawn.
function formatBoxes() {
  const names = ["fp32", "fp16", "bf16", "e4m3", "e5m2", "e2m1", "q3.12", "q3.4"].filter((name) =>
    [...choices.kinds.float, ...choices.kinds.fixed].some((each) => each.name === name),
  );
  const boxes = names.map((name) => {
    const input = h("input", { type: "checkbox", value: name });
    input.addEventListener("change", () => {
      const kept = boxes.filter(([box]) => box.checked).map(([box]) => box.value);
      set({ formats: kept.join(",") });
    });
    return [input, h("label", { class: "check" }, input, ` ${name}`)];
  });
  const show = () => {
    const chosen = get("formats").split(",");
    for (const [box] of boxes) box.checked = chosen.includes(box.value);
  };
  onChange(show);
  show();
  return h(
    "fieldset",
    { class: "boxes" },
    h("legend", {}, "Ranges of"),
    h("div", {}, boxes.map(([, label]) => label)),
  );
}

export function counts(said) {
  const words = [`${said.said}: ${said.count} numbers`, `${said.zeros} zeros`];
  if (said.infinities) words.push(`${said.infinities} infinities`);
  if (said.nans) words.push(`${said.nans} NaNs`);
  return h(
    "p",
    { class: "muted" },
    `${words.join(", ")}. Magnitudes from ${said.smallest} to ${said.largest}.`,
  );
}

export function bars(bins) {
  return bins.map((bin) =>
    h("span", {
      class: "bar",
      "--at": bin.at,
      "--span": bin.width,
      "--height": bin.height,
      title: `${bin.exponent}: ${bin.count}`,
    }),
  );
}

export function ticks(said) {
  return h(
    "div",
    { class: "scale-line" },
    said.ticks.map((tick) => h("span", { "--at": tick.at }, tick.label)),
  );
}

export function range(each) {
  return h(
    "div",
    { class: "range" },
    h("span", { class: "name" }, each.name),
    h("span", { class: "subnormal", "--at": each.at, "--span": each.subnormal }),
    h("span", { class: "normal", "--at": each.normal_at, "--span": each.normal }),
  );
}

function draw(said) {
  return [
    counts(said),
    picture(
      `How many magnitudes have each binary exponent, over the ranges of ${get("formats")}.`,
      h(
        "div",
        { class: "histogram" },
        h("div", { class: "bars" }, bars(said.bins)),
        ticks(said),
        said.formats.map(range),
      ),
      h(
        "p",
        { class: "legend" },
        h("span", { class: "key normal" }, "normal"),
        h("span", { class: "key subnormal" }, "subnormal: fewer digits"),
      ),
    ),
    table(
      "What each format loses",
      ["format", "made zero", "overflow", "saturate"],
      said.formats.map((each) =>
        row([each.name, each.underflow, each.overflow, each.saturated], { class: "number" }),
      ),
    ),
  ];
}

export default {
  title: "Histogram",
  lead: "The binary exponents of a tensor, and the ranges of formats over them.",
  fields: () => [dataFields(), formatBoxes()],
  answer: () => {
    const numbers = data();
    if (!numbers) return { error: "Choose a file." };
    const formats = get("formats").split(",").filter(Boolean);
    return ask({ question: "histogram", formats, ...numbers });
  },
  draw,
  summary: (said) =>
    said.formats.map((each) => `${each.name} makes ${each.underflow} zero`).join(", "),
};

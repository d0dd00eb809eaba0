import { ask } from "../transport.js";
import { choices, formatField, presets, selectField, textField } from "../controls.js";
import { digits, facts, h, number, picture, row, s, table } from "../elements.js";
import { get, rule } from "../state.js";

function request(question) {
  const { format, mode } = rule();
  return {
    question,
    addends: get("addends"),
    arrangement: get("arrangement"),
    order: get("order"),
    format,
    mode,
  };
}

function path(points) {
  return points.map((point) => point.join(",")).join(" ");
}

function chart(said) {
  if (!said.path) return null;
  const lines = s(
    "svg",
    { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("polyline", { class: "exact", points: path(said.path.exact) }),
    s("polyline", { class: "sums", points: path(said.path.sums) }),
  );
  return picture(
    `The running sum in ${said.spec} beside the exact one, over ${said.path.count} additions.`,
    h(
      "div",
      { class: "chart" },
      h("span", { class: "high number" }, said.path.high),
      h("span", { class: "low number" }, said.path.low),
      h("span", { class: "last" }, `${said.path.count} additions`),
      lines,
    ),
    h(
      "p",
      { class: "legend" },
      h("span", { class: "key exact" }, "exact"),
      h("span", { class: "key sums" }, said.spec),
    ),
  );
}

function steps(said) {
  const has = (name) => said.rows.some((each) => each[name]);
  const columns = [
    ["addition", (each) => each.at],
    has("group") ? ["part", (each) => each.group] : null,
    ["sum so far", (each) => each.left],
    ["added", (each) => each.right],
    ["result", (each) => each.result],
    ["lost", (each) => (each.is_swallowed ? `${each.lost}, all of it` : each.lost)],
    has("carried") ? ["kept aside", (each) => each.carried ?? ""] : null,
  ].filter(Boolean);
  return table(
    "Every addition",
    columns.map(([head]) => head),
    said.rows.map((each) =>
      row(
        columns.map(([, cell]) => String(cell(each))),
        { class: each.is_swallowed ? "number swallowed" : "number" },
      ),
    ),
    { class: "tall" },
  );
}

function orders() {
  const place = h("div");
  const button = h(
    "button",
    {
      type: "button",
      onclick: async () => {
        button.disabled = true;
        const found = await ask(request("orders"));
        button.disabled = false;
        if (found.error) {
          place.replaceChildren(h("p", { class: "error", role: "alert" }, found.error));
          return;
        }
        place.replaceChildren(
          h("p", { class: "muted" }, "The exact sum is ", number(found.near), "."),
          table(
            "The sum in every order",
            ["order", "arranged", "result", "error in ulp"],
            found.rows.map((each) =>
              row([each.order, each.arrangement, each.result, each.error ?? ""], {
                class: "number",
              }),
            ),
          ),
        );
      },
    },
    "Compare every order",
  );
  return h("div", {}, button, place);
}

function draw(said) {
  return [
    h(
      "p",
      { class: "value" },
      h("output", { class: "number" }, said.result.short),
      h("span", { class: "muted" }, ` instead of ${said.near}`),
    ),
    facts(
      [
        ["exact sum", h("span", { class: "number long" }, said.exact)],
        ["rounded once", number(said.once)],
        ["error", said.errors ? `${said.errors.absolute}, ${said.errors.ulp} ulp` : "not finite"],
        ["swallowed", `${said.swallowed} of ${said.count}`],
        ["bits of the result", digits(said.result.fields)],
      ],
      { class: "facts wide" },
    ),
    said.are_rounded
      ? h("p", { class: "muted" }, `The addends are stored in ${said.spec} first.`)
      : null,
    chart(said),
    said.rows.length ? steps(said) : h("p", { class: "muted" }, "The exact sum is rounded once."),
    orders(),
  ].filter(Boolean);
}

const PLAIN = { order: "sequential", arrangement: "as given", mode: "" };

export default {
  title: "Sums",
  lead: "A running sum swallows small addends. Watch it, and try another order.",
  fields: () => [
    textField("Addends", "addends", {
      lines: 2,
      hint: "Separated by commas or lines; 0.01 x 1000 is 1000 addends.",
    }),
    formatField(),
    selectField(
      "Rounding",
      "mode",
      choices.rule.mode.map((each) => [each.value === "rne" ? "" : each.value, each.label]),
    ),
    selectField(
      "Arranged",
      "arrangement",
      choices.arrangements.map((each) => [each]),
    ),
    selectField(
      "Added",
      "order",
      choices.orders.map((each) => [each.value, each.label]),
    ),
    presets("Try", [
      ["0.01 a thousand times", { ...PLAIN, addends: "0.01 x 1000", format: "bf16" }],
      ["stochastic", { ...PLAIN, addends: "0.01 x 1000", format: "bf16", mode: "sr" }],
      ["2048 and ones", { ...PLAIN, addends: "2048, 1 x 9", format: "fp16" }],
      ["Kahan", { ...PLAIN, addends: "2048, 1 x 9", format: "fp16", order: "kahan" }],
      ["cancellation", { ...PLAIN, addends: "1e4, 1, -1e4", format: "fp16" }],
    ]),
  ],
  answer: () => ask(request("sum")),
  draw,
  summary: (said) => `The sum is ${said.result.short}, ${said.swallowed} addends are swallowed`,
};

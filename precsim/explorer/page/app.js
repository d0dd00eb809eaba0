// The frame of the page: which panel is shown, the look, the link, who answers.

import { connect } from "./transport.js";
import { h } from "./elements.js";
import { address, announce, currentPanel, onChange, read } from "./state.js";

const NAMES = [
  "bits", "line", "roundings", "table", "sum", "tensor-core", "block", "histogram", "loss-scale",
];

const loading = document.getElementById("loading");
const main = document.getElementById("panels");
const links = document.getElementById("links");

setUpLook();
setUpLink();

const about = await connect((text) => {
  loading.textContent = text;
});
if (about.error) {
  loading.textContent = about.error;
  throw new Error(about.error);
}
document.getElementById("about").textContent =
  `precsim ${about.precsim} on Python ${about.python}, ${about.where}. ` +
  "Every number here is computed by precsim; the page only draws.";

read();
const panels = new Map();
for (const name of NAMES) {
  const { default: panel } = await import(`./panels/${name}.js`);
  panels.set(name, { ...panel, ...built(name, panel) });
}
loading.remove();
addEventListener("hashchange", () => {
  read();
  if (show()) {
    announce();
    main.focus({ preventScroll: true });
  }
});
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
onChange((_names, isDrawn) => {
  for (const { link, name } of panels.values()) link.setAttribute("href", address(name));
  if (!isDrawn) refresh();
});
if (show()) refresh();

// Make the frame of a panel; what is inside is made when it is first shown.
function built(name, panel) {
  const link = h("a", { href: address(name) }, panel.title);
  links.append(h("li", {}, link));
  const error = h("p", { class: "error", role: "alert", hidden: true });
  const output = h("div", { class: "output" });
  const status = h("p", { class: "hidden", role: "status" });
  const controls = h("div", { class: "controls" });
  const section = h(
    "section",
    { id: `panel-${name}`, "aria-labelledby": `title-${name}`, hidden: true },
    h("h1", { id: `title-${name}` }, panel.title),
    h("p", { class: "lead" }, panel.lead),
    controls,
    error,
    status,
    output,
  );
  main.append(section);
  return { name, link, section, controls, error, status, output };
}

// Show the panel that the address names; false if the address is changed first.
function show() {
  const chosen = panels.get(currentPanel()) ?? panels.get(NAMES[0]);
  if (chosen.name !== currentPanel()) {
    location.replace(address(chosen.name));
    return false;
  }
  for (const panel of panels.values()) {
    panel.section.hidden = panel !== chosen;
    if (panel === chosen) {
      panel.link.setAttribute("aria-current", "page");
      panel.link.scrollIntoView({ block: "nearest", inline: "center" });
    } else {
      panel.link.removeAttribute("aria-current");
    }
    panel.link.setAttribute("href", address(panel.name));
  }
  document.title = `${chosen.title} · precsim explorer`;
  if (!chosen.controls.children.length) chosen.controls.append(...chosen.fields());
  return true;
}

// Ask again, and draw the answer unless a newer question was asked meanwhile.
async function refresh() {
  const panel = panels.get(currentPanel());
  if (!panel) return;
  const ticket = Symbol("ticket");
  panel.ticket = ticket;
  panel.section.setAttribute("aria-busy", "true");
  const answer = await panel.answer();
  if (panel.ticket !== ticket) return;
  panel.section.setAttribute("aria-busy", "false");
  panel.error.hidden = !answer?.error;
  panel.error.textContent = answer?.error ?? "";
  panel.output.classList.toggle("old", Boolean(answer?.error));
  if (!answer || answer.error) return;
  const focused = document.activeElement?.dataset?.key;
  panel.output.replaceChildren(...panel.draw(answer));
  panel.status.textContent = panel.summary(answer);
  if (focused) panel.output.querySelector(`[data-key="${focused}"]`)?.focus();
}

function setUpLook() {
  const select = document.getElementById("theme");
  const root = document.documentElement;
  let kept = "auto";
  try {
    kept = localStorage.getItem("precsim-look") ?? "auto";
  } catch {
    // Without storage the look lasts as long as the page.
  }
  const look = (value) => {
    root.dataset.look = value;
    select.value = value;
  };
  look(kept);
  select.addEventListener("change", () => {
    look(select.value);
    try {
      localStorage.setItem("precsim-look", select.value);
    } catch {
      // As above.
    }
  });
}

function setUpLink() {
  const button = document.getElementById("link");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Copy it from the address bar";
    }
    setTimeout(() => {
      button.textContent = "Copy link";
    }, 2000);
  });
}


import { connect, ask } from "./transport.js";

const status = document.getElementById("status");
const about = await connect((text) => { status.textContent = text; });
status.textContent = `precsim ${about.precsim}, Python ${about.python}, ${about.where}`;
const found = await ask({ question: "number", value: "0.1", format: "fp16" });
document.getElementById("panels").textContent = found.derivation;

// The way from the page to Python: a worker of this tab, which runs the real package (worker.js).
// It has the functions of the transport that it replaces, ../page/transport.js.

const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
const waiting = new Map(); // the number of a request -> what resolves it
let asked = 0;

export function connect(say) {
  say("Loading Python into this tab.");
  return new Promise((resolve) => {
    const fail = (line) => {
      worker.terminate(); // else what still loads would be told over the line
      say(line);
      resolve({ error: line });
    };
    worker.onerror = (event) => fail(`The page's worker failed: ${event.message ?? "not found"}`);
    worker.onmessage = ({ data }) => {
      if ("loaded" in data) say(`Loading Python into this tab: ${data.loaded} %.`);
      if ("failed" in data) fail(data.failed);
      if ("ready" in data) resolve({ ...data.ready, where: "in this tab, without a server" });
      if ("answer" in data) {
        waiting.get(data.number)(data.answer);
        waiting.delete(data.number);
      }
    };
  });
}

export function ask(request) {
  return new Promise((resolve) => {
    asked += 1;
    waiting.set(asked, resolve);
    worker.postMessage({ number: asked, request });
  });
}

// Runs the package in this tab: CPython (Pyodide) and precsim, both from files beside this one.
// It is sent {number, request} and sends {number, answer}. While it starts it sends {loaded}, the
// percentage of the bytes that have come, then {ready}, the answer to "about", or {failed}, a line.

import { packageFile, start } from "./python.js";

// Count the bytes of everything that is fetched from here on, by Pyodide too.
function countBytes(total) {
  const plainFetch = self.fetch;
  let seen = 0;
  let told = -1;
  self.fetch = async (...given) => {
    const response = await plainFetch(...given);
    if (!response.ok) throw new Error(`${response.url} is missing (${response.status})`);
    const counter = new TransformStream({
      transform(chunk, stream) {
        seen += chunk.byteLength;
        const loaded = Math.min(100, Math.floor((100 * seen) / total));
        if (loaded > told) postMessage({ loaded });
        told = loaded;
        stream.enqueue(chunk);
      },
    });
    const { status, statusText, headers } = response;
    return new Response(response.body.pipeThrough(counter), { status, statusText, headers });
  };
}

async function startHere() {
  const made = await (await fetch("made.json")).json();
  if (made.fault) throw new Error(made.fault);
  countBytes(made.bytes);
  const bytes = fetch(packageFile).then((response) => response.arrayBuffer());
  const { loadPyodide } = await import("./pyodide/pyodide.mjs");
  return (await start(loadPyodide, bytes)).answer;
}

const started = startHere();
started.then(
  (answer) => postMessage({ ready: answer({ question: "about" }) }),
  (error) => postMessage({ failed: `Python cannot be loaded into this tab: ${error.message}` }),
);

self.onmessage = async ({ data: { number, request } }) => {
  const answer = await started;
  try {
    postMessage({ number, answer: answer(request) });
  } catch (error) {
    const lines = error.message.trim().split("\n"); // of a traceback the last one says what happened
    postMessage({ number, answer: { error: lines.at(-1) } });
  }
};

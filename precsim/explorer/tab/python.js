// Starts Python with the package in it: in the worker of a tab, and where the folder is built.

export const packageFile = "precsim.zip";

// Return the interpreter, and what answers a request.
export async function start(loadPyodide, packageBytes) {
  const [python, bytes] = await Promise.all([loadPyodide(), packageBytes]);
  python.FS.writeFile(`/${packageFile}`, new Uint8Array(bytes));
  const answer = python.runPython(`
import json, sys
sys.path.insert(0, "/${packageFile}")
from precsim.explorer.answers import answer
lambda text: json.dumps(answer(json.loads(text)), allow_nan=False)
`);
  return { python, answer: (request) => JSON.parse(answer(JSON.stringify(request))) };
}

// node bytecode.mjs FOLDER
// Adds to the two zip files of the folder the bytecode of the modules that the page starts with, so
// that no tab compiles them again: Python then starts in less than half the time.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const folder = process.argv[2];
const load = (name) => import(pathToFileURL(join(folder, name)).href);
const { packageFile, start } = await load("python.js");
const { loadPyodide } = await load("pyodide/pyodide.mjs");

const { python, answer } = await start(loadPyodide, readFileSync(join(folder, packageFile)));
answer({ question: "formats" });
const add = python.runPython("from precsim.explorer.bytecode import add_bytecode; add_bytecode");
const library = python.runPython("next(path for path in sys.path if path.startswith('/lib/'))");
const archives = { [packageFile]: `/${packageFile}`, "pyodide/python_stdlib.zip": library };
for (const [file, archive] of Object.entries(archives)) {
  add(archive, "/with_bytecode.zip");
  writeFileSync(join(folder, file), python.FS.readFile("/with_bytecode.zip"));
}

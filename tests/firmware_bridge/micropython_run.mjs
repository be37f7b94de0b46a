// Run the MicroPython firmware and its driver in MicroPython's own interpreter, compiled to WebAssembly.
// Arguments: micropython.mjs, the firmware, the driver, the scenario as JSON.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [interpreter, firmware, driver, scenario] = process.argv.slice(2);
const { loadMicroPython } = await import(pathToFileURL(interpreter).href);
const micropython = await loadMicroPython({ stdout: (line) => console.log(line), linebuffer: true });
micropython.FS.writeFile("/firmware.py", readFileSync(firmware));
micropython.FS.writeFile("/scenario.json", scenario);
micropython.runPython(readFileSync(driver, "utf8"));

// Bundles the page's script and style, with the licences of what is in them, into the Python
// package; with --tests, the tests into .tests/. The same sources give the same bytes.
import { build } from "esbuild";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const home = dirname(fileURLToPath(import.meta.url));
const assets = join(home, "../multitask/inside/assets");

if (process.argv.includes("--tests")) {
  await build({
    entryPoints: readdirSync(join(home, "test")).map((name) => join(home, "test", name)),
    outdir: join(home, ".tests"),
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
  });
} else {
  const { metafile } = await build({
    absWorkingDir: home,
    entryPoints: ["src/main.ts"],
    outfile: join(assets, "page.js"),
    bundle: true,
    minify: true,
    format: "iife",
    target: "es2022",
    charset: "utf8",
    legalComments: "none",
    metafile: true,
  });
  await build({
    absWorkingDir: home,
    entryPoints: ["src/style.css"],
    outfile: join(assets, "page.css"),
    minify: true,
    target: "es2022",
  });
  writeFileSync(join(assets, "LICENSES.txt"), licences(metafile));
}

/** The licence of each package that the script has a part of. */
function licences({ inputs }) {
  const packages = new Set(
    Object.keys(inputs)
      .map((path) => path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)\//)?.[1])
      .filter(Boolean),
  );
  const parts = [...packages].sort().map((name) => {
    const folder = join(home, "node_modules", name);
    const file = readdirSync(folder).find((each) => /^licen[sc]e/i.test(each));
    const { version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const text = file ? readFileSync(join(folder, file), "utf8").trim() : "";
    return `${name} ${version}\n\n${text}\n`;
  });
  const rule = "\n" + "-".repeat(80) + "\n\n";
  return `page.js holds parts of these packages.\n${rule}${parts.join(rule)}`;
}

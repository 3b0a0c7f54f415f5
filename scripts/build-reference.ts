/**
 * Writes docs/reference.md from the declarations and doc comments of what the package exports.
 *
 *     tsx scripts/build-reference.ts            writes it
 *     tsx scripts/build-reference.ts --check    exits with 1 where it is out of date
 */

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const target = join(root, "docs/reference.md");

/** A top-level statement of a declaration file, with the comment before it. */
interface Declaration {
  readonly comment: string;
  readonly text: string;
}

/** A statement ends where what it opened is closed. Only whole lines are comments there. */
function declarationsOf(text: string): Declaration[] {
  const found: Declaration[] = [];
  let comment: string[] = [];
  let statement: string[] = [];
  let inComment = false;
  let depth = 0;
  for (const line of text.split("\n")) {
    if (statement.length === 0 && (inComment || line.startsWith("/**"))) {
      if (!inComment) comment = [];
      comment.push(line);
      inComment = !line.endsWith("*/");
      continue;
    }
    if (statement.length === 0 && line.trim() === "") continue;
    statement.push(line);
    if (/^\s*(\/?\*)/.test(line)) continue;
    depth += (line.match(/[{([]/g)?.length ?? 0) - (line.match(/[})\]]/g)?.length ?? 0);
    if (depth > 0 || !/[;}]$/.test(line)) continue;
    found.push({ comment: comment.join("\n"), text: statement.join("\n") });
    comment = [];
    statement = [];
  }
  return found;
}

const modules = new Map<string, Map<string, Declaration[]>>();

/** What a module exports, by name: functions have one declaration for each of their signatures. */
function exportsOf(file: string): Map<string, Declaration[]> {
  const known = modules.get(file);
  if (known) return known;
  const names = new Map<string, Declaration[]>();
  modules.set(file, names);
  for (const declaration of declarationsOf(readFileSync(file, "utf8"))) {
    const list = /^export (?:type )?\{([^}]*)\} from "([^"]+)"/.exec(declaration.text);
    if (list) {
      const from = exportsOf(join(dirname(file), (list[2] as string).replace(/\.(ts|js)$/, ".d.ts")));
      for (const each of (list[1] as string).split(",")) {
        const name = each.trim().replace(/^type /, "");
        if (name === "") continue;
        const there = from.get(name);
        if (!there) throw new Error(`Cannot find "${name}" for the reference: ${relative(folder, file)} exports it`);
        names.set(name, there);
      }
      continue;
    }
    const name = /^(?:export )?(?:declare )?(?:abstract )?(?:function|class|interface|type|const|let) (\w+)/.exec(
      declaration.text,
    )?.[1];
    if (name) names.set(name, [...(names.get(name) ?? []), declaration]);
  }
  return names;
}

const kindOf = (text: string): string =>
  /^(?:export )?(?:declare )?(function|class|interface|type|const)/.exec(text)?.[1] ?? "";

const order = ["function", "class", "const", "interface", "type"];

const rank = (declaration: Declaration | undefined): number => order.indexOf(kindOf(declaration?.text ?? ""));

function sectionOf(entry: string, file: string): string {
  const names = [...exportsOf(file)].filter(([, [first]]) => first?.text.startsWith("export "));
  names.sort(([a, [x]], [b, [y]]) => rank(x) - rank(y) || (a < b ? -1 : 1));
  const parts = names.map(([name, declarations]) => {
    const code = declarations.map(({ comment, text }) => (comment ? `${comment}\n${text}` : text)).join("\n");
    return `### ${name}\n\n\`\`\`ts reference\n${code.replaceAll("```", "'''")}\n\`\`\`\n`;
  });
  return `## ${entry}\n\n${parts.join("\n")}`;
}

const folder = mkdtempSync(join(tmpdir(), "orchestratum-reference-"));
try {
  const compiler = join(root, "node_modules/typescript/bin/tsc");
  const options = [
    "-p",
    "tsconfig.build.json",
    "--emitDeclarationOnly",
    "--declarationMap",
    "false",
    "--outDir",
    folder,
  ];
  execFileSync(process.execPath, [compiler, ...options], { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
  const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
    exports: Record<string, string | { types: string }>;
  };
  const sections = Object.entries(exports).flatMap(([path, entry]) =>
    typeof entry === "string"
      ? []
      : [sectionOf(join("orchestratum", path), join(folder, entry.types.replace("./dist/", "")))],
  );
  const text = `# Reference\n\nWritten from the doc comments of the source (\`npm run reference\`); not to be edited.\n\n${sections.join("\n")}`;
  if (process.argv.includes("--check")) {
    if (!existsSync(target) || readFileSync(target, "utf8") !== text) {
      console.error("docs/reference.md is out of date: run `npm run reference`");
      process.exitCode = 1;
    }
  } else {
    writeFileSync(target, text);
    console.log(`Wrote docs/reference.md: ${text.match(/^### /gm)?.length} names`);
  }
} finally {
  rmSync(folder, { recursive: true });
}

/**
 * A page that shows the description of the router: one document, one script and one style, all from here. It holds
 * nothing itself, so anybody may have it; what it shows it asks for with the reader's token, which it keeps in no store.
 * Everything is put into the page as text.
 */
import { type AnyRoute, route } from "./route.ts";
import { page } from "./schemas.ts";

const html = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Orchestratum</title>
<link rel="stylesheet" href="docs.css">
<script src="docs.js" defer></script>
</head>
<body>
<h1 id="title">Orchestratum</h1>
<form id="ask" hidden>
<label>Token with the scope "read" <input id="token" type="password" autocomplete="off"></label>
<button>Show</button>
</form>
<p id="state" role="status"></p>
<main id="routes"></main>
</body>
</html>
`;

const css = `body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
summary { cursor: pointer; padding: 0.3rem 0; }
code { font-family: ui-monospace, monospace; }
pre { background: #f4f4f4; color: #111; overflow: auto; padding: 0.7rem; }
.scope { border: 1px solid; border-radius: 0.3rem; font-size: 0.8rem; margin-left: 0.5rem; padding: 0 0.3rem; }
`;

/** Runs in browsers: plain JavaScript, and text nodes only. */
const script = `const byId = (id) => document.getElementById(id);
const make = (name, text, className) => {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
};
const block = (parent, title, value) => {
  parent.append(make("h4", title), make("pre", JSON.stringify(value, null, 2)));
};
function show(description) {
  byId("title").textContent = description.info.title;
  document.title = description.info.title;
  const routes = byId("routes");
  routes.replaceChildren();
  for (const [path, methods] of Object.entries(description.paths)) {
    for (const [method, one] of Object.entries(methods)) {
      const details = make("details");
      const summary = make("summary");
      summary.append(make("code", method.toUpperCase() + " " + path), " ", one.summary ?? "");
      if (one["x-scope"]) summary.append(make("span", one["x-scope"], "scope"));
      details.append(summary);
      if (one.parameters?.length) block(details, "Parameters", one.parameters);
      if (one.requestBody) block(details, "Body", one.requestBody.content);
      for (const [status, answer] of Object.entries(one.responses)) {
        block(details, status + " " + (answer.description ?? ""), answer.content ?? {});
      }
      routes.append(details);
    }
  }
  routes.append(make("h2", "Schemas"));
  for (const [name, schema] of Object.entries(description.components?.schemas ?? {})) {
    const details = make("details");
    details.append(make("summary", name), make("pre", JSON.stringify(schema, null, 2)));
    routes.append(details);
  }
}
async function load(token) {
  byId("state").textContent = "Loading";
  const headers = token ? { Authorization: "Bearer " + token } : {};
  const response = await fetch("openapi.json", { headers });
  if (!response.ok) {
    byId("ask").hidden = false;
    byId("state").textContent = token ? "Not with this token: " + response.status : "";
    return;
  }
  byId("ask").hidden = true;
  byId("state").textContent = "";
  show(await response.json());
}
byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  load(byId("token").value);
});
load();
`;

export function pageRoutes(): AnyRoute[] {
  return [
    part("/docs", "The description as a page", "text/html; charset=utf-8", html),
    part("/docs.js", "Its script", "text/javascript; charset=utf-8", script),
    part("/docs.css", "Its style", "text/css; charset=utf-8", css),
  ];
}

function part(path: string, summary: string, type: string, text: string): AnyRoute {
  return route({
    method: "GET",
    path,
    scope: undefined,
    summary,
    page: true,
    answers: { 200: { description: "It", schema: page, media: type } },
    handle: ({ c }) => c.body(text, 200, { "Content-Type": type, "Cache-Control": "no-cache" }),
  });
}

/* Tables of the calls, made of the server's own description. */

"use strict";

function element(tag, content = "", name = "") {
  const made = document.createElement(tag);
  made.className = name;
  if (typeof content === "string") made.textContent = content;
  else made.append(...content);
  return made;
}

function table(heads, rows) {
  const head = element("thead", [element("tr", heads.map(text => element("th", text)))]);
  const body = element("tbody", rows.map(row => element("tr", row.map(cell =>
    element("td", typeof cell === "string" ? cell : [cell])))));
  return element("div", [element("table", [head, body])], "scroll");
}

function kind(schema) {
  const choices = schema.enum ? `: ${schema.enum.join(", ")}` : "";
  const otherwise = schema.default === undefined ? "" : ` (default: ${schema.default})`;
  return `${schema.format === "binary" ? "file" : schema.type}${choices}${otherwise}`;
}

function call(path, method, facts) {
  const title = element("h2", [element("span", method.toUpperCase(), "method"), element("code", path)]);
  const parts = [title, element("p", facts.summary)];
  const form = facts.requestBody?.content["multipart/form-data"].schema;
  if (form) {
    parts.push(element("h3", "Fields of the form, or of the query"), table(["Field", "Type", ""],
      Object.entries(form.properties).map(([name, schema]) => [
        element("code", name), kind(schema), schema.description ?? ""])));
  }
  parts.push(element("h3", "Answers"), table(["Status", ""],
    Object.entries(facts.responses).map(([status, { description }]) => [status, description])));
  return element("section", parts);
}

async function show() {
  const { paths } = await (await fetch("/openapi.json")).json();
  document.getElementById("calls").replaceChildren(...Object.entries(paths).flatMap(
    ([path, methods]) => Object.entries(methods).map(([method, facts]) => call(path, method, facts))));
}

document.getElementById("examples").textContent = [
  `curl -F image=@photo.jpg ${location.origin}/v1/predict -o mask.png`,
  `curl -F image=@photo.jpg -F products=overlay ${location.origin}/v1/predict -o overlay.png`,
  `curl -F image=@photo.jpg -F products=ids,polygons,table ${location.origin}/v1/predict`,
  `curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' '${location.origin}/v1/predict?products=table'`,
  "# with a token, also: -H \"Authorization: Bearer $SEGMENTATION_TOKEN\"",
].join("\n");
show();

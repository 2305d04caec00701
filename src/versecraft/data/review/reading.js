// Verse and answers as elements. Text from data goes into textContent, never into markup.

export function make(tag, options = {}, ...children) {
  const { data, ...rest } = options;
  const element = Object.assign(document.createElement(tag), rest);
  Object.assign(element.dataset, data);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const words = (name) =>
  String(name).replace(/^([a-z])_quote$/, (_, poem) => `poem ${poem.toUpperCase()}`).replaceAll("_", " ");

// A poem, line by line as it stands. `marks`: [{path, start, end}], offsets into the text.
export function verse(text, marks = []) {
  const box = make("div", { className: "verse" });
  let at = 0;
  let number = 0;
  for (const line of text.split("\n")) {
    const row = make("div", { className: line.trim() ? "line" : "line blank" });
    if (line.trim()) {
      number += 1;
      if (number % 5 === 0) row.dataset.number = number;
      const indent = line.length - line.trimStart().length;
      if (indent) row.append(make("span", { className: "indent", textContent: line.slice(0, indent) }));
      row.append(...segments(line.slice(indent), at + indent, marks));
    } else {
      row.append("\n");
    }
    box.append(row);
    at += line.length + 1;
  }
  return box;
}

function* segments(line, at, marks) {
  const end = at + line.length;
  const here = marks.filter((mark) => mark.start < end && mark.end > at);
  const cuts = new Set([at, end]);
  for (const mark of here) {
    cuts.add(Math.max(mark.start, at));
    cuts.add(Math.min(mark.end, end));
  }
  const sorted = [...cuts].sort((a, b) => a - b);
  for (let n = 0; n + 1 < sorted.length; n += 1) {
    const piece = line.slice(sorted[n] - at, sorted[n + 1] - at);
    const over = here.filter((mark) => mark.start <= sorted[n] && mark.end >= sorted[n + 1]);
    yield over.length
      ? make("mark", { textContent: piece, data: { paths: over.map((m) => m.path).join(" ") } })
      : document.createTextNode(piece);
  }
}

// An answer, from its JSON: short words as tags, quotations as buttons that lead to the poem.
export function answer(value, schema, places, path = "", defs = schema.$defs ?? {}) {
  const shape = resolve(schema, defs);
  const below = (name) => (path ? `${path}.${name}` : String(name));
  if (Array.isArray(value)) {
    const items = value.map((v, n) => answer(v, shape.items ?? {}, places, below(n), defs));
    if (value.every((v) => typeof v === "number")) return make("span", {}, [...new Set(value)].join(" – "));
    const plain = value.every((v) => typeof v === "string");
    const list = plain ? "ul" : "ol";
    if (!items.length) return make("p", { className: "none", textContent: "none" });
    return make(list, { className: plain ? "plain" : "cards" }, ...items.map((i) => make("li", {}, i)));
  }
  if (value && typeof value === "object") {
    const names = Object.keys(value);
    if (names.includes("quote") && names.every((n) => n === "quote" || n === "line")) {
      return quotation(value.quote, places[below("quote")], below("quote"));
    }
    const box = make("div", { className: "fields" });
    const tags = make("p", { className: "tags" });
    const rest = [];
    for (const name of names) {
      const field = resolve(shape.properties?.[name] ?? {}, defs);
      if (value[name] === null) continue;
      if (isTag(value[name], field)) tags.append(tag(name, value[name]));
      else rest.push(labelled(name, value[name], field, places, below(name), defs));
    }
    if (tags.childElementCount) box.append(tags);
    box.append(...rest);
    return box;
  }
  if (/(^|[._])quote$/.test(path)) return quotation(value, places[path], path);
  return make("p", { textContent: String(value) });
}

const isTag = (value, field) => ["boolean", "number"].includes(typeof value) || Boolean(field.enum);

function tag(name, value) {
  const said = value === true ? "yes" : value === false ? "no" : words(value);
  const long = typeof value === "string" && value.length > 1;
  const element = make("span", { className: "tag", data: { value: String(value) } });
  element.textContent = long ? said : `${words(name)}: ${said}`;
  return element;
}

function labelled(name, value, field, places, path, defs) {
  const held = answer(value, field, places, path, defs);
  const quoted = value && typeof value === "object" && !Array.isArray(value) && "quote" in value;
  if (quoted && name === "location") return held;
  const top = !path.includes(".");
  const heading = make(top ? "h3" : "h4", { textContent: words(name) });
  return make("section", { className: "field" }, heading, held);
}

function quotation(text, place, path) {
  if (!place) return make("p", {}, make("q", { className: "quote", textContent: text }));
  const where = make("small", { textContent: `line ${place.line}` });
  const button = make("button", { type: "button", className: "quote", data: { path } });
  button.append(make("q", { textContent: text }), " ", where);
  button.title = "Go to these words in the poem";
  return make("p", {}, button);
}

export function resolve(schema, defs) {
  return schema.$ref ? { ...defs[schema.$ref.split("/").pop()], ...schema } : schema;
}

// Quotations and their places in the poems light up together.
export function linkQuotations(root) {
  const marks = [...root.querySelectorAll("mark")];
  const quotes = [...root.querySelectorAll("button.quote")];
  const of = (path) => marks.filter((mark) => mark.dataset.paths.split(" ").includes(path));
  const light = (paths, on) => {
    for (const path of paths) {
      for (const mark of of(path)) mark.classList.toggle("on", on);
      for (const quote of quotes) if (quote.dataset.path === path) quote.classList.toggle("on", on);
    }
  };
  for (const quote of quotes) {
    const path = quote.dataset.path;
    for (const name of ["mouseenter", "focus"]) {
      quote.addEventListener(name, () => {
        light([path], true);
        // A pane with the poems stays in sight: what is quoted may be further down in it.
        const pane = of(path)[0]?.closest(".parts");
        if (pane && getComputedStyle(pane).position === "sticky") of(path)[0].scrollIntoView({ block: "nearest" });
      });
    }
    for (const name of ["mouseleave", "blur"]) quote.addEventListener(name, () => light([path], false));
    quote.addEventListener("click", () => {
      of(path)[0]?.scrollIntoView({ block: "center", behavior: "smooth" });
      for (const mark of of(path)) {
        mark.classList.remove("flash");
        void mark.offsetWidth; // so that the animation begins anew
        mark.classList.add("flash");
      }
    });
  }
  for (const mark of marks) {
    const paths = mark.dataset.paths.split(" ");
    mark.addEventListener("mouseenter", () => light(paths, true));
    mark.addEventListener("mouseleave", () => light(paths, false));
    mark.addEventListener("click", () => {
      quotes.find((q) => q.dataset.path === paths[0])?.scrollIntoView({ block: "center", behavior: "smooth" });
    });
  }
}

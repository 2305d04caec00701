// A form for an answer, made from the JSON schema of its task's output model.
// A field is {element, get(), show(problems)}; a problem is {at: [name or number …], says}.

import { make, resolve, words } from "./reading.js";

let count = 0;

export function field(schema, value, name, defs = schema.$defs ?? {}) {
  const shape = resolve(schema, defs);
  if (shape.properties) return object(shape, value ?? {}, name, defs);
  if (shape.type === "array" && shape.items) return list(shape, value ?? [], name, defs);
  const kind = shape.enum || "const" in shape ? choice : { string: text, integer: number, number, boolean: flag }[shape.type];
  return leaf(...(kind ?? json)(shape, value), shape, name);
}

function leaf(input, get, shape, name) {
  count += 1;
  input.id = `field-${count}`;
  const problem = make("p", { className: "problem", id: `problem-${count}` });
  input.setAttribute("aria-describedby", problem.id);
  const label = make("label", { htmlFor: input.id }, words(name));
  const size = make("small", { className: "size" });
  const measure = () => {
    if (shape.maxLength) size.textContent = `${[...input.value].length} of ${shape.maxLength}`;
  };
  input.addEventListener("input", measure);
  measure();
  const hint = shape.description ? make("small", { className: "hint", textContent: shape.description }) : null;
  const element = make("div", { className: "leaf" }, make("div", { className: "above" }, label, size), hint, input, problem);
  const show = (problems) => {
    problem.textContent = problems.map((p) => p.says).join(" ");
    input.setAttribute("aria-invalid", problems.length > 0);
  };
  return { element, get, show };
}

function text(shape, value) {
  const input = make("textarea", { value: value ?? "", rows: shape.maxLength > 200 ? 3 : 1, spellcheck: true });
  return [input, () => input.value];
}

function number(shape, value) {
  const input = make("input", { type: "number", value: value ?? shape.minimum ?? 0 });
  return [input, () => (input.value === "" ? null : Number(input.value))];
}

function flag(_, value) {
  const input = make("input", { type: "checkbox", checked: Boolean(value) });
  return [input, () => input.checked];
}

function choice(shape, value) {
  const options = shape.enum ?? [shape.const];
  const input = make("select", {}, ...options.map((o) => make("option", { value: o, textContent: words(o) })));
  input.value = value ?? options[0];
  return [input, () => options.find((o) => String(o) === input.value)];
}

function json(_, value) {
  const input = make("textarea", { value: JSON.stringify(value ?? null, null, 1), rows: 3 });
  return [input, () => { try { return JSON.parse(input.value); } catch { return input.value; } }];
}

function object(shape, value, name, defs) {
  const names = Object.keys(shape.properties);
  const fields = new Map();
  for (const part of names) {
    const label = names.length === 1 && typeof name === "string" && name ? name : part;
    fields.set(part, field(shape.properties[part], value[part], label, defs));
  }
  const parts = [...fields.values()].map((f) => f.element);
  const element = names.length === 1 ? parts[0] : group(name, ...parts);
  const get = () => Object.fromEntries([...fields].map(([part, f]) => [part, f.get()]));
  const show = (problems) => {
    for (const [part, f] of fields) f.show(inside(problems, part));
  };
  return { element, get, show };
}

function list(shape, values, name, defs) {
  const items = make("div", { className: "items" });
  const problem = make("p", { className: "problem" });
  const add = make("button", { type: "button", textContent: `Add to ${words(name)}` });
  const { minItems = 0, maxItems = Infinity } = shape;
  let fields = [];
  const changed = () => {
    add.hidden = fields.length >= maxItems;
    for (const { remove } of fields) remove.hidden = fields.length <= minItems;
    element.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const append = (value) => {
    const of = field(shape.items, value, singular(name), defs);
    const remove = make("button", { type: "button", className: "remove", textContent: "Remove" });
    remove.setAttribute("aria-label", `Remove this ${singular(words(name))}`);
    const row = make("div", { className: "item" }, of.element, remove);
    const entry = { ...of, remove };
    remove.addEventListener("click", () => {
      fields = fields.filter((f) => f !== entry);
      row.remove();
      changed();
      add.focus();
    });
    fields.push(entry);
    items.append(row);
  };
  add.addEventListener("click", () => {
    append(undefined);
    changed();
    items.lastElementChild.querySelector("textarea, select, input")?.focus();
  });
  const element = group(name, items, problem, add);
  values.forEach(append);
  while (fields.length < minItems) append(undefined);
  changed();
  const show = (problems) => {
    problem.textContent = problems.filter((p) => !p.at.length).map((p) => p.says).join(" ");
    fields.forEach((f, n) => f.show(inside(problems, n)));
  };
  return { element, get: () => fields.map((f) => f.get()), show };
}

const singular = (name) => name.replace(/ies$/, "y").replace(/s$/, "");

function group(name, ...parts) {
  return make("fieldset", {}, name ? make("legend", { textContent: words(name) }) : null, ...parts);
}

function inside(problems, part) {
  return problems.filter((p) => p.at[0] === part).map((p) => ({ ...p, at: p.at.slice(1) }));
}

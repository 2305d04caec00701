// The review page: the list, the row that is shown, decisions, keys.

import { field } from "./editing.js";
import { answer, linkQuotations, make, verse, words } from "./reading.js";

const $ = (selector) => document.querySelector(selector);
const main = $("#main");
const list = $("#list");
const filters = $("#filters");

let rows = [];
let shown = []; // those that the filters let through
let current = null; // the key of the row on the page
let loaded = null; // that row, whole
let editor = null;
const made = []; // decisions made here: [{key, before: {decision, output}}]
const drafts = new Map(); // edits that were left without saving

async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("versecraft review is not running any more. Start it again; nothing that was decided is lost.");
  }
  const said = await response.json().catch(() => ({ says: `The server said ${response.status}.` }));
  if (!response.ok && response.status !== 422) throw new Error(said.says);
  return said;
}

function say(text, trouble = false) {
  $("#said").textContent = text;
  $("#said").classList.toggle("trouble", trouble);
}

const guarded = (work) => async (...args) => {
  try {
    return await work(...args);
  } catch (error) {
    return say(error.message, true);
  }
};

// What changes the page happens one after the other, however fast keys are pressed.
let last = Promise.resolve();
const queued = (work) => (...args) => (last = last.then(() => guarded(work)(...args)));

// The list and its filters; both stand in the address, so that a reload changes nothing.

function filter() {
  const wanted = Object.fromEntries(new FormData(filters));
  shown = rows.filter((row) =>
    Object.entries(wanted).every(([name, value]) => !value || row[name] === value));
  list.replaceChildren(...shown.map(listed));
  if (!shown.length) list.append(make("li", { className: "none", textContent: "No row is like that." }));
  mark();
}

function listed(row) {
  const facts = [words(row.task), row.qualities].filter(Boolean).join(" · ");
  const button = make("button", { type: "button", data: { key: row.key, decision: row.decision } });
  button.append(
    make("span", { className: "label", textContent: row.label }),
    make("span", { className: "facts", textContent: facts }),
    make("span", { className: "state", textContent: row.decision === "undecided" ? "" : row.decision }),
  );
  button.addEventListener("click", () => openNext(row.key));
  return make("li", {}, button);
}

function mark() {
  for (const button of list.querySelectorAll("button")) {
    const on = button.dataset.key === current;
    if (on) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
    if (on) button.scrollIntoView({ block: "nearest" });
  }
  const at = shown.findIndex((row) => row.key === current);
  const done = rows.filter((row) => row.decision !== "undecided").length;
  $("#count").textContent = `${at < 0 ? "–" : at + 1} of ${shown.length} · ${done} of all ${rows.length} decided`;
  $("progress").value = rows.length ? done / rows.length : 0;
  const address = new URLSearchParams([...new FormData(filters)].filter(([, value]) => value));
  if (current) address.set("row", current);
  history.replaceState(null, "", `#${address}`);
}

function change(line) {
  Object.assign(rows.find((row) => row.key === line.key), line);
  const button = list.querySelector(`button[data-key="${line.key}"]`);
  const row = rows.find((r) => r.key === line.key);
  if (button) button.parentElement.replaceWith(listed(row));
}

// The row on the page.

async function open(key) {
  if (editor) close();
  current = key;
  loaded = null;
  mark();
  loaded = await ask(`rows/${key}`);
  draw();
  main.scrollTop = 0;
}
const openNext = queued(open);

function draw() {
  const row = loaded;
  const facts = [words(row.task), row.phase && `${row.phase} phase`, row.model].filter(Boolean);
  const head = make("div", { className: "head" },
    make("h2", { textContent: row.label }),
    make("p", { className: "facts" }, facts.join(" · "), " ",
      make("span", { className: "decision", textContent: row.decision, data: { decision: row.decision } })));
  const marks = (n) => Object.entries(row.places).filter(([, place]) => place.part === n)
    .map(([path, place]) => ({ path, ...place }));
  const parts = row.parts.map((part, n) => shownPart(part, marks(n)));
  const pair = row.parts.filter((part) => part.verse).length > 1;
  const reply = make("section", { className: "reply" }, make("h2", { textContent: row.bare ? "poem" : words(row.task.split("/").pop()) }));
  if (row.problems.length) reply.append(notice(row.problems));
  reply.append(row.bare ? verse(row.output.text) : answer(row.output, row.schema, row.places));
  if (row.decision === "edited") reply.append(original(row));
  const article = make("article", { className: pair ? "pair" : "", data: { key: row.key } },
    head, make("div", { className: "parts" }, ...parts), reply);
  article.setAttribute("aria-label", `${words(row.task)}: ${row.label}`);
  main.replaceChildren(article);
  linkQuotations(article);
  editor = null;
}

function shownPart(part, marks) {
  const about = part.about ?? {};
  const by = [about.title, about.author, about.year, about.source, about.licence].filter(Boolean).join(" · ");
  const caption = make("figcaption", {}, make("span", { className: "name", textContent: part.label }));
  if (about.quality) caption.append(make("span", { className: "tag", textContent: about.quality, data: { value: about.quality } }));
  if (by) caption.append(make("span", { className: "by", textContent: by }));
  const body = part.verse ? verse(part.text, marks) : make("div", { className: "prose", textContent: part.text });
  return make("figure", {}, caption, body);
}

function notice(problems) {
  const said = problems.map((p) => (p.at.length ? `${where(p.at)}: ` : "") + p.says).join("; ");
  return make("p", { className: "problem" }, `The task refuses this answer as it stands, so it makes no training rows: ${said}. Edit it to keep it.`);
}

const where = (at) => at.map((part) => (typeof part === "number" ? part + 1 : words(part))).join(", ");

function original(row) {
  const body = row.bare ? verse(row.original.text) : answer(row.original, row.schema, {});
  return make("details", {}, make("summary", { textContent: "What the model answered" }), body);
}

// Deciding.

function neighbour(step) {
  const at = shown.findIndex((row) => row.key === current);
  return shown[at + step]?.key ?? null;
}

async function decide(decision, output, verb) {
  const key = current;
  const before = { decision: loaded.decision, output: loaded.decision === "edited" ? loaded.output : undefined };
  const line = await ask(`rows/${key}/decision`, { decision, output });
  if (line.problems) return line.problems;
  made.push({ key, before });
  change(line);
  say(`${verb ?? words(line.decision)}: ${line.label}`);
  return [];
}

async function go(step) {
  const key = neighbour(step);
  if (!key) return say(step > 0 ? "This is the last row of the list." : "This is the first row of the list.");
  await open(key);
  const unsaved = drafts.size ? ` Edits that are not saved: ${drafts.size}.` : "";
  return say(`${shown.findIndex((row) => row.key === key) + 1} of ${shown.length}: ${loaded.label}.${unsaved}`);
}

async function decideAndGoOn(decision) {
  if (editor) return say("Save the edit or leave it first.");
  if (!loaded) return;
  const next = neighbour(1);
  if (decision === "accepted" && loaded.decision === "edited") say("The edit stands; take it back with u.");
  else await decide(decision);
  const said = $("#said").textContent;
  const wanted = filters.elements.decision.value;
  if (wanted) filter();
  if (next) await open(next);
  else { await open(current); say(`${said} – that was the last row of the list.`); }
}

async function undo() {
  if (editor) return say("Save the edit or leave it first.");
  if (!loaded) return;
  const latest = made.pop();
  const key = latest?.key ?? current;
  const before = latest?.before ?? { decision: "undecided" };
  if (!latest && loaded.decision === "undecided") return say("There is nothing to take back.");
  const line = await ask(`rows/${key}/decision`, before);
  change(line);
  if (filters.elements.decision.value) filter();
  await open(key);
  say(`Taken back; it is ${line.decision}: ${line.label}`);
}

// Editing.

function edit() {
  if (!loaded || editor) return;
  const row = loaded;
  const form = field(row.bare ? { ...row.schema, description: undefined } : row.schema, drafts.get(row.key) ?? row.output, "");
  const general = make("p", { className: "problem", role: "alert" });
  const save = make("button", { type: "submit", className: "main" }, "Save ", make("kbd", { textContent: "Ctrl Enter" }));
  const cancel = make("button", { type: "button" }, "Leave ", make("kbd", { textContent: "Esc" }));
  const discard = make("button", { type: "button", textContent: "Discard", hidden: !drafts.has(row.key) });
  const element = make("form", { className: row.bare ? "editor bare" : "editor", noValidate: true },
    form.element, make("div", { className: "save" }, general, save, cancel, discard));
  element.setAttribute("aria-label", "Edit the answer");
  const show = (problems) => {
    form.show(problems);
    const inFields = problems.filter((p) => p.at.length).length;
    const whole = problems.filter((p) => !p.at.length).map((p) => p.says);
    if (inFields) whole.push(`${inFields} field${inFields > 1 ? "s" : ""} must be mended.`);
    general.textContent = whole.join(" ");
    save.disabled = problems.length > 0;
  };
  let timer = 0;
  const check = guarded(async () => {
    const output = form.get();
    const { problems } = await ask(`rows/${row.key}/check`, { output });
    if (editor?.form === form) show(problems);
  });
  element.addEventListener("input", () => {
    drafts.set(row.key, form.get());
    discard.hidden = false;
    clearTimeout(timer);
    timer = setTimeout(check, 300);
  });
  const submit = queued(async () => {
    if (editor?.form !== form) return;
    clearTimeout(timer);
    const problems = await decide("edited", form.get());
    if (problems.length) { show(problems); return; }
    drafts.delete(row.key);
    close();
    const said = $("#said").textContent;
    if (filters.elements.decision.value) filter();
    await open(row.key);
    say(said);
  });
  element.addEventListener("submit", (event) => { event.preventDefault(); submit(); });
  cancel.addEventListener("click", () => { close(); draw(); });
  discard.addEventListener("click", () => { drafts.delete(row.key); close(); draw(); });
  for (const element of main.querySelectorAll(".on")) element.classList.remove("on");
  $(".reply").replaceChildren(make("h2", { textContent: `edit the ${row.bare ? "poem" : words(row.task)}` }), element);
  editor = { form, submit };
  const first = element.querySelector("textarea, select, input");
  first?.setSelectionRange?.(0, 0);
  first?.focus({ preventScroll: true });
  main.scrollTop = 0;
  check();
}

function close() {
  editor = null;
  main.focus({ preventScroll: true });
}

window.addEventListener("beforeunload", (event) => { if (drafts.size) event.preventDefault(); });

// Buttons and keys.

const actions = {
  next: queued(() => go(1)),
  previous: queued(() => go(-1)),
  accept: queued(() => decideAndGoOn("accepted")),
  reject: queued(() => decideAndGoOn("rejected")),
  edit: queued(edit),
  undo: queued(undo),
  help: () => $("#help").showModal(),
};
const keys = { j: "next", k: "previous", a: "accept", r: "reject", e: "edit", u: "undo", "?": "help" };

document.addEventListener("keydown", (event) => {
  if ($("#help").open) return;
  if (editor && event.key === "Escape") { close(); draw(); return; }
  if (editor && event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    editor.submit();
    return;
  }
  const typing = event.target.closest?.("textarea, input, select");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const action = actions[keys[event.key]];
  if (action) { event.preventDefault(); action(); }
});

for (const button of document.querySelectorAll("[data-do]")) {
  button.addEventListener("click", () => actions[button.dataset.do]());
}
$("#open-help").addEventListener("click", actions.help);
// After a click into a filter the keys are for the row again, not for the list of options.
let clicked = false;
filters.addEventListener("pointerdown", () => { clicked = true; });
filters.addEventListener("keydown", () => { clicked = false; });
filters.addEventListener("change", () => {
  if (clicked) main.focus({ preventScroll: true });
  filter();
  if (!shown.some((row) => row.key === current) && shown.length) openNext(shown[0].key);
});

queued(async () => {
  const found = await ask("rows");
  rows = found.rows;
  const tasks = [...new Set(rows.map((row) => row.task))];
  filters.elements.task.append(...tasks.map((task) => make("option", { value: task, textContent: words(task) })));
  $("#by-quality").hidden = found.blind;
  if (found.blind) document.body.classList.add("blind");
  const address = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of address) if (filters.elements[name]) filters.elements[name].value = value;
  filter();
  const wanted = rows.some((row) => row.key === address.get("row")) ? address.get("row") : shown[0]?.key;
  if (wanted) await open(wanted);
})();

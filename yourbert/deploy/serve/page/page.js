"use strict";

const find = (id) => document.getElementById(id);
let tasks = {};
let asked = 0;

async function ask(path, body) {
  const request = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(path, request);
  const said = await response.json();
  if (!response.ok) throw new Error(said.error ? said.error.message : response.statusText);
  return said;
}

// Everything that comes from a model or a person is set as text, never as HTML.
function element(name, text = "", kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function describe() {
  const task = tasks[find("task").value];
  const labels = task.labels && task.labels.length ? `labels: ${task.labels.join(", ")}` : `from ${task.low} to ${task.high}`;
  find("about").textContent = `${task.kind}; ${labels}; reads ${task.max_length} word pieces`;
  find("pair").hidden = !task.pair;
  find("second").required = task.pair;
  find("answer").hidden = true;
}

function show(answer) {
  find("prediction").textContent = answer.prediction;
  find("cut").hidden = !answer.cut;
  const shares = Object.entries(answer.probabilities || {});
  find("shares").hidden = !shares.length;
  find("shares").tBodies[0].replaceChildren(...shares.map(([label, share]) => {
    const row = element("tr");
    const head = element("th", label);
    head.scope = "row";
    const bar = element("meter");
    bar.value = share;
    bar.setAttribute("aria-label", `${label}: ${share.toFixed(3)}`);
    const cell = element("td");
    cell.append(bar);
    row.append(head, element("td", share.toFixed(3)), cell);
    return row;
  }));
}

function showWords(found) {
  const most = Math.max(...found.words.map((word) => Math.abs(word.weight)), 1e-9);
  const texts = [];
  for (const word of found.words) {
    const line = texts[word.number] || (texts[word.number] = element("p"));
    const mark = element("mark", word.text, word.weight > 0 ? "for" : "against");
    mark.style.setProperty("--share", Math.abs(word.weight) / most);
    mark.title = word.weight.toFixed(2);
    line.append(mark, " ");
  }
  find("words").replaceChildren(...texts.filter(Boolean));
  find("why").textContent = `Green speaks for the answer, red against it. Score ${found.score.toFixed(2)}; without the ` +
    `${found.left_out} words that weigh most ${found.without_first.toFixed(2)}, without as many others ${found.without_random.toFixed(2)}.`;
}

async function submit(event) {
  event.preventDefault();
  const mine = ++asked;
  const task = find("task").value;
  const text = tasks[task].pair ? [find("first").value, find("second").value] : find("first").value;
  const button = find("ask").querySelector("button");
  button.disabled = true;
  find("status").textContent = "asking";
  try {
    const { answers } = await ask("predict", { task, texts: [text] });
    if (mine !== asked) return;
    show(answers[0]);
    find("words").replaceChildren();
    find("why").textContent = "";
    find("answer").hidden = false;
    find("status").textContent = "looking which words it rests on";
    const { explanation } = await ask("explain", { task, text });
    if (mine !== asked) return;
    showWords(explanation);
    find("status").textContent = "";
  } catch (error) {
    find("status").textContent = error.message;
  } finally {
    button.disabled = false;
  }
}

async function start() {
  const about = await ask("tasks");
  tasks = about.tasks;
  find("model").textContent = about.model;
  find("task").replaceChildren(...Object.keys(tasks).map((name) => element("option", name)));
  find("task").addEventListener("change", describe);
  find("ask").addEventListener("submit", submit);
  describe();
}

start().catch((error) => { find("status").textContent = error.message; });

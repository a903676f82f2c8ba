"use strict";

const find = (id) => document.getElementById(id);
let tasks = {};
let latest = 0;

async function request(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(path, options);
  const result = await response.json();
  if (!response.ok) throw new Error(result.error ? result.error.message : response.statusText);
  return result;
}

// Text from the model or the user is set as textContent, never as HTML.
function element(name, text = "", kind = "") {
  const node = document.createElement(name);
  node.textContent = text;
  if (kind) node.className = kind;
  return node;
}

function describe() {
  const task = tasks[find("task").value];
  const labels = task.labels && task.labels.length ? `labels: ${task.labels.join(", ")}` : `from ${task.low} to ${task.high}`;
  find("about").textContent = `${task.kind}; ${labels}; at most ${task.max_length} tokens`;
  find("pair").hidden = !task.pair;
  find("second").required = task.pair;
  find("result").hidden = true;
}

function showPrediction(prediction) {
  find("prediction").textContent = prediction.prediction;
  find("truncated").hidden = !prediction.truncated;
  const shares = Object.entries(prediction.probabilities || {});
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

function showWords(explanation) {
  const most = Math.max(...explanation.words.map((word) => Math.abs(word.weight)), 1e-9);
  const texts = [];
  for (const word of explanation.words) {
    const line = texts[word.number] || (texts[word.number] = element("p"));
    const mark = element("mark", word.text, word.weight > 0 ? "for" : "against");
    mark.style.setProperty("--share", Math.abs(word.weight) / most);
    mark.title = word.weight.toFixed(2);
    line.append(mark, " ");
  }
  find("words").replaceChildren(...texts.filter(Boolean));
  find("why").textContent = `Green supports the prediction, red opposes it. Score ${explanation.score.toFixed(2)}; without the ` +
    `${explanation.num_removed} top words ${explanation.score_without_top.toFixed(2)}, without equally many random words ${explanation.score_without_random.toFixed(2)}.`;
}

async function submit(event) {
  event.preventDefault();
  const mine = ++latest;
  const task = find("task").value;
  const text = tasks[task].pair ? [find("first").value, find("second").value] : find("first").value;
  const button = find("ask").querySelector("button");
  button.disabled = true;
  find("status").textContent = "predicting";
  try {
    const { predictions } = await request("predict", { task, texts: [text] });
    if (mine !== latest) return;
    showPrediction(predictions[0]);
    find("words").replaceChildren();
    find("why").textContent = "";
    find("result").hidden = false;
    find("status").textContent = "explaining";
    const { explanation } = await request("explain", { task, text });
    if (mine !== latest) return;
    showWords(explanation);
    find("status").textContent = "";
  } catch (error) {
    find("status").textContent = error.message;
  } finally {
    button.disabled = false;
  }
}

async function start() {
  const about = await request("tasks");
  tasks = about.tasks;
  find("model").textContent = about.model;
  find("task").replaceChildren(...Object.keys(tasks).map((name) => element("option", name)));
  find("task").addEventListener("change", describe);
  find("ask").addEventListener("submit", submit);
  describe();
}

start().catch((error) => { find("status").textContent = error.message; });

// Shows what /debug/closes answers. Everything that comes from outside is set as text, never as HTML.
"use strict";

const EVERY_MS = 5000;
const byId = (id) => document.getElementById(id);
let chosen = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
let timer = 0;
let asked = 0;

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const isChosen = (choice) => (chosen.code ?? "") === (choice.code ?? "") && chosen.cause === choice.cause;

// A cell with a number that leads to examples; empty when there is nothing.
function numberCell({ total, recent }, choice, label) {
  const cell = element("td");
  if (total === 0) return cell;
  const text = recent > 0 ? `${total} +${recent}` : `${total}`;
  const button = element("button", text, { type: "button", "aria-pressed": String(isChosen(choice)), "aria-label": `${label}: ${total}, ${recent} of them recent` });
  button.addEventListener("click", () => choose(choice));
  if (recent > 0) cell.className = "recent";
  cell.append(button);
  return cell;
}

function choose(choice) {
  chosen = isChosen(choice) ? {} : choice;
  history.replaceState(null, "", `#${new URLSearchParams(chosen)}`);
  refresh().then(() => { if (chosen.cause) byId("examples-title").focus(); });
}

function sums(counts, protocol) {
  const cells = new Map();
  const meanings = new Map();
  const codes = new Set();
  for (const row of counts) {
    if (protocol && row.protocol !== protocol) continue;
    const key = `${row.cause} ${row.code}`;
    const cell = cells.get(key) ?? { total: 0, recent: 0 };
    cells.set(key, { total: cell.total + row.total, recent: cell.recent + row.recent });
    meanings.set(row.cause, row.meaning);
    codes.add(row.code);
  }
  return { cells, meanings, codes: [...codes].sort() };
}

function showMatrix({ counts }) {
  const { cells, meanings, codes } = sums(counts, byId("protocol").value);
  const head = element("tr");
  head.append(element("th", "Cause", { scope: "col" }), ...codes.map((code) => element("th", code, { scope: "col" })));
  const rows = [...meanings.keys()].sort().map((cause) => {
    const row = element("tr");
    row.append(element("th", cause, { scope: "row", title: meanings.get(cause) }));
    for (const code of codes) {
      const cell = cells.get(`${cause} ${code}`) ?? { total: 0, recent: 0 };
      row.append(numberCell(cell, { cause, code }, `${cause}, code ${code}`));
    }
    return row;
  });
  byId("matrix").tHead.replaceChildren(...(rows.length ? [head] : []));
  byId("matrix").tBodies[0].replaceChildren(...rows);
  byId("matrix").hidden = rows.length === 0;
  byId("empty").hidden = rows.length > 0;
}

function showUnopened({ unopened }) {
  const rows = unopened.map(({ cause, meaning, ...numbers }) => {
    const row = element("tr");
    row.append(element("th", cause, { scope: "row", title: meaning }), numberCell(numbers, { cause }, cause), element("td", meaning));
    return row;
  });
  byId("unopened").tBodies[0].replaceChildren(...rows);
  byId("unopened-empty").hidden = rows.length > 0;
}

const seconds = (value) => (value < 60 ? `${Number(value.toFixed(3))} s` : value < 7200 ? `${Math.round(value / 60)} min` : `${(value / 3600).toFixed(1)} h`);
const said = (close) => (close ? [close.code ?? "no code", close.reason && `“${close.reason}”`].filter(Boolean).join(" ") : "");
const who = ({ address, proxy, client }) => [address ?? "unknown", proxy && `via ${proxy}`, client].filter(Boolean).join(" ");

function exampleRow(close) {
  const row = element("tr");
  const ended = element("td");
  ended.append(element("time", new Date(close.at * 1000).toLocaleTimeString(), { datetime: new Date(close.at * 1000).toISOString() }));
  const path = close.tcp ? `${(close.tcp.rtt_seconds * 1000).toFixed(1)} ms, ${close.tcp.retransmitted_segments} resent` : "";
  row.append(ended, ...[seconds(close.age_seconds), who(close), close.protocol ?? "", said(close.sent), said(close.received), close.topics, `${close.unsent_bytes} B`, path, close.events.join(", ")].map((text) => element("td", text)));
  return row;
}

function showExamples({ closes, matched, counts, unopened }) {
  byId("examples").hidden = !chosen.cause;
  if (!chosen.cause) return;
  byId("examples-title").textContent = chosen.code ? `${chosen.cause}, code ${chosen.code}` : `${chosen.cause}, before the upgrade`;
  byId("meaning").textContent = [...counts, ...unopened].find(({ cause }) => cause === chosen.cause)?.meaning ?? "";
  const examples = chosen.code ? closes : closes.filter(({ protocol }) => protocol === null);
  byId("found").textContent = examples.length < matched ? `The newest ${examples.length} of ${matched} that are remembered.` : `${examples.length} remembered.`;
  byId("closes").tBodies[0].replaceChildren(...examples.map(exampleRow));
}

function show(answer) {
  const protocol = byId("protocol");
  const known = new Set([...protocol.options].map((option) => option.value));
  for (const name of new Set(answer.counts.map((row) => row.protocol))) {
    if (!known.has(name)) protocol.append(element("option", name, { value: name }));
  }
  showMatrix(answer);
  showUnopened(answer);
  showExamples(answer);
  const lost = Object.entries(answer.books).map(([kind, { ended, recorded, held }]) => `${kind}: ${ended} ended, ${ended - recorded} of them too many at a time to be written down, ${held} remembered`);
  byId("books").textContent = `${lost.join("; ")}.`;
  const silent = answer.silent_shards.length ? ` Shards that did not answer: ${answer.silent_shards.join(", ")}.` : "";
  byId("status").textContent = `${new Date(answer.now * 1000).toLocaleTimeString()}, recent: ${seconds(answer.window_seconds)}.${silent}`;
}

async function refresh() {
  clearTimeout(timer);
  const turn = ++asked;
  const query = new URLSearchParams({ window: byId("window").value, protocol: chosen.code ? byId("protocol").value : "", code: chosen.code ?? "", cause: chosen.cause ?? "", limit: chosen.cause ? "100" : "1" });
  const secret = sessionStorage.getItem("ringway-key");
  try {
    const response = await fetch(`/debug/closes?${query}`, { headers: secret ? { "X-API-Key": secret } : {} });
    const answer = await response.json();
    if (turn !== asked) return;
    byId("key").hidden = response.status !== 401;
    if (response.ok) show(answer);
    else byId("status").textContent = answer.error.message;
  } catch (problem) {
    if (turn === asked) byId("status").textContent = `The gateway does not answer: ${problem.message}`;
  }
  if (turn === asked && byId("auto").checked) timer = setTimeout(refresh, EVERY_MS);
}

byId("key").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("ringway-key", byId("secret").value);
  refresh();
});
for (const id of ["window", "protocol", "auto"]) byId(id).addEventListener("change", refresh);
byId("refresh").addEventListener("click", refresh);
refresh();

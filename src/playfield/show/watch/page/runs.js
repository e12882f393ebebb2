"use strict";
// The page of a folder of runs: a table, and a chart of all learning curves for each environment.
// It uses the helpers of page.js, and only after all scripts are loaded.

const COLUMNS = [ // title, key to sort by, is it a number?
  ["environment", "env", false], ["algorithm", "label", false], ["seed", "seed", true], ["state", "state", false],
  ["steps", "step", true], ["score", "score", true], ["95 % interval", "", false], ["over", "", false],
  ["time", "seconds", true], ["run", "run", false],
];
const DASHES = [[], [6, 3], [2, 2.5]];
const board = { rows: new Map(), curves: new Map(), groups: [], more: 0, sort: "env", down: false, filter: "", near: null, statistic: "mean", words: "mean" };

function showBoard(message) {
  document.body.className = "boarding";
  document.title = `${message.folder} · playfield`;
  $("env").textContent = message.folder;
  [board.statistic, board.words] = [message.statistic, message.words];
  $("label").textContent = "";
  board.rows.clear();
  board.curves.clear();
  board.groups = [];
  drawHead();
}

function boardNews(message) {
  for (const n of message.gone) { board.rows.delete(n); board.curves.delete(n); }
  for (const row of message.rows) {
    board.rows.set(row.n, row);
    row.text = [row.env, row.label, `seed ${row.seed}`, row.state, row.run, row.options, row.note].join(" ").toLowerCase();
  }
  for (const [n, points] of message.curves) board.curves.set(n, points);
  if (message.groups) board.groups = message.groups;
  board.more = message.more;
  drawBoard();
}

// The table

const collator = new Intl.Collator("en", { numeric: true });

function compareRows(a, b) {
  const number = COLUMNS.find((c) => c[1] === board.sort)[2];
  const [x, y] = [a[board.sort], b[board.sort]];
  const missing = (x === null || x === "") - (y === null || y === "");
  if (missing) return missing; // what is not known comes last, in both orders
  const order = x === null ? 0 : number ? x - y : collator.compare(x, y);
  return (board.down ? -order : order) || collator.compare(a.env, b.env) || a.place - b.place
    || (a.seed ?? 0) - (b.seed ?? 0) || collator.compare(a.run, b.run);
}

function visibleRows() {
  const words = board.filter.toLowerCase().split(/\s+/).filter(Boolean);
  return [...board.rows.values()].filter((r) => words.every((w) => r.text.includes(w))).sort(compareRows);
}

function drawHead() {
  $("head").replaceChildren(...COLUMNS.map(([title, key, number]) => {
    const cell = make("th", number ? "number" : "");
    cell.scope = "col";
    if (!key) { cell.textContent = title; return cell; }
    const name = key === "score" && board.statistic !== "mean" ? `${board.statistic} score` : title;
    const chosen = board.sort === key;
    cell.setAttribute("aria-sort", chosen ? (board.down ? "descending" : "ascending") : "none");
    const button = make("button", "", `${name}${chosen ? (board.down ? " ▾" : " ▴") : ""}`);
    button.onclick = () => {
      board.down = chosen ? !board.down : key === "score";
      board.sort = key;
      drawHead();
      drawBoard();
      $("head").querySelector("[aria-sort]:not([aria-sort=none]) button").focus();
    };
    cell.append(button);
    return cell;
  }));
}

const swatch = (row) => {
  const mark = make("span", `swatch dash${row.dashes}`);
  mark.style.borderTopColor = bright(row.color);
  return mark;
};

function cells(row) {
  const label = make("td");
  if (row.color) label.append(swatch(row));
  label.append(row.label || "–");
  if (row.options) label.append(make("p", "row-note", row.options));
  const state = make("td");
  state.append(make("span", `state ${row.state}`, row.state));
  const steps = make("td", "number steps");
  const done = row.steps ? Math.min(1, (row.step ?? 0) / row.steps) : 0;
  const text = row.steps === null ? "–" : (row.step ?? 0) >= row.steps ? row.step.toLocaleString("en")
    : `${(row.step ?? 0).toLocaleString("en")} of ${row.steps.toLocaleString("en")}`;
  const bar = make("i");
  const filled = make("span");
  filled.style.transform = `scaleX(${done})`;
  bar.append(filled);
  steps.append(text, bar);
  const run = make("td", "run");
  const link = make("a", "", row.run);
  link.href = `#t=${token()}&run=${row.n}`;
  link.title = `play its newest checkpoint: playfield watch ${row.run}`;
  run.append(link);
  if (row.note) run.append(make("p", "row-note", row.note));
  return [
    make("td", "", row.env || "–"), label, make("td", "number", row.seed ?? "–"), state, steps,
    make("td", "number score", row.shown ?? "–"), make("td", "faint", row.interval), make("td", "faint", row.over),
    make("td", "number", row.time ?? "–"), run,
  ];
}

function tableLine(row) {
  const line = make("tr");
  line.row = row;
  line.append(...cells(row));
  line.onclick = (event) => { if (event.target.tagName !== "A" && !String(getSelection())) line.querySelector("a").click(); };
  line.onmouseenter = () => { board.near = row.n; drawCharts(); };
  line.onmouseleave = () => { board.near = null; drawCharts(); };
  return line;
}

// Lines whose run has not changed stay where they are, and keep the focus.
function drawTable(rows) {
  const body = $("rows");
  const old = new Map([...body.children].map((line) => [line.row.n, line]));
  const lines = rows.map((row) => (old.get(row.n)?.row === row ? old.get(row.n) : tableLine(row)));
  if (rows.length !== body.childElementCount || rows.some((row, i) => body.children[i].row.n !== row.n)) body.replaceChildren(...lines);
  else lines.forEach((line, i) => { if (line !== body.children[i]) body.children[i].replaceWith(line); });
}

function drawBoard() {
  const rows = visibleRows();
  drawTable(rows);
  const all = [...board.rows.values()];
  const counts = {};
  for (const row of all) counts[row.state] = (counts[row.state] || 0) + 1;
  const plural = (n) => `${n} run${n === 1 ? "" : "s"}`;
  const states = Object.entries(counts).map(([state, n]) => `${n} ${state}`).join(", ");
  $("label").textContent = `${plural(all.length + board.more)}: ${states}`;
  const notes = [];
  if (rows.length < all.length) notes.push(`${rows.length} of ${plural(all.length)} shown`);
  if (board.more) notes.push(`${board.more} more are not listed: watch a folder further down`);
  $("shown").textContent = notes.join("; ");
  drawCharts();
}

$("filter").oninput = (event) => { board.filter = event.target.value; drawBoard(); };

// The charts

// The colours of the pictures of `playfield compare` stand on white; the darkest of them is lighter here.
const bright = (color) => (color === "#0072B2" ? "#2f9be8" : color);

function drawCharts() {
  if (document.body.className !== "boarding") return;
  const rows = visibleRows().filter((row) => board.curves.has(row.n));
  const envs = [...new Set(rows.map((row) => row.env))].sort(collator.compare);
  const box = $("charts");
  if ([...box.children].map((c) => c.dataset.env).join("\n") !== envs.join("\n")) {
    box.replaceChildren(...envs.map((env) => {
      const card = make("article");
      card.dataset.env = env;
      const title = make("h2", "", env);
      title.append(make("small", "", `score, ${board.words} of the last 100 training games`));
      const canvas = make("canvas", "chart");
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `learning curves on ${env}`);
      canvas.onmousemove = (event) => pointAt(canvas, event);
      canvas.onmouseleave = () => { board.near = null; drawCharts(); };
      canvas.onclick = () => { if (board.near !== null) location.hash = `t=${token()}&run=${board.near}`; };
      card.append(title, make("ul", "legend"), canvas);
      return card;
    }));
  }
  box.classList.toggle("many", envs.length > 4);
  $("no-curves").hidden = envs.length > 0 || !board.rows.size;
  envs.forEach((env, i) => drawChart(box.children[i], rows.filter((row) => row.env === env)));
  for (const line of $("rows").children) line.classList.toggle("near", line.row.n === board.near);
}

function drawChart(card, rows) {
  const labels = new Map();
  for (const row of [...rows].sort((a, b) => a.place - b.place)) labels.set(row.label, [...(labels.get(row.label) || []), row]);
  const groups = board.groups.filter((g) => g.env === card.dataset.env && labels.has(g.label));
  drawLegend(card.querySelector("ul"), labels, groups);
  const canvas = card.querySelector("canvas");
  const [context, width, height] = chart(canvas);
  const lines = rows.map((row) => ({ row, points: board.curves.get(row.n) }));
  const last = Math.max(1, ...lines.map((l) => l.points.at(-1)[0]));
  const values = [];
  for (const { points } of lines) {
    const from = Math.min(points.at(-1)[0], last / 20); // the first means are over few games
    for (const [step, mean] of points) if (step >= from) values.push(mean);
  }
  const span = Math.max(...values) - Math.min(...values) || 1;
  const [low, high] = [Math.min(...values) - 0.06 * span, Math.max(...values) + 0.06 * span];
  const [box, y] = axes(context, width, height - 30, low, high, 48, 6);
  const x = (step) => box.left + step / last * (box.right - box.left);
  stepAxis(context, box, x, last, height);
  canvas.lines = lines.map(({ row, points }) => ({ row, at: points.map((p) => [x(p[0]), y(p[1])]) }));
  context.save();
  context.beginPath();
  context.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
  context.clip();
  context.lineJoin = "round";
  for (const { points, color } of groups) {
    if (points[0].length < 4) continue;
    context.globalAlpha = 0.16;
    context.fillStyle = bright(color);
    context.beginPath();
    points.forEach((p, i) => (i ? context.lineTo(x(p[0]), y(p[3])) : context.moveTo(x(p[0]), y(p[3]))));
    for (const p of [...points].reverse()) context.lineTo(x(p[0]), y(p[2]));
    context.fill();
  }
  const averaged = new Set(groups.map((g) => g.label));
  for (const { row, at } of canvas.lines) {
    const alone = !averaged.has(row.label);
    trace(context, at, row, alone ? 2 : 1, alone ? 1 : 0.5);
  }
  for (const group of groups) trace(context, group.points.map((p) => [x(p[0]), y(p[1])]), group, 2.4, 1);
  const near = canvas.lines.find((l) => l.row.n === board.near);
  if (near) trace(context, near.at, { color: COLORS.ink, dashes: near.row.dashes }, 2, 1);
  context.restore();
  if (near) tip(context, box, near);
}

function trace(context, at, { color, dashes }, width, alpha) {
  context.globalAlpha = alpha;
  context.strokeStyle = context.fillStyle = bright(color);
  context.lineWidth = width;
  context.setLineDash(DASHES[dashes]);
  context.beginPath();
  if (at.length === 1) {
    context.arc(at[0][0], at[0][1], 1.5 + width / 2, 0, 7);
    context.fill();
  } else {
    at.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.stroke();
  }
  context.setLineDash([]);
  context.globalAlpha = 1;
}

function stepAxis(context, box, x, last, height) {
  context.fillStyle = COLORS.faint;
  context.textBaseline = "alphabetic";
  for (const tick of nice(0, last, 6)) {
    context.textAlign = tick === 0 ? "left" : x(tick) > box.right - 20 ? "right" : "center";
    context.fillText(short(tick), x(tick), box.bottom + 16);
  }
  context.textAlign = "center";
  context.fillText("steps (agent decisions)", (box.left + box.right) / 2, height - 3);
}

function tip(context, box, { row, at }) {
  const [x, y] = at.at(-1);
  const mean = board.curves.get(row.n).at(-1)[1];
  const text = `${row.label}, seed ${row.seed}: ${short(mean)}`;
  context.font = "600 12px system-ui, sans-serif";
  const wide = context.measureText(text).width + 12;
  const left = Math.max(box.left, Math.min(x - wide - 6, box.right - wide));
  const top = Math.max(box.top, Math.min(y - 26, box.bottom - 22));
  context.fillStyle = "#000c";
  context.fillRect(left, top, wide, 20);
  context.fillStyle = COLORS.ink;
  context.textAlign = "left";
  context.textBaseline = "middle";
  context.fillText(text, left + 6, top + 10);
}

function drawLegend(list, labels, groups) {
  list.replaceChildren(...[...labels].map(([label, rows]) => {
    const item = make("li");
    const group = groups.find((g) => g.label === label);
    const end = group ? group.points.at(-1) : board.curves.get(rows[0].n).at(-1);
    const of = group ? `mean of ${group.seeds} seeds${end.length > 2 ? ", band: 95 % interval" : ""}`
      : rows.length === 1 ? `seed ${rows[0].seed}` : `${rows.length} seeds, no common step yet`;
    item.append(swatch(rows[0]), make("b", "", label), make("span", "faint", of));
    if (group || rows.length === 1) item.append(make("span", "", `${short(end[1])} at step ${short(end[0])}`));
    return item;
  }));
}

function pointAt(canvas, event) {
  const [x, y] = [event.offsetX, event.offsetY];
  let [best, found] = [20 ** 2, null]; // pixels
  for (const { row, at } of canvas.lines || []) {
    for (let i = 0; i < at.length; i += 1) {
      const [ax, ay] = at[Math.max(0, i - 1)]; // the nearest point of each piece of the line
      const [dx, dy] = [at[i][0] - ax, at[i][1] - ay];
      const share = Math.max(0, Math.min(1, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1)));
      const far = (ax + share * dx - x) ** 2 + (ay + share * dy - y) ** 2;
      if (far < best) [best, found] = [far, row.n];
    }
  }
  canvas.style.cursor = found === null ? "" : "pointer";
  if (found !== board.near) { board.near = found; drawCharts(); }
}

window.addEventListener("resize", drawCharts);

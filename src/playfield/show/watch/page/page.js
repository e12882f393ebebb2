"use strict";
// The live page. All data comes over one WebSocket; text is set with textContent only.

const $ = (id) => document.getElementById(id);
const make = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};
const SPEEDS = [0.25, 0.5, 1, 2, 4, 0];
const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down", " ": "fire" };
const COLORS = { ink: "#ececf0", faint: "#9c9cac", grid: "#2a2a36", blue: "#56b4e9", orange: "#e69f00" };

let socket = null;
let hello = null;
let last = null; // newest frame message
let playing = true;
let human = false;
let curve = null;
let trail = []; // [step, value, reward, over] of the last steps
const pressed = new Set();

// Connection

const address = () => new URLSearchParams(location.hash.slice(1));
const token = () => address().get("t");

function connect() {
  if (!token()) {
    notice("The address is incomplete: open the one that `playfield watch` printed, including #t= and the token.");
    return;
  }
  const run = address().get("run"); // a number of the server's own list, where it shows a folder
  $("back").hidden = run === null;
  $("back").href = `#t=${token()}`;
  const opening = new WebSocket(`ws://${location.host}/ws${run === null ? "" : `?run=${encodeURIComponent(run)}`}`, ["playfield", `token.${token()}`]);
  socket = opening;
  socket.binaryType = "arraybuffer";
  let explained = false; // the server sent a reason before closing
  let opened = false;
  socket.onopen = () => { opened = true; };
  socket.onmessage = (event) => {
    if (socket !== opening) return;
    const size = new DataView(event.data).getUint32(0, true);
    const message = JSON.parse(new TextDecoder().decode(new Uint8Array(event.data, 4, size)));
    if (message.kind === "hello") start(message);
    else if (message.kind === "frame") {
      show(message, new Uint8Array(event.data, 4 + size));
      acknowledge();
    } else if (message.kind === "run") runStatus(message);
    else if (message.kind === "board") showBoard(message);
    else if (message.kind === "runs") boardNews(message);
    else if (message.kind === "note") notice(message.text, 6000);
    else if (message.kind === "error") { notice(message.text); explained = true; if (!hello) failed(run); }
  };
  socket.onclose = (event) => {
    if (socket === opening && !explained) {
      notice(opened ? `Connection closed${event.reason ? `: ${event.reason}` : ""}. Reload the page to reconnect.`
        : "Cannot connect: `playfield watch` has stopped, or was restarted with another address.");
    }
  };
}

// Another run, or back to all of them: as a new page, but what is filtered and sorted stays.
window.addEventListener("hashchange", () => {
  if (socket) socket.close();
  [hello, last, curve, trail] = [null, null, null, []];
  stripRange = [0, 1];
  if (human) setHuman(false);
  setPlaying(true);
  for (const button of $("speeds").children) button.setAttribute("aria-pressed", String(button.textContent === "1×"));
  $("overlay").value = "off";
  document.body.className = "";
  for (const id of ["score", "step", "game", "value"]) $(id).textContent = "–";
  $("env").textContent = "playfield";
  $("label").textContent = "connecting …";
  $("protocol").textContent = "";
  $("curtain").hidden = true;
  notice("");
  connect();
});

function send(message) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function acknowledge() {
  // At most one frame per screen refresh; a hidden tab asks for two frames per second.
  if (document.hidden) setTimeout(() => send({ command: "ack" }), 500);
  else requestAnimationFrame(() => send({ command: "ack" }));
}

document.addEventListener("visibilitychange", () => { if (document.hidden) send({ command: "ack" }); });

// There is nothing to show but the reason.
function failed(run) {
  document.body.className = "failed";
  $("env").textContent = board.rows.get(Number(run))?.run || "playfield";
  $("label").textContent = "";
}

let noticeTimer = 0;
function notice(text, milliseconds) {
  clearTimeout(noticeTimer);
  $("notice").textContent = text;
  $("notice").hidden = !text;
  if (milliseconds) noticeTimer = setTimeout(() => notice(""), milliseconds);
}

// Messages from the server

function start(message) {
  hello = message;
  document.body.className = "playing";
  document.title = `${message.env} · playfield`;
  $("env").textContent = message.env;
  $("protocol").textContent = `protocol: ${message.protocol}${message.trained ? "" : " · random agent"} · raw scores of full games`;
  $("overlay-box").hidden = !message.overlay || !message.trained;
  const rows = $("bars");
  rows.replaceChildren();
  rows.classList.toggle("many", message.actions.length > 9);
  message.actions.forEach((name) => {
    const row = make("div", "bar");
    const track = make("i");
    track.append(make("span"));
    row.append(make("b", "", name), track, make("em"));
    rows.append(row);
  });
  const obs = $("obs");
  obs.replaceChildren();
  if (!message.pixels) {
    $("obs-note").textContent = `vector of size ${message.obs_shape.join(" × ")}`;
    obs.append(make("div", "numbers"));
  }
  drawCurve();
}

function show(message, bytes) {
  const restarted = last && (message.seed !== last.seed);
  if (restarted) trail = [];
  last = message;
  trail.push(...message.trail);
  if (trail.length > 400) trail = trail.slice(-400);
  $("score").textContent = round(message.score);
  $("step").textContent = message.step.toLocaleString("en");
  $("game").textContent = message.game + 1;
  $("value").textContent = message.value === null ? "–" : message.value.toFixed(2);
  $("lives-box").hidden = message.lives === null;
  $("lives").textContent = message.lives;
  $("label").textContent = message.label;
  $("human-badge").hidden = !message.human_game;
  const curtain = message.over ? `game over: ${round(message.score)}` : playing ? "" : "paused";
  $("curtain").textContent = curtain;
  $("curtain").hidden = !curtain;
  let at = paintFrame(message, bytes);
  at = paintStack(message, bytes, at);
  paintHeat(message, bytes, at);
  paintBars(message);
  drawStrip();
  if (!curve) drawCurve();
}

const round = (x) => (x === null ? "–" : Number.isInteger(x) ? x.toLocaleString("en") : Math.abs(x) < 10 ? x.toPrecision(3) : x.toFixed(1));

function pixels(canvas, width, height) {
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const context = canvas.getContext("2d");
  if (!canvas.image || canvas.image.width !== width || canvas.image.height !== height) {
    canvas.image = context.createImageData(width, height);
    canvas.image.data.fill(255);
  }
  return [context, canvas.image];
}

function fitScreen(message) {
  const box = $("screen");
  const width = Math.min(box.clientWidth, box.clientHeight * message.aspect);
  for (const id of ["frame", "heat"]) {
    $(id).style.width = `${Math.floor(width)}px`;
    $(id).style.height = `${Math.floor(width / message.aspect)}px`;
  }
}

function paintFrame(message, bytes) {
  const [height, width] = message.frame;
  const canvas = $("frame");
  const [context, image] = pixels(canvas, width, height);
  const data = image.data;
  const count = height * width;
  for (let i = 0, j = 0, k = 0; i < count; i += 1, j += 3, k += 4) {
    data[k] = bytes[j]; data[k + 1] = bytes[j + 1]; data[k + 2] = bytes[j + 2];
  }
  context.putImageData(image, 0, 0);
  canvas.style.imageRendering = width > 320 ? "auto" : "pixelated";
  fitScreen(message);
  return 3 * count;
}

function paintStack(message, bytes, start) {
  if (!message.stack) {
    const box = $("obs").firstChild;
    if (box && message.obs) {
      while (box.childElementCount < message.obs.length) {
        const row = make("div", "bar");
        const track = make("i");
        track.append(make("span"));
        row.append(make("b", "", hello.inputs[box.childElementCount]), track, make("em"));
        row.largest = 1e-9;
        box.append(row);
      }
      message.obs.forEach((x, i) => {
        const row = box.children[i];
        row.largest = Math.max(row.largest, Math.abs(x ?? 0));
        const share = (x ?? 0) / row.largest / 2; // signed: the bar starts in the middle
        row.children[1].firstChild.style.transform = `translateX(${50 + Math.min(share, 0) * 100}%) scaleX(${Math.abs(share)})`;
        row.children[2].textContent = x === null ? "–" : x.toFixed(2);
      });
    }
    return start;
  }
  const [height, width, channels] = message.stack;
  const obs = $("obs");
  while (obs.childElementCount < channels) {
    const figure = make("figure");
    figure.append(make("canvas"), make("figcaption"));
    obs.append(figure);
  }
  $("obs-note").textContent = `${channels} frames of ${width} × ${height}`;
  for (let c = 0; c < channels; c += 1) {
    const figure = obs.children[c];
    figure.children[1].textContent = c === channels - 1 ? "t" : `t−${channels - 1 - c}`;
    const [context, image] = pixels(figure.children[0], width, height);
    const base = start + c * height * width;
    for (let i = 0, k = 0; i < height * width; i += 1, k += 4) {
      image.data[k] = image.data[k + 1] = image.data[k + 2] = bytes[base + i];
    }
    context.putImageData(image, 0, 0);
  }
  return start + channels * height * width;
}

function paintHeat(message, bytes, start) {
  $("heat").hidden = !message.overlay;
  if (!message.overlay) return;
  const [height, width] = message.overlay;
  const [context, image] = pixels($("heat"), width, height);
  const [r, g, b] = $("overlay").value === "policy" ? [86, 180, 255] : [255, 150, 0];
  for (let i = 0, k = 0; i < height * width; i += 1, k += 4) {
    image.data[k] = r; image.data[k + 1] = g; image.data[k + 2] = b; image.data[k + 3] = bytes[start + i] * 0.85;
  }
  context.putImageData(image, 0, 0);
}

function paintBars(message) {
  const rows = $("bars").children;
  let shares = message.probs;
  let texts = null;
  if (message.q) {
    const low = Math.min(...message.q);
    const range = Math.max(...message.q) - low || 1;
    shares = message.q.map((q) => 0.05 + 0.95 * (q - low) / range);
    texts = message.q.map((q) => q.toFixed(2));
  } else if (shares) texts = shares.map((p) => `${(100 * p).toFixed(p < 0.0995 ? 1 : 0)} %`);
  for (let i = 0; i < rows.length; i += 1) {
    rows[i].classList.toggle("chosen", i === message.action);
    if (!shares) continue;
    rows[i].children[1].firstChild.style.transform = `scaleX(${shares[i]})`;
    rows[i].children[2].textContent = texts[i];
  }
  $("bars-title").textContent = message.q ? "Action values" : "Action probabilities";
  $("bars-note").textContent = message.human ? "orange: your action" : "orange: action taken";
}

// Charts

function chart(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "11px system-ui, sans-serif";
  return [context, width, height];
}

function nice(low, high, most = 4) {
  const step = 10 ** Math.floor(Math.log10((high - low) / most || 1));
  const size = [1, 2, 5, 10].map((m) => m * step).find((s) => (high - low) / s <= most) || step;
  const ticks = [];
  for (let i = Math.ceil(low / size - 1e-9); i * size <= high + 1e-9 * size; i += 1) ticks.push(i * size);
  return ticks;
}

const short = (x) => {
  const size = Math.abs(x);
  if (size >= 1e6) return `${+(x / 1e6).toPrecision(3)}M`;
  return size >= 1e4 ? `${+(x / 1e3).toPrecision(3)}k` : `${+x.toPrecision(3)}`;
};

function axes(context, width, height, low, high, margin = 36, most = 4) {
  const box = { left: margin, right: width - 6, top: 6, bottom: height - 6 };
  const y = (v) => box.bottom - (v - low) / (high - low || 1) * (box.bottom - box.top);
  context.lineWidth = 1;
  for (const tick of nice(low, high, most)) {
    context.strokeStyle = COLORS.grid;
    context.beginPath();
    context.moveTo(box.left, y(tick));
    context.lineTo(box.right, y(tick));
    context.stroke();
    context.fillStyle = COLORS.faint;
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.fillText(short(tick), box.left - 6, y(tick));
  }
  return [box, y];
}

function empty(context, width, height, text) {
  context.fillStyle = COLORS.faint;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.font = "13px system-ui, sans-serif";
  context.fillText(text, width / 2, height / 2);
}

let stripRange = [0, 1];
function drawStrip() {
  const [context, width, height] = chart($("strip"));
  const values = trail.map((t) => t[1]).filter((v) => v !== null);
  if (!values.length) {
    empty(context, width, height, hello && hello.trained ? "no value estimate" : "random play has no value estimate");
    return;
  }
  let low = Math.min(...values);
  let high = Math.max(...values);
  const margin = Math.max((high - low) * 0.1, 0.05 * Math.abs(high), 0.02);
  low -= margin; high += margin;
  // The range grows at once and shrinks slowly, so that the line does not jump.
  stripRange = [Math.min(low, stripRange[0] + 0.05 * (low - stripRange[0])), Math.max(high, stripRange[1] + 0.05 * (high - stripRange[1]))];
  const [box, y] = axes(context, width, height, ...stripRange);
  const x = (i) => box.right - (trail.length - 1 - i) * (box.right - box.left) / 399;
  context.strokeStyle = COLORS.blue;
  context.lineWidth = 1.6;
  context.lineJoin = "round";
  context.beginPath();
  let pen = false;
  trail.forEach((t, i) => {
    if (t[1] === null) { pen = false; return; }
    if (pen) context.lineTo(x(i), y(t[1])); else context.moveTo(x(i), y(t[1]));
    pen = !t[3];
  });
  context.stroke();
  const every = trail.length > 20 && trail.every((t) => t[2] === trail[0][2]); // not where every step has the same reward
  trail.forEach((t, i) => {
    if (t[3]) {
      context.fillStyle = COLORS.faint;
      context.fillRect(x(i), box.top, 1, box.bottom - box.top);
    } else if (t[2] && !every) {
      context.fillStyle = t[2] > 0 ? COLORS.orange : "#d55e00";
      context.beginPath();
      context.arc(x(i), t[1] === null ? box.bottom - 3 : y(t[1]), 2.6, 0, 7);
      context.fill();
    }
  });
}

function drawCurve() {
  const [context, width, height] = chart($("curve"));
  if (curve && curve.points.length > 1) {
    $("curve-title").textContent = `Learning curve: ${curve.is} of the last 100 games, ${short(curve.step)} steps so far`;
    line(context, width, height, curve.points);
    return;
  }
  const scores = last ? last.scores : [];
  $("curve-title").textContent = "Scores of the games on this page";
  if (!scores.length) { empty(context, width, height, "no game finished yet"); return; }
  const high = Math.max(...scores.map((s) => s[0]), 0);
  const low = Math.min(...scores.map((s) => s[0]), 0);
  const [box, y] = axes(context, width, height, low, high || 1);
  const pitch = (box.right - box.left) / 20;
  scores.forEach(([score, byHuman], i) => {
    context.fillStyle = byHuman ? COLORS.orange : COLORS.blue;
    const top = Math.min(y(score), y(0));
    context.fillRect(box.left + i * pitch + 2, top, pitch - 4, Math.max(2, Math.abs(y(score) - y(0))));
  });
}

function line(context, width, height, points) {
  const scores = points.map((p) => p[1]);
  const low = Math.min(0, ...scores);
  const high = Math.max(...scores, low + 1);
  const [box, y] = axes(context, width, height - 14, low, high);
  const first = points[0][0];
  const range = points[points.length - 1][0] - first || 1;
  const x = (step) => box.left + (step - first) / range * (box.right - box.left);
  context.strokeStyle = COLORS.orange;
  context.lineWidth = 1.8;
  context.beginPath();
  points.forEach((p, i) => (i ? context.lineTo(x(p[0]), y(p[1])) : context.moveTo(x(p[0]), y(p[1]))));
  context.stroke();
  const [step, score] = points[points.length - 1];
  context.fillStyle = COLORS.orange;
  context.beginPath();
  context.arc(x(step), y(score), 3, 0, 7);
  context.fill();
  context.fillStyle = COLORS.ink;
  context.textAlign = "right";
  context.textBaseline = "alphabetic";
  context.fillText(short(score), box.right - 6, Math.max(y(score) - 7, 14));
  context.fillStyle = COLORS.faint;
  context.fillText(`${short(step)} steps`, box.right, height - 2);
  context.textAlign = "left";
  context.fillText(short(first), box.left, height - 2);
}

function runStatus(message) {
  curve = message.curve;
  drawCurve();
  const select = $("checkpoint");
  $("checkpoint-box").hidden = !message.choices.length;
  const names = [...select.options].map((o) => o.value);
  if (names.join() !== message.choices.join()) {
    select.replaceChildren(...message.choices.map((choice) => {
      const text = choice === "follow" ? "latest (follow training)" : /^\d+$/.test(choice) ? `step ${(+choice).toLocaleString("en")}` : choice;
      const option = make("option", "", text);
      option.value = choice;
      return option;
    }));
  }
  if (document.activeElement !== select) select.value = message.choices.includes(message.choice) ? message.choice : "";
}

// Controls

function setPlaying(on) {
  playing = on;
  $("play").textContent = on ? "❚❚" : "▶";
  $("play").setAttribute("aria-label", on ? "pause" : "play");
  send({ command: on ? "play" : "pause" });
  if (last && !last.over) { $("curtain").textContent = on ? "" : "paused"; $("curtain").hidden = on; }
}

function step() {
  if (playing) setPlaying(false);
  send({ command: "step" });
}

function setHuman(on) {
  human = on;
  pressed.clear();
  $("human").setAttribute("aria-pressed", String(on));
  $("human").textContent = on ? "hand back to the agent" : "take over";
  $("hint").textContent = on ? "arrow keys and space to play, H to hand back" : "";
  send({ command: "human", on });
  if (on && !playing) setPlaying(true);
  if (on) $("screen").focus();
}

SPEEDS.forEach((speed) => {
  const button = make("button", "", speed ? `${speed}×` : "max");
  button.setAttribute("aria-pressed", String(speed === 1));
  button.onclick = () => {
    for (const other of $("speeds").children) other.setAttribute("aria-pressed", String(other === button));
    send({ command: "speed", speed });
    button.blur();
  };
  $("speeds").append(button);
});
$("play").onclick = () => { setPlaying(!playing); $("play").blur(); };
$("one").onclick = () => { step(); $("one").blur(); };
$("restart").onclick = () => { send({ command: "restart" }); $("restart").blur(); };
$("human").onclick = () => { setHuman(!human); $("human").blur(); };
$("overlay").onchange = (event) => { send({ command: "overlay", overlay: event.target.value }); event.target.blur(); };
$("checkpoint").onchange = (event) => { send({ command: "checkpoint", choice: event.target.value }); event.target.blur(); };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || ["SELECT", "INPUT"].includes(event.target.tagName) || !hello) return;
  const key = KEYS[event.key];
  if (human && key) {
    event.preventDefault();
    if (!pressed.has(key)) { pressed.add(key); send({ command: "keys", keys: [...pressed] }); }
    return;
  }
  if (event.repeat && event.key !== ".") return;
  const act = { p: () => setPlaying(!playing), ".": step, n: () => send({ command: "restart" }), h: () => setHuman(!human) }[event.key.toLowerCase()];
  if (act) { event.preventDefault(); act(); }
});
document.addEventListener("keyup", (event) => {
  if (pressed.delete(KEYS[event.key])) send({ command: "keys", keys: [...pressed] });
});
window.addEventListener("blur", () => { if (pressed.size) { pressed.clear(); send({ command: "keys", keys: [] }); } });
window.addEventListener("resize", () => { if (last) { fitScreen(last); drawStrip(); } if (hello) drawCurve(); });
document.addEventListener("DOMContentLoaded", connect); // all scripts are there by then

// What all parts share. The data is a stranger's: every value is taken by its type, every text is set as text.
const data = JSON.parse(document.getElementById("data").textContent);
const num = x => typeof x === "number" && isFinite(x) ? x : 0;
// What is longer is no name and no sentence.
const short = s => s.length > 400 ? s.slice(0, 399) + "…" : s;
const str = (x, other) => typeof x === "string" && x ? short(x) : other || "";
const arr = x => Array.isArray(x) ? x : [];
const obj = x => x && typeof x === "object" && !Array.isArray(x) ? x : {};
const rows = x => arr(x).map(obj);
const report = obj(data.report), profile = obj(report.profile);

const CLASSES = ["pick", "queue", "wake_up", "balance", "tick", "load", "sched_ext", "bpf_scheduler", "switch"];
const MEANS = {
  pick: "which task is next", queue: "into and out of run queues, yielding", wake_up: "where a woken task goes, whom it preempts",
  balance: "between CPUs", tick: "the scheduler's part of the tick", load: "run times, loads, pressure",
  sched_ext: "sched_ext's core", bpf_scheduler: "a BPF scheduler's programs", switch: "schedule() and the context switch",
};

// ---- words for numbers

function digits(x, n) {
  return x.toLocaleString("en", { maximumFractionDigits: n, minimumFractionDigits: n });
}

// Three significant digits of a value below 1000.
function three(x) {
  return digits(x, x === 0 || x >= 100 ? 0 : x >= 10 ? 1 : 2);
}

function ns(x) {
  const units = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [0, "ns"]];
  const [size, name] = units.find(([size]) => Math.abs(x) >= size * 0.9995);
  return (size ? three(x / size) : digits(x, 0)) + "\u202f" + name;
}

function percent(share) {
  const p = 100 * num(share);
  return (p > 0 && p < 0.05 ? "<\u202f0.1" : digits(p, p > 0 && p < 99.95 ? 1 : 0)) + "\u202f%";
}

// For the ends of an axis: no more digits than there are.
const percentTick = share => +(100 * share).toPrecision(6) + "\u202f%";
const nsTick = x => ns(x).replace(/\.0+(?=\u202f)/, "");

const count = x => digits(num(x), 0);

function bytes(x) {
  const names = ["B", "KiB", "MiB", "GiB", "TiB"];
  const i = x > 0 ? Math.min(Math.floor(Math.log2(x) / 10), 4) : 0;
  return digits(x / 1024 ** i, x / 1024 ** i % 1 && i ? 1 : 0) + "\u202f" + names[i];
}

const times = n => n === 1 ? "once" : n === 2 ? "twice" : count(n) + " times";
const many = (n, one, more) => count(n) + " " + (n === 1 ? one : more || one + "s");
const seconds = s => s.toLocaleString("en", { maximumFractionDigits: s >= 100 ? 1 : s >= 1 ? 2 : 3 }) + "\u202fs";

// ---- colours: those of the styles, as they are now

const shade = name => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

// Dark ink or light, whichever is read better on it.
function ink(colour) {
  const c = d3.rgb(colour);
  return 0.299 * c.r + 0.587 * c.g + 0.114 * c.b > 140 ? "#1b1b19" : "#ffffff";
}

// A ramp of the styles ("a" or "b") for 0 to 1.
function ramp(which) {
  return d3.scaleLinear().domain([0, 0.12, 0.35, 0.6, 0.82, 1]).clamp(true)
    .range([0, 1, 2, 3, 4, 5].map(i => shade(which + i)));
}

// ---- drawing again: another width, another scheme, paper

const drawn = [];

function draws(fn) {
  drawn.push(fn);
  fn();
}

function redraw() {
  hideTip();
  for (const fn of drawn) fn();
}

let later = 0, width = innerWidth;
addEventListener("resize", () => {
  clearTimeout(later);
  if (innerWidth !== width) later = setTimeout(() => { width = innerWidth; redraw(); }, 120);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("beforeprint", () => { document.documentElement.setAttribute("data-print", ""); redraw(); });
addEventListener("afterprint", () => { document.documentElement.removeAttribute("data-print"); redraw(); });

// ---- elements

// A part of the page that says what is wrong in its place, and leaves the others alone.
function part(id, fn) {
  const section = d3.select("#" + id).attr("hidden", null); // seen, so that it has a width
  try {
    if (fn(section) === false) section.attr("hidden", "");
  } catch (e) {
    section.append("p").attr("class", "card failed").text("This part can't be drawn: " + e.message);
  }
}

function card(parent, title, caption) {
  const c = parent.append("div").attr("class", "card");
  if (title) c.append("h3").text(title);
  if (caption) c.append("p").attr("class", "caption").text(caption);
  return c;
}

// items: [{colour: a style's name, text}].
function legend(parent, items) {
  const list = parent.append("ul").attr("class", "legend");
  for (const item of items) {
    const li = list.append("li");
    li.append("span").attr("class", "swatch").style("background", "var(--" + item.colour + ")");
    li.append("span").text(item.text);
  }
  return list;
}

// One bar of parts: [{name, value, colour}].
function stack(parent, parts, text) {
  const all = d3.sum(parts, p => p.value) || 1;
  const bar = parent.append("div").attr("class", "stack").attr("role", "img")
    .attr("aria-label", parts.map(p => p.name + " " + percent(p.value / all)).join(", "));
  const shown = parts.filter(p => p.value > 0);
  for (const p of shown)
    tips(bar.append("span").style("background", "var(--" + p.colour + ")").style("flex", p.value / all + " 1 0"),
      () => [p.name, text(p)]);
  legend(parent, shown.map(p => ({ colour: p.colour, text: p.name + " " + percent(p.value / all) })));
}

// Buttons of which one is chosen: [[value, text]].
function choice(parent, label, options, chosen, pick) {
  const group = parent.append("div").attr("class", "choice").attr("role", "group").attr("aria-label", label);
  const set = value => group.selectAll("button").attr("aria-pressed", d => String(d[0] === value));
  group.selectAll("button").data(options).join("button").attr("type", "button").attr("data-value", d => d[0])
    .text(d => d[1]).on("click", d => { set(d[0]); pick(d[0]); });
  set(chosen);
}

// ---- hints beside the pointer

const tip = d3.select("#tip");

function showTip(lines, x, y) {
  tip.attr("hidden", null).selectAll("div").data(lines).join("div").text(d => d);
  const box = tip.node().getBoundingClientRect();
  const left = x + 14 + box.width > innerWidth - 6 ? x - 14 - box.width : x + 14;
  const top = y + 14 + box.height > innerHeight - 6 ? y - 10 - box.height : y + 14;
  tip.style("left", Math.max(left, 6) + "px").style("top", Math.max(top, 6) + "px");
}

function hideTip() {
  tip.attr("hidden", "");
}

function tips(selection, lines) {
  selection.on("mousemove", () => showTip(lines(), d3.event.clientX, d3.event.clientY)).on("mouseleave", hideTip);
}

const say = text => d3.select("#say").text(text);

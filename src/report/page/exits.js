// What the guest was left for, how often, and how long it took.
const DISTRIBUTIONS = [["served", "Being served"], ["waiting", "Waiting to be served"], ["hand_off", "Handed off"], ["guest", "In the guest before it"]];

part("exits", section => {
  const exits = obj(report.exits), time = obj(exits.time_ns), accounts = rows(exits.accounts), wall = num(time.wall);
  if (!accounts.length && !num(exits.total)) return false;
  if (wall) {
    const names = { guest: "guest", idle: "idle", hand_off: "hand-off", waiting: "waiting", served: "served", sampled: "sampled", parked: "parked" };
    const colours = { guest: "user", idle: "idle", hand_off: "c-queue", waiting: "c-wake_up", served: "c-balance", sampled: "c-load", parked: "c-tick" };
    stack(card(section, "The vCPUs' time", "What it went into, by the accounts that are always kept; " + ns(wall) + " of all vCPUs together."),
      Object.keys(names).map(k => ({ name: names[k], value: num(time[k]), colour: colours[k] })), p => ns(p.value) + ", " + percent(p.value / wall));
  }
  if (!accounts.length) return true;
  const box = card(section, "What the guest was left for", many(num(exits.total), "exit") + ". Time is what vCPUs spent outside of the guest for them. A click shows its distributions.").classed("tall", true);
  const of = (row, what, figure) => num(obj(row[what])[figure]);
  const time_of = (row, what, figure) => of(row, what, "count") ? ns(of(row, what, figure)) : "";
  const most = d3.max(accounts, a => num(a.time_ns));
  const column = (name, what, figure) => ({ name, of: a => of(a, what, figure), text: a => time_of(a, what, figure) });
  let picked = accounts.filter(a => DISTRIBUTIONS.some(([k]) => str(obj(a[k]).buckets)))
    .reduce((a, b) => a && num(a.time_ns) >= num(b.time_ns) ? a : b, null);
  const t = table(box, [
    { name: "exit", left: true, of: exitName, draw: (td, a) => td.append("button").attr("type", "button").attr("class", "code").text(exitName(a)) },
    { name: "count", of: a => num(a.count), text: a => count(a.count) },
    { name: "time", of: a => num(a.time_ns), draw: withBar(a => ns(num(a.time_ns)), a => num(a.time_ns), most) },
    { name: "of all", of: a => num(a.time_ns) / (wall || 1), text: a => wall ? percent(num(a.time_ns) / wall) : "" },
    column("waiting p50", "waiting", "p50_ns"), column("waiting p99", "waiting", "p99_ns"),
    column("served p50", "served", "p50_ns"), column("served p99", "served", "p99_ns"), column("served max", "served", "max_ns"),
  ], accounts, { by: 2, caption: "Exits", most: 300, first: 16, row: tr => tr.attr("class", "pick").classed("picked", a => a === picked).on("click", a => { picked = a; mark(); show(); }) });
  t.body.attr("id", "exit-rows");
  const mark = () => t.body.selectAll("tr").classed("picked", a => a === picked);
  const charts = card(section).attr("id", "distributions");
  const show = () => picked && distributions(charts, picked);
  if (picked) draws(show);
  else charts.remove();
});

// "from:count …", less than 1.6 % wide each, as quarter octaves: [{from, to, n}].
function quarters(text) {
  const bins = new Map();
  for (const word of typeof text === "string" ? text.split(" ") : []) {
    const [from, n] = word.split(":").map(Number);
    if (!(from >= 0 && n > 0)) continue;
    const q = Math.floor(4 * Math.log2(Math.max(from, 1)) + 1e-9);
    bins.set(q, (bins.get(q) || 0) + n);
  }
  return [...bins].map(([q, n]) => ({ from: 2 ** (q / 4), to: 2 ** ((q + 1) / 4), n })).sort((a, b) => a.from - b.from);
}

function distributions(box, row) {
  box.selectAll("*").remove();
  box.append("h3").text("How long: ").append("code").text(exitName(row));
  box.append("p").attr("class", "caption").text("Each bar is a quarter of a doubling; all four on one scale of time.");
  const list = DISTRIBUTIONS.map(([key, name]) => ({ key, name, of: obj(row[key]), bins: quarters(obj(row[key]).buckets) })).filter(d => d.bins.length);
  const lost = d3.sum(DISTRIBUTIONS, ([key]) => num(obj(row[key]).not_in_buckets));
  if (lost) box.append("p").attr("class", "caption lost").text("No room was left for " + many(lost, "time") + ": in the counts, but in no bar, median or percentile.");
  const grid = box.append("div").attr("class", "small");
  const from = d3.min(list, d => d.bins[0].from), to = d3.max(list, d => d.bins[d.bins.length - 1].to);
  // All are there before one is drawn, so that each has its width.
  const boxes = list.map(d => grid.append("div").attr("data-of", d.key));
  list.forEach((d, i) => distribution(boxes[i], d, [from, Math.max(to, from * 10)]));
}

function distribution(box, d, domain) {
  box.append("div").append("strong").text(d.name);
  box.append("div").attr("class", "muted").text(count(d.of.count) + "; median " + ns(num(d.of.p50_ns)) + ", p99 " + ns(num(d.of.p99_ns)) + ", most " + ns(num(d.of.max_ns)));
  const width = Math.max(box.node().clientWidth, 200), height = 110, most = d3.max(d.bins, b => b.n);
  const x = d3.scaleLog().domain(domain).range([4, width - 18]), y = d3.scaleLinear().domain([0, most]).range([height, 14]);
  const svg = box.append("div").attr("class", "plot").append("svg").attr("width", width).attr("height", height + 22).attr("role", "img")
    .attr("aria-label", d.name + ": median " + ns(num(d.of.p50_ns)) + ", 99th percentile " + ns(num(d.of.p99_ns)));
  const first = Math.ceil(Math.log10(domain[0]) - 1e-9), last = Math.floor(Math.log10(domain[1]) + 1e-9);
  const step = Math.max(1, Math.ceil((last - first + 1) / (width / 58)));
  svg.append("g").attr("class", "axis").attr("transform", "translate(0," + height + ")")
    .call(d3.axisBottom(x).tickValues(d3.range(first, last + 1, step).map(e => 10 ** e)).tickFormat(nsTick).tickSize(4));
  svg.selectAll(".bin").data(d.bins).join("rect").attr("class", "bin").attr("x", b => x(b.from)).attr("width", b => Math.max(x(b.to) - x(b.from) - 0.6, 0.8))
    .attr("y", b => Math.min(y(b.n), height - 1)).attr("height", b => Math.max(height - y(b.n), 1)).style("fill", "var(--accent)")
    .each(function (b) { tips(d3.select(this), () => [ns(b.from) + " to " + ns(b.to), count(b.n) + ", " + percent(b.n / num(d.of.count))]); });
  for (const [name, at] of [["p50", num(d.of.p50_ns)], ["p99", num(d.of.p99_ns)]]) {
    if (at < domain[0] || at > domain[1]) continue;
    svg.append("line").attr("x1", x(at)).attr("x2", x(at)).attr("y1", 12).attr("y2", height).style("stroke", "var(--ink)").style("stroke-dasharray", "3 3").style("opacity", 0.6);
    const near = x(num(d.of.p99_ns)) - x(num(d.of.p50_ns)) < 26;
    svg.append("text").attr("class", "note-text").style("fill", "var(--second)").attr("x", x(at) + (near ? name === "p50" ? -1 : 1 : 0)).attr("y", 9).attr("text-anchor", !near ? "middle" : name === "p50" ? "end" : "start").text(name);
  }
}

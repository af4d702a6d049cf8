// Where the vCPUs' time went: the scheduler's classes, caches, and all of it over time.

part("scheduling", section => {
  if (!(sampled_ns > 0)) return false;
  const kernel = Math.max(num(profile.kernel_ns) - num(profile.scheduling_ns), 0);
  const bar = card(section, "vCPU time", many(num(profile.samples), "sample") + ", which stand for " + digits(num(profile.hz_had), 0) + " a second of each vCPU (one of a halted vCPU for up to eight)" +
    (num(profile.dropped) ? "; " + count(profile.dropped) + " dropped" : "") + ". None is taken while the guest is frozen; one that came due while its vCPU waited for a host CPU is taken where the guest goes on.");
  stack(bar, [
    { name: "scheduling", value: num(profile.scheduling_ns), colour: "b3" },
    { name: "kernel, but for scheduling", value: kernel, colour: "kernel" },
    { name: "user space", value: num(profile.user_ns), colour: "user" },
    { name: "idle", value: num(profile.idle_ns), colour: "idle" },
  ], p => ns(p.value) + ", " + percent(p.value / sampled_ns));
  const pair = section.append("div").attr("class", "columns");
  classBars(card(pair, "The scheduler, by class", "Shares of the busy time; " + percent(profile.scheduling_share) + " in all." + switchText()));
  places(card(pair, "Caches", "How busy the vCPUs of each last-level cache were, and how much of that was scheduling."), rows(profile.caches), "cache", true);
  const nodes = rows(profile.nodes);
  if (nodes.length > 1) places(card(pair, "NUMA nodes", "The same of each node.").attr("id", "nodes"), nodes, "node", false);
});

function classBars(box) {
  const all = classList(), list = all.filter(c => c.ns > 0), most = d3.max(list, c => c.share) || 1;
  const bars = box.append("div").attr("class", "bars").attr("id", "classes");
  for (const c of list) {
    const name = bars.append("div").attr("class", "name");
    name.append("span").text(c.name);
    const fill = bars.append("div").attr("class", "track").append("div").attr("class", "fill")
      .style("width", 100 * c.share / most + "%").style("background", "var(--" + classColour(c.name) + ")");
    bars.append("div").attr("class", "figure").attr("data-class", c.name).text(percent(c.share));
    tips(d3.select(fill.node().parentNode), () => [c.name + ", " + percent(c.share), ns(c.ns) + (MEANS[c.name] ? ": " + MEANS[c.name] : "")]);
  }
  const none = all.filter(c => !(c.ns > 0)).map(c => c.name);
  if (none.length) box.append("p").attr("class", "caption below").text(list.length ? "No sample was in " + listed(none) + "." : "No sample was the scheduler's.");
}

// Where run queues were looked at.
function switchText() {
  return num(profile.switch_ns) ? " A context switch took " + ns(num(profile.switch_ns)) + " of pick, queue, sched_ext, bpf_scheduler and switch; there were " +
    count(profile.switches) + "." : "";
}

function places(box, list, what, has_node) {
  const most = d3.max(list, r => num(r.scheduling_share)) || 1;
  table(box, [
    { name: what, left: true, of: r => num(r[what]), text: r => what + " " + num(r[what]) },
    ...(has_node ? [{ name: "node", of: r => num(r.node) }] : []),
    { name: "busy", of: ratioBusy, draw: withBar(r => percent(ratioBusy(r)), ratioBusy, 1) },
    { name: "scheduling", of: r => num(r.scheduling_share), draw: withBar(r => percent(r.scheduling_share), r => num(r.scheduling_share), most, () => "b3") },
  ], list, { by: 0, caption: what === "cache" ? "Caches" : "NUMA nodes", most: 4096, first: 12 });
}

part("time", section => {
  const w = data.windows && obj(data.windows);
  if (!w) return false;
  const g = { rows: num(w.rows), columns: num(w.columns), per_row: num(w.per_row), cpus: num(w.vcpus), begin_s: num(w.begin_ns) / 1e9, column_s: num(w.column_ns) / 1e9 };
  classesOverTime(card(section, "The scheduler's share", "Of the busy time of all vCPUs, by class, from " + timeZero() + "."), w, g);
  cpusOverTime(card(section, "Each vCPU", "A row for " + (g.per_row > 1 ? "each " + g.per_row + " vCPUs" : "each vCPU") +
    ", a column for each " + ns(num(w.column_ns)) + ". Arrow keys move from cell to cell."), w, g);
  const counted = Object.keys(obj(w.counts)).filter(n => d3.sum(arr(w.counts[n])) > 0);
  if (counted.length) rates(card(section, "Rates", "Of all vCPUs together, a second.").attr("id", "rates"), counted, w, g);
});

// What times over the run count from: there may have been no COMMAND, or one whose start nobody saw.
function timeZero() {
  return num(obj(data.windows).begin_ns) || num(timing.command) || obj(report.evidence).since === "command" ? "COMMAND's start" : "the profile's start";
}

// A plot each: their scales have nothing in common but time.
function rates(box, names, w, g) {
  const grid = box.append("div").attr("class", "small wide");
  // The last column may have ended early.
  const all_s = g.columns * g.column_s, ran_s = num(profile.duration_ns) / 1e9;
  const had_s = ran_s > all_s - g.column_s && ran_s < all_s ? ran_s : all_s;
  const long_s = i => i < g.columns - 1 ? g.column_s : had_s - i * g.column_s;
  const list = names.map(name => ({ name, mean: d3.sum(arr(w.counts[name]).map(num)) / had_s,
    values: d3.range(g.columns).map(i => num(arr(w.counts[name])[i]) / long_s(i)), plot: grid.append("div").attr("data-of", name) }));
  for (const r of list) {
    r.plot.append("div").append("strong").text({ exits: "Exits", switches: "Context switches", wakeups: "Wake-ups" }[r.name] || r.name);
    r.plot.append("div").attr("class", "muted").text(digits(r.mean, 0) + " on average, " + digits(d3.max(r.values), 0) + " at most");
    r.svg = r.plot.append("div").attr("class", "plot").append("svg").attr("role", "img").attr("aria-label", r.name + " a second over time");
  }
  draws(() => {
    for (const r of list) {
      const left = 46, right = 20, height = 104, width = Math.max(r.plot.node().clientWidth, 220) - left - right;
      const x = d3.scaleLinear().domain([0, g.columns]).range([left, left + width]), y = d3.scaleLinear().domain([0, d3.max(r.values)]).range([height, 8]);
      const time = d3.scaleLinear().domain([g.begin_s, g.begin_s + g.columns * g.column_s]).range(x.range());
      const values = [...r.values, r.values[g.columns - 1]];
      r.svg.attr("width", width + left + right).attr("height", height + 24).selectAll("*").remove();
      r.svg.append("g").attr("class", "axis grid").attr("transform", "translate(" + left + ",0)").call(d3.axisLeft(y).ticks(3, "~s").tickSize(-width));
      r.svg.append("path").attr("d", d3.area().x((d, i) => x(i)).y0(height).y1(y).curve(d3.curveStepAfter)(values)).style("fill", "var(--accent)").style("opacity", 0.16);
      r.svg.append("path").attr("d", d3.line().x((d, i) => x(i)).y(y).curve(d3.curveStepAfter)(values)).attr("fill", "none").style("stroke", "var(--accent)").style("stroke-width", 1.5);
      r.svg.append("g").attr("class", "axis").attr("transform", "translate(0," + height + ")").call(d3.axisBottom(time).ticks(Math.max(2, width / 90)).tickFormat(seconds));
      r.svg.append("rect").attr("x", left).attr("width", width).attr("height", height).attr("fill", "none").attr("pointer-events", "all").on("mousemove", () => {
        const i = Math.max(0, Math.min(g.columns - 1, Math.floor(x.invert(d3.mouse(r.svg.node())[0]))));
        showTip([seconds(g.begin_s + i * g.column_s), digits(r.values[i], 0) + " a second"], d3.event.clientX, d3.event.clientY);
      }).on("mouseleave", hideTip);
    }
  });
}

function classesOverTime(box, w, g) {
  const classes = obj(w.classes), names = Object.keys(classes).filter(n => n !== "other" && d3.sum(arr(classes[n])) > 0)
    .sort((a, b) => d3.sum(arr(classes[b])) - d3.sum(arr(classes[a])));
  const table = d3.range(g.columns).map(i => {
    const busy = num(arr(w.user_us)[i]) + num(arr(w.kernel_us)[i]), row = { busy };
    for (const n of names) row[n] = busy ? num(arr(classes[n])[i]) / busy : 0;
    return row;
  });
  if (!names.length) {
    box.append("p").text("No sample was the scheduler's.");
    return;
  }
  const plot = box.append("div").attr("class", "plot"), svg = plot.append("svg").attr("role", "img")
    .attr("aria-label", "Share of the busy time in each of the scheduler's classes over time");
  // Area charts step: a column is a sum, not an instant.
  const layers = d3.stack().keys(names)([...table, table[table.length - 1]]);
  const most = d3.max(layers[layers.length - 1], d => d[1]) || 1;
  draws(() => {
    const left = 66, right = 22, height = 170, width = Math.max(plot.node().clientWidth, 260) - left - right;
    const x = d3.scaleLinear().domain([0, g.columns]).range([left, left + width]);
    const time = d3.scaleLinear().domain([g.begin_s, g.begin_s + g.columns * g.column_s]).range(x.range());
    const y = d3.scaleLinear().domain([0, most * 1.04]).range([height, 8]);
    const area = d3.area().x((d, i) => x(i)).y0(d => y(d[0])).y1(d => y(d[1])).curve(d3.curveStepAfter);
    svg.attr("width", width + left + right).attr("height", height + 26).selectAll("*").remove();
    svg.append("g").attr("class", "axis grid").attr("transform", "translate(" + left + ",0)").call(d3.axisLeft(y).ticks(4).tickSize(-width).tickFormat(percentTick));
    svg.selectAll(".layer").data(layers).join("path").attr("class", "layer").attr("d", area)
      .style("fill", d => "var(--" + classColour(d.key) + ")").style("stroke", "var(--card)").style("stroke-width", g.columns < 150 ? 0.8 : 0.3);
    svg.append("g").attr("class", "axis").attr("transform", "translate(0," + height + ")")
      .call(d3.axisBottom(time).ticks(Math.max(2, Math.min(10, width / 90))).tickFormat(seconds));
    const rule = svg.append("line").attr("y1", 8).attr("y2", height).style("stroke", "var(--ink)").style("opacity", 0);
    svg.append("rect").attr("x", left).attr("width", width).attr("height", height).attr("fill", "none").attr("pointer-events", "all")
      .on("mousemove", () => {
        const i = Math.max(0, Math.min(g.columns - 1, Math.floor(x.invert(d3.mouse(svg.node())[0])))), row = table[i];
        const all = d3.sum(names, n => row[n]);
        rule.attr("x1", x(i + 0.5)).attr("x2", x(i + 0.5)).style("opacity", 0.5);
        showTip([seconds(g.begin_s + i * g.column_s) + ": scheduling " + percent(all), ...names.filter(n => row[n] > 0).map(n => n + " " + percent(row[n]))],
          d3.event.clientX, d3.event.clientY);
      }).on("mouseleave", () => { rule.style("opacity", 0); hideTip(); });
  });
  legend(box, names.map(n => ({ colour: classColour(n), text: n })));
}

function cpusOverTime(box, w, g) {
  const cells = obj(w.cells), of = name => arr(cells[name]);
  const user = of("user_us"), kernel = of("kernel_us"), scheduling = of("scheduling_us"), idle = of("idle_us");
  const at = (list, r, i) => num(list[r * g.columns + i]);
  const all = (r, i) => at(user, r, i) + at(kernel, r, i) + at(idle, r, i);
  const shares = {
    busy: (r, i) => (at(user, r, i) + at(kernel, r, i)) / all(r, i),
    scheduling: (r, i) => at(scheduling, r, i) / all(r, i),
    kernel: (r, i) => at(kernel, r, i) / all(r, i),
  };
  const ramps = { busy: "a", kernel: "a", scheduling: "b" };
  let mode = "busy", colour = null, most = 1;
  const tools = box.append("div").attr("class", "tools").attr("id", "heat-tools");
  choice(tools, "What the colours show", [["busy", "Busy"], ["scheduling", "Scheduling"], ["kernel", "Kernel"]], mode, m => { mode = m; draw(); });
  const key = rampKey(tools);
  const map = heatMap(box, g, (r, i) => all(r, i) > 0 ? shares[mode](r, i) / most : null, v => colour(v),
    (r, i) => all(r, i) > 0 ? ["busy", "kernel", "scheduling"].map(k => k + " " + percent(shares[k](r, i))) : ["no samples"],
    "Heat map of what each vCPU did over time");
  function draw() {
    most = 1;
    if (mode === "scheduling") {
      most = 0.01;
      for (let r = 0; r < g.rows; r++) for (let i = 0; i < g.columns; i++) if (all(r, i) > 0) most = Math.max(most, shares.scheduling(r, i));
    }
    colour = ramp(ramps[mode]);
    key(colour, "0", percent(most) + " of a vCPU's time");
    map();
    box.attr("data-mode", mode);
  }
  box.attr("id", "heat");
  draws(draw);
}

part("functions", section => {
  const functions = rows(profile.functions), tasks = rows(profile.tasks), programs = rows(profile.programs);
  if (!functions.length && !tasks.length) return false;
  const pair = section.append("div").attr("class", "columns");
  if (functions.length) {
    const most = d3.max(functions, f => num(f.share));
    table(card(pair, "Functions", "By their own time, as a share of the busy time. A click looks a name up in the flame graph.").classed("tall", true), [
      { name: "function", left: true, long: true, of: f => str(f.name, "?"), draw: (td, f) =>
        td.append("button").attr("type", "button").attr("class", "code").text(str(f.name, "?")).on("click", () => searchFor(str(f.name), true)) },
      { name: "class", left: true, of: f => str(f.class), draw: (td, f) => {
        if (str(f.class) !== "other") td.append("span").attr("class", "swatch").style("background", "var(--" + classColour(f.class) + ")");
        td.append("span").classed("muted", str(f.class) === "other").text((str(f.class) !== "other" ? " " : "") + str(f.class));
      } },
      { name: "share", of: f => num(f.share), draw: withBar(f => percent(f.share), f => num(f.share), most, f => str(f.class) !== "other" ? classColour(f.class) : "accent") },
    ], functions, { by: 2, caption: "Functions", most: 200, first: 16 }).body.attr("id", "function-rows");
  }
  if (programs.length) {
    const most = d3.max(programs, p => num(p.share));
    table(card(pair, "The scheduler's BPF programs", "As a share of the busy time, with all that they call. A click looks a name up in the flame graph."), [
      { name: "program", left: true, long: true, of: p => str(p.program, "?"), draw: (td, p) =>
        td.append("button").attr("type", "button").attr("class", "code").text(str(p.program, "?")).on("click", () => searchFor(str(p.name), true)) },
      { name: "itself", of: p => num(p.self_share), text: p => percent(p.self_share) },
      { name: "share", of: p => num(p.share), draw: withBar(p => percent(p.share), p => num(p.share), most, () => classColour("bpf_scheduler")) },
    ], programs, { by: 2, caption: "BPF programs", most: 200, first: 16 }).body.attr("id", "program-rows");
  }
  if (tasks.length) {
    const most = d3.max(tasks, t => num(t.busy_ns));
    table(card(pair, "Tasks", "Busy time, and how much of that was scheduling.").classed("tall", true), [
      { name: "task", left: true, long: true, of: t => str(t.name, "?") },
      { name: "pid", of: t => num(t.pid), text: t => String(num(t.pid)) },
      { name: "busy", of: t => num(t.busy_ns), draw: withBar(t => ns(num(t.busy_ns)), t => num(t.busy_ns), most) },
      { name: "scheduling", of: t => num(t.scheduling_share), text: t => percent(t.scheduling_share) },
    ], tasks, { by: 2, caption: "Tasks", most: 200, first: 16 });
  }
});

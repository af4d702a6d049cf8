// How many tasks were on each run queue.

part("queues", section => {
  const q = data.queues && obj(data.queues), m = obj(report.monitor);
  if (!q && !report.monitor) return false;
  if (q) overTime(card(section, "Tasks on each run queue", count(q.looks) + " looks" + (num(m.interval_ns) ? ", each " + ns(num(m.interval_ns)) : "") +
    "; running ones count. Times are from the guest's start. Arrow keys move from cell to cell." + (num(q.bad_lines) ? " " + many(num(q.bad_lines), "line") + " could not be read." : "")), q);
  const cpus = rows(m.cpus).filter(c => num(c.samples));
  if (cpus.length || rows(m.stalls).length) {
    const pair = section.append("div").attr("class", "columns");
    if (cpus.length) perCpu(card(pair, "By CPU", "Over the whole time. Missed: looks at which a CPU was idle while tasks waited for it."), cpus);
    stalls(card(pair, "Queues that stood still", "A clock of a run queue that stood for a whole interval while tasks waited."), m);
  }
});

function overTime(box, q) {
  const g = { rows: num(q.rows), columns: num(q.columns), per_row: num(q.per_row), cpus: num(q.cpus), begin_s: num(q.begin_ns) / 1e9, column_s: num(q.column_ns) / 1e9 };
  const mean = arr(q.mean_centi).map(x => num(x) / 100), most = arr(q.max).map(num);
  const values = { mean, max: most };
  let mode = "mean", colour = null, top = 1;
  const tools = box.append("div").attr("class", "tools").attr("id", "queue-tools");
  choice(tools, "What the colours show", [["mean", "Mean"], ["max", "Longest"]], mode, v => { mode = v; draw(); });
  const key = rampKey(tools), at = (r, i) => r * g.columns + i;
  const map = heatMap(box, g, (r, i) => most[at(r, i)] < 0 ? null : values[mode][at(r, i)] / top, v => colour(v),
    (r, i) => most[at(r, i)] < 0 ? ["no look"] : ["mean " + digits(mean[at(r, i)], 2) + " tasks", "longest " + many(most[at(r, i)], "task")],
    "Heat map of the length of each run queue over time");
  function draw() {
    top = Math.max(d3.max(values[mode]), 1);
    colour = ramp("a");
    key(colour, "0", many(top % 1 ? Math.ceil(top) : top, "task"));
    map();
    box.attr("data-mode", mode);
  }
  box.attr("id", "queue-heat");
  draws(draw);
}

function perCpu(box, cpus) {
  const most = d3.max(cpus, c => num(c.running_mean));
  table(box, [
    { name: "CPU", left: true, of: c => num(c.cpu), text: c => "CPU " + num(c.cpu) },
    { name: "mean", of: c => num(c.running_mean), draw: withBar(c => digits(num(c.running_mean), 2), c => num(c.running_mean), most) },
    { name: "longest", of: c => num(c.running_max) },
    { name: "switches/s", of: c => num(c.switches_per_s), text: c => digits(num(c.switches_per_s), 0) },
    { name: "missed", of: c => num(c.idle_with_work) },
  ], cpus, { by: 1, caption: "Run queues", most: 4096, first: 16 });
}

function stalls(box, m) {
  const list = rows(m.stalls);
  box.append("p").text(num(m.stall_count) ? many(num(m.stall_count), "stall") + "." : "None stood still.");
  if (!list.length) return;
  table(box, [
    { name: "CPU", left: true, of: s => num(s.cpu), text: s => "CPU " + num(s.cpu) },
    { name: "seen at", of: s => num(s.time_ns), text: s => seconds(num(s.time_ns) / 1e9) },
    { name: "stood for", of: s => num(s.stood_ns), text: s => ns(num(s.stood_ns)) },
    { name: "tasks", of: s => num(s.running) },
    { name: "running", left: true, long: true, of: s => str(s.comm) + (num(s.pid) ? " (" + num(s.pid) + ")" : "") },
  ], list, { by: 1, caption: "Stalls", most: 100, first: 16 });
}

// The head, the tiles, and what happened in sentences.
const outcome = str(report.outcome, "unknown");
const timing = obj(report.timing_ns);
const busy_ns = num(profile.user_ns) + num(profile.kernel_ns);
const sampled_ns = busy_ns + num(profile.idle_ns);
const lacks = arr(data.lacks).filter(x => typeof x === "string");

// Classes of the scheduler, dearest first: [{name, ns, share of the busy time}].
function classList() {
  const classes = obj(profile.classes);
  return Object.keys(classes).filter(k => k !== "other")
    .map(name => ({ name, ns: num(obj(classes[name]).ns), share: num(obj(classes[name]).share) }))
    .sort((a, b) => b.ns - a.ns);
}

const classColour = name => CLASSES.includes(name) ? "c-" + name : "kernel";

function commandText() {
  const c = report.command;
  const words = Array.isArray(c) ? c : Array.isArray(obj(c).argv) ? c.argv : [c];
  return words.filter(w => typeof w === "string").slice(0, 40).map(short).map(w => /^[\w@%+=:,.\/-]+$/.test(w) ? w : "'" + w + "'").join(" ");
}

function outcomeText() {
  const status = num(report.exit_status);
  if (outcome === "exited") return "exited with status\u00a0" + status;
  if (outcome === "signalled") return "died of signal\u00a0" + (status - 128);
  return { panicked: "the guest panicked", died: "the guest died", "no-init": "never reached its init", timeout: "ended by its timeout",
    hit: "ended while a watch held it", killed: "was ended", skipped: "this host can't, now", error: "stasis failed" }[outcome] || outcome;
}

function ran_ns() {
  return num(timing.command) || num(profile.duration_ns) || num(obj(report.evidence).wall_ns);
}

// "1n2l4c2t" as numbers; null for a shape that is not regular.
function shapeOf() {
  const m = /^(\d+)n(\d+)l(\d+)c(\d+)t$/.exec(str(report.topology));
  if (!m) return null;
  const [nodes, caches, cores, threads] = m.slice(1).map(Number);
  return caches * cores * threads === num(report.vcpus) && caches % nodes === 0 ? { nodes, caches, cores, threads } : null;
}

function shapeText() {
  const s = shapeOf();
  const cpus = many(num(report.vcpus), "vCPU");
  return s && s.caches > 1 ? cpus + " in " + many(s.nodes, "node") + " and " + many(s.caches, "cache") : cpus;
}

part("summary", () => {
  const title = commandText() || str(report.name, "A run");
  const kernel = obj(report.kernel);
  document.title = title.slice(0, 80) + " – stasis report";
  d3.select("#title").text(title).classed("code", commandText() !== "");
  d3.select("#subtitle").text([commandText() && str(report.name), str(kernel.release, str(kernel.path)), str(report.topology),
    bytes(num(report.memory_bytes)), str(report.arch), str(report.host) + (report.lab === true ? " in the lab" : "")].filter(x => x).join(" · "));
  const good = outcome === "exited" && num(report.exit_status) === 0;
  d3.select("#outcome").text((good ? "✓ " : outcome === "exited" ? "✗ " : "! ") + outcomeText())
    .classed("good", good).classed("warn", ["timeout", "hit", "killed", "skipped"].includes(outcome))
    .classed("bad", !good && !["timeout", "hit", "killed", "skipped"].includes(outcome));
  d3.select("#footer").text("Made by " + str(data.made_by, "stasis") + " from a report of stasis " + str(report.stasis) +
    ". Everything is in this file; it asks nothing of any network.");
  tiles();
  sentences(d3.select("#words"));
});

function tile(label, value, note) {
  const t = d3.select("#tiles").append("div").attr("class", "tile");
  t.append("div").attr("class", "label").text(label);
  t.append("div").attr("class", "value").text(value);
  t.append("div").attr("class", "note").text(note || "\u00a0");
  return t;
}

function tiles() {
  const exits = obj(report.exits), time = obj(exits.time_ns), classes = classList().filter(c => c.ns > 0);
  const outside = num(time.hand_off) + num(time.waiting) + num(time.served);
  tile(num(timing.command) ? "COMMAND ran for" : "Ran for", ran_ns() ? ns(ran_ns()) : "–",
    num(timing.guest_start_to_init) ? "after a boot of " + ns(num(timing.guest_start_to_init)) : "");
  if (sampled_ns > 0) {
    tile("vCPUs were busy", percent(busy_ns / sampled_ns), "user " + percent(num(profile.user_ns) / sampled_ns) + ", kernel " +
      percent(num(profile.kernel_ns) / sampled_ns));
    tile("Scheduling", percent(profile.scheduling_share), classes.length ? "of the busy time, most in " + classes[0].name : "of the busy time")
      .attr("id", "tile-scheduling");
  }
  if (data.queues) {
    const longest = obj(obj(data.queues).longest);
    tile("Longest run queue", many(num(longest.tasks), "task"), "CPU " + num(longest.cpu) + ", at " + seconds(num(longest.time_ns) / 1e9));
  }
  tile("Exits", count(exits.total), num(time.wall) ? percent(outside / num(time.wall)) + " of the vCPUs' time" : "");
  const n = degradedList().length;
  tile("Degraded", n ? many(n, "thing") : "nothing", n ? "asked for and not had" : "all that was asked for was had");
}

function degradedList() {
  const told = [...arr(report.degraded), ...arr(profile.degraded)].filter(x => typeof x === "string");
  // The report's own list has what the monitor lacks in a sentence.
  const all = [...told, ...arr(obj(report.monitor).lacks).filter(x => !told.some(t => t.includes(str(x))))];
  return [...new Set(all.filter(x => typeof x === "string").map(short))];
}

function listed(words) {
  return words.length < 2 ? words.join("") : words.slice(0, -1).join(", ") + " and " + words[words.length - 1];
}

function sentences(box) {
  const put = text => box.append("p").text(text);
  const what = commandText() || (report.timing_ns && num(timing.command) ? "COMMAND" : "The guest");
  const kernel = str(obj(report.kernel).release);
  put(what + (ran_ns() ? " ran for " + ns(ran_ns()) : " ran") + " on " + shapeText() + (kernel ? ", under " + kernel : "") + ": " + outcomeText() + "." +
    (str(report.text) ? " " + str(report.text) + "." : ""));
  if (sampled_ns > 0) {
    const dear = classList().filter(c => c.share >= 0.001).slice(0, 3).map(c => c.name + " (" + percent(c.share) + ")");
    const top = rows(profile.functions).find(f => str(f.name) && !/^0x/.test(f.name));
    put("The vCPUs were busy " + percent(busy_ns / sampled_ns) + " of the time. Of that, " + percent(profile.scheduling_share) +
      " was scheduling" + (dear.length ? ": most of it " + listed(dear) : "") + "." +
      (top ? " Of the kernel's functions, " + str(top.name) + " took most, " + percent(top.share) + "." : ""));
  }
  for (const text of [uneven(), dearest(), waits(), stops()]) if (text) put(text);
  const n = degradedList().length;
  if (n) put(many(n, "thing was", "things were") + " asked for and not had: see Degraded, below.");
  if (lacks.length) put("Not on this page: " + lacks.join("; ") + ".");
}

// Which caches are busier than others, if some are.
function uneven() {
  const share = rows(profile.caches).map(r => ({ r, share: ratioBusy(r) }));
  if (share.length < 2) return "";
  const most = share.reduce((a, b) => b.share > a.share ? b : a), least = share.reduce((a, b) => b.share < a.share ? b : a);
  return most.share - least.share < 0.15 ? "" : "Work was uneven: cache " + num(most.r.cache) + " was busy " + percent(most.share) +
    ", cache " + num(least.r.cache) + " " + percent(least.share) + ".";
}

function ratioBusy(r) {
  const busy = num(r.user_ns) + num(r.kernel_ns);
  return busy + num(r.idle_ns) > 0 ? busy / (busy + num(r.idle_ns)) : 0;
}

function dearest() {
  const wall = num(obj(obj(report.exits).time_ns).wall);
  const top = rows(obj(report.exits).accounts).reduce((a, b) => num(b.time_ns) > num(a && a.time_ns) ? b : a, null);
  return top && wall ? many(num(obj(report.exits).total), "exit") + "; dearest were those of " + exitName(top) + ": " + count(top.count) +
    ", " + percent(num(top.time_ns) / wall) + " of the vCPUs' time." : "";
}

function exitName(row) {
  return [str(row.reason, "?"), str(row.access), str(row.address)].filter(x => x).join(" ");
}

function waits() {
  const m = obj(report.monitor), longest = obj(obj(data.queues).longest), cpus = rows(m.cpus);
  const idle = d3.sum(cpus, c => num(c.idle_with_work));
  if (!report.monitor && !data.queues) return "";
  return (data.queues ? "The longest run queue had " + many(num(longest.tasks), "task") + ", on CPU " + num(longest.cpu) + "; " : "Run queues: ") +
    (num(m.stall_count) ? "that a queue stood still was seen " + times(num(m.stall_count)) : "none stood still") +
    (idle ? ", and an idle CPU had tasks waiting " + times(idle) : "") + ".";
}

function stops() {
  const f = rows(report.freezes), hits = d3.sum(rows(report.watches), w => num(w.hits));
  const frozen = d3.sum(f, x => num(x.frozen_ns));
  return f.length || hits ? (f.length ? "The guest was frozen " + times(f.length) + ", for " + ns(frozen) + " in all" : "The guest was never frozen") +
    (hits ? "; watches were hit " + times(hits) : "") + "." : "";
}

// What stopped the guest, what the host did, what was not to be had; and the way to each part.

part("freezes", section => {
  const freezes = rows(report.freezes), watches = rows(report.watches);
  if (!freezes.length && !watches.length) return false;
  if (freezes.length) table(card(section, "Freezes", "How long it took until every vCPU stood still, and how long they stood."), [
    { name: "cause", left: true, long: true, of: f => str(f.cause, "?") },
    { name: "until all stood", of: f => num(f.rendezvous_ns), text: f => ns(num(f.rendezvous_ns)) },
    { name: "frozen for", of: f => num(f.frozen_ns), text: f => ns(num(f.frozen_ns)) },
    { name: "dump", left: true, long: true, of: f => str(f.dump) },
    { name: "failed", left: true, long: true, of: f => str(f.failed) },
  ].filter(c => !["dump", "failed"].includes(c.name) || freezes.some(f => str(f[c.name]))), freezes, { caption: "Freezes", most: 200 }).body.attr("id", "freeze-rows");
  if (watches.length) table(card(section, "Watches", "Stores to variables of the guest's kernel."), [
    { name: "watch", left: true, long: true, code: true, of: w => str(w.expression, "?") },
    { name: "state", left: true, of: w => str(w.state) },
    { name: "address", code: true, of: w => str(w.address) },
    { name: "bytes", of: w => num(w.bytes) },
    { name: "stores", of: w => num(w.stores), text: w => count(w.stores) },
    { name: "hits", of: w => num(w.hits), text: w => count(w.hits) },
  ], watches, { caption: "Watches", most: 50 }).body.attr("id", "watch-rows");
});

part("host", section => {
  const e = obj(report.evidence), vcpus = rows(e.vcpus), wall = num(e.wall_ns);
  if (!wall) return false;
  // As the report judges: by the vCPU that fared worst, not by the mean of all.
  const delay = v => num("run_delay_ns" in v ? v.run_delay_ns : v.steal_ns); // the second in older reports
  const worst = d3.greatest(vcpus, delay), most = worst ? delay(worst) : 0, stolen = num(e.host_stolen_ticks);
  const fared = most ? "vCPU " + count(worst.vcpu) + ", which fared worst, was ready and had no host CPU for " + ns(most) + ", " + percent(most / wall) + " of the time"
    : vcpus.some(v => "run_delay_ns" in v || "steal_ns" in v) ? "no vCPU was ready without a host CPU" : "how long vCPUs waited for a CPU of it, it does not say";
  const box = card(section, null, "What this host's kernel says of the threads of the vCPUs, since " + (e.since === "command" ? "COMMAND's start" : "the guest's start") + ".");
  box.append("p").attr("id", "noise").text("The host was " + (e.noisy === true ? "noisy: " : "quiet: ") + fared
    + (stolen ? "; hosts below it took " + many(stolen, "clock tick") + " of all its CPUs" + ("worst_stolen_ticks" in e ? ", " + count(num(e.worst_stolen_ticks)) + " of the one that fared worst of those for this run" : "") : "") + "." + (e.noisy === true ? " Times on this page include that." : ""));
  facts(box, [
    ["host load, before and after", digits(num(e.host_load_before), 2) + ", " + digits(num(e.host_load_after), 2)],
    ["vCPU threads switched away", count(d3.sum(vcpus, v => num(v.involuntary_switches))) + " times against their will, " + count(d3.sum(vcpus, v => num(v.voluntary_switches))) + " times to wait"],
    ["… and moved between host CPUs", many(d3.sum(vcpus, v => num(v.migrations)), "time")],
    ["page faults of the host", count(d3.sum(vcpus, v => num(v.minor_faults))) + " minor, " + count(d3.sum(vcpus, v => num(v.major_faults))) + " major"],
    ["from start to end", [["set-up", timing.setup], ["boot", timing.guest_start_to_init], ["COMMAND", timing.command], ["take-down", timing.teardown]]
      .filter(t => num(t[1])).map(t => t[0] + " " + ns(num(t[1]))).join(", ")],
  ]);
});

part("degraded", section => {
  const list = degradedList();
  if (!list.length && !lacks.length) return false;
  if (list.length) card(section, null, "What was asked for and not had, in the report's words.").append("ul").attr("class", "plain").attr("id", "degraded-list")
    .selectAll("li").data(list.slice(0, 300)).join("li").text(d => d);
  if (lacks.length) card(section, "Not on this page", "What this page would show, and what was missing for it.").append("ul").attr("class", "plain").attr("id", "lacks-list")
    .selectAll("li").data(lacks).join("li").text(d => d);
});

d3.select("#nav").selectAll("a").data([...document.querySelectorAll("main > section:not([hidden])")]).join("a")
  .attr("href", s => "#" + s.id).text(s => s.dataset.name);

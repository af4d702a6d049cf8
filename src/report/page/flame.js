// The flame graph: callers above, what they called below, dearest first; width is time.
let searchFor = () => {};

part("flame", section => {
  const s = data.stacks && obj(data.stacks);
  if (!s) return false;
  const frames = arr(s.frames).map(f => str(f, "?")), total = num(s.total_ns);
  const root = tree(arr(s.nodes), frames, arr(s.classes), total);
  const box = card(section, null, "All stacks of the profile, " + count(s.stacks) + " of them, callers above. A click zooms; Escape goes back; arrow keys move. " +
    "What has a strong colour is the scheduler's, or called by it." +
    (num(s.least_ns) > 1 ? " Frames of less than " + ns(num(s.least_ns)) + " are not in it." : "")).classed("tall", true);
  const tools = box.append("div").attr("class", "tools");
  const input = tools.append("input").attr("type", "search").attr("id", "search").attr("placeholder", "Search functions, tasks")
    .attr("aria-label", "Search the flame graph").attr("autocomplete", "off").attr("spellcheck", "false");
  const back = tools.append("button").attr("type", "button").attr("id", "zoom-out").text("Zoom out").on("click", () => { here = root; zoom(root); });
  const found = tools.append("span").attr("id", "matched").attr("class", "muted").attr("aria-live", "polite");
  const plot = box.append("div").attr("class", "plot");
  const svg = plot.append("svg").attr("id", "graph").attr("tabindex", 0).attr("role", "application")
    .attr("aria-label", "Flame graph; arrow keys move, Enter zooms, Escape zooms out");
  const detail = box.append("p").attr("class", "detail").attr("id", "frame-detail").attr("aria-live", "polite");
  const ROW = 19;
  // As samples are counted: the innermost function that has a class, no farther out than the kernel's entry; a program
  // counts where sched_ext has called it. A task is none of the kernel's functions, whatever its name.
  root.each(n => {
    const own = n.depth > 1 ? n.data.class : "", outside = own === "entry" || !n.parent;
    n.ext = !outside && n.parent.ext || own === "sched_ext";
    n.class = CLASSES.includes(own) && (own !== "bpf_scheduler" || n.ext) ? own : outside ? undefined : n.parent.class;
  });
  let top = root, here = root, wanted = "";

  function colour(n) {
    const name = n.data.name, c = n.class;
    if (wanted && n.matched) return "f-match";
    if (wanted) return "f-dim";
    if (n.depth === 0) return "f-dim";
    if (c) return "c-" + c;
    if (n.depth === 1 && n.children && !/^0x/.test(name) && rows(profile.tasks).length) return "f-task";
    if (/^0x[0-9a-f]+$/.test(name)) return "f-user";
    return n.depth % 2 ? "f-kernel" : "f-kernel-2";
  }

  function about(n) {
    const self = n.data.self;
    return [n.data.name, percent(n.value / total) + " of the busy time, " + ns(n.value) + (self ? "; itself " + ns(self) + ", " + percent(self / total) : ""),
      ...(n.class ? ["the scheduler's: " + n.class] : [])];
  }

  function visible(x, width) {
    const list = top.ancestors().slice(1).reverse();
    const walk = n => {
      if (x(n.x1) - x(n.x0) < 0.6) return;
      list.push(n);
      for (const c of n.children || []) walk(c);
    };
    walk(top);
    return list;
  }

  function draw() {
    const width = Math.max(plot.node().clientWidth, 260), x = d3.scaleLinear().domain([top.x0, top.x1]).range([0, width]);
    const list = visible(x, width), deep = d3.max(list, n => n.depth) + 1;
    const left = n => Math.max(x(n.x0), 0), wide = n => Math.min(x(n.x1), width) - left(n);
    svg.attr("width", width).attr("height", deep * ROW);
    const g = svg.selectAll("g").data(list, n => n.id).join(enter => {
      const one = enter.append("g");
      one.append("rect").attr("rx", 2).attr("height", ROW - 1);
      one.append("text").attr("x", 4).attr("y", ROW / 2).attr("dy", ".33em");
      return one.on("click", n => { here = n; zoom(n); }).on("mousemove", n => { showTip(about(n), d3.event.clientX, d3.event.clientY); })
        .on("mouseleave", hideTip);
    });
    g.attr("transform", n => "translate(" + left(n) + "," + n.depth * ROW + ")").classed("above", n => n.depth < top.depth)
      .classed("here", n => n === here).attr("data-name", n => n.data.name).attr("data-ns", n => n.value);
    g.select("rect").attr("width", n => Math.max(wide(n) - 1, 0.5)).style("fill", n => "var(--" + colour(n) + ")");
    g.select("text").text(n => fit(n.depth ? n.data.name : "all of the busy time, " + ns(total), wide(n) - 8))
      .style("fill", n => wanted && !n.matched ? "var(--muted)" : ink(shade(colour(n))));
    back.property("disabled", top === root);
  }

  function zoom(n) {
    top = n;
    if (here.x1 <= top.x0 || here.x0 >= top.x1) here = top;
    hideTip();
    draw();
    tell(n);
  }

  function tell(n) {
    detail.text(n === root && here === root ? "" : about(n).join(" – "));
  }

  // A frame within one that matches is not counted again.
  function match(n, exact, inside) {
    const name = n.data.name.toLowerCase();
    n.matched = n.depth > 0 && wanted !== "" && (exact ? name === wanted : name.includes(wanted));
    let sum = n.matched && !inside ? n.value : 0;
    if (n.matched) names.add(n.data.name);
    for (const c of n.children || []) sum += match(c, exact, inside || n.matched);
    return sum;
  }

  let names = new Set();
  function search(text, exact) {
    wanted = text.trim().toLowerCase();
    names = new Set();
    const sum = match(root, exact, false);
    found.text(wanted ? names.size ? percent(sum / total) + " of the busy time, " + ns(sum) + ", under " + many(names.size, "name") : "no frame has that in its name" : "")
      .attr("data-ns", wanted ? sum : null);
    draw();
  }

  searchFor = (name, jump) => {
    input.property("value", name);
    here = root;
    zoom(root);
    search(name, true);
    if (jump) section.node().scrollIntoView();
  };

  input.on("input", () => search(input.property("value"), false)).on("keydown", () => {
    if (d3.event.key === "Escape") { input.property("value", ""); search("", false); }
  });
  svg.on("keydown", () => {
    const key = d3.event.key, siblings = here.parent ? here.parent.children : [], i = siblings.indexOf(here);
    const to = { ArrowDown: here.children && here.children[0], ArrowUp: here.parent,
      ArrowLeft: siblings[i - 1], ArrowRight: siblings[i + 1] }[key];
    if (key.startsWith("Arrow")) here = to || here;
    else if (key === "Enter") zoom(here);
    else if (key === "Escape") { here = root; zoom(root); }
    else return;
    d3.event.preventDefault();
    if (here.x1 > top.x1 || here.x0 < top.x0 || here.depth < top.depth) zoom(here);
    else { draw(); tell(here); }
  });
  const classes = CLASSES.filter(c => root.descendants().some(n => n.class === c));
  const used = new Set(root.descendants().map(colour));
  legend(box, [...classes.map(c => ({ colour: "c-" + c, text: c })), ...[["f-kernel", "kernel"], ["f-user", "address without a name"], ["f-task", "task"]]
    .filter(k => used.has(k[0])).map(k => ({ colour: k[0], text: k[1] }))]);
  draws(draw);
});

// [frame, parent, total, self, …] as d3's hierarchy, laid out once: x0 and x1 are 0 to 1.
function tree(list, frames, classes, total) {
  const nodes = [], top = { name: "all", self: 0, value: total, children: [] };
  for (let i = 0; i + 3 < list.length; i += 4) {
    const node = { name: str(frames[num(list[i])], "?"), class: str(classes[num(list[i])]), self: num(list[i + 3]), value: num(list[i + 2]), children: [] };
    (nodes[list[i + 1]] || top).children.push(node);
    nodes.push(node);
  }
  const root = d3.hierarchy(top, n => n.children.length ? n.children : null);
  let id = 0;
  root.each(n => { n.value = n.data.value; n.id = id++; n.matched = false; }).sort((a, b) => b.value - a.value);
  return d3.partition()(root);
}

// What of a name has room; its end says that there is more.
function fit(text, room) {
  const n = Math.floor(room / 6.65);
  return n < 3 ? "" : text.length <= n ? text : text.slice(0, n - 1) + "…";
}

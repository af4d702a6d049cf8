// A heat map: CPUs down, time across. Canvas, so that a thousand CPUs are drawn as fast as one.

// g: {rows, columns, per_row, cpus, begin_s, column_s}; value(row, column) is null where nothing is
// known; colour(value); lines(row, column) for the hint. Returns what draws it (again).
function heatMap(parent, g, value, colour, lines, name) {
  const shape = shapeOf();
  const plot = parent.append("div").attr("class", "plot");
  const canvas = plot.append("canvas").attr("tabindex", 0).attr("role", "img").attr("aria-label", name);
  const svg = plot.append("svg").attr("aria-hidden", "true");
  const left = 66, right = 22, bottom = 24;
  let cell = null, box = null;

  function draw() {
    const width = Math.max(plot.node().clientWidth, 260) - left - right;
    const each = g.rows <= 8 ? 22 : g.rows <= 20 ? 16 : g.rows <= 48 ? 9 : g.rows <= 80 ? 6 : 4;
    const height = g.rows * each, ratio = Math.min(window.devicePixelRatio || 1, 3);
    const c = canvas.node();
    box = { width, height, each };
    c.width = Math.round(width * ratio);
    c.height = Math.round(height * ratio);
    canvas.style("left", left + "px").style("top", "0px").style("width", width + "px").style("height", height + "px");
    paint(c.getContext("2d"), ratio);
    svg.attr("width", width + left + right).attr("height", height + bottom);
    svg.selectAll("*").remove();
    axes();
    outline();
  }

  function paint(context, ratio) {
    const x = i => Math.round(i * box.width / g.columns * ratio);
    const gap = box.each > 5 ? Math.max(1, Math.round(ratio)) : 0, none = shade("card");
    context.fillStyle = none;
    context.fillRect(0, 0, box.width * ratio, box.height * ratio);
    for (let r = 0; r < g.rows; r++)
      for (let i = 0; i < g.columns; i++) {
        const v = value(r, i), top = Math.round(r * box.each * ratio);
        if (v === null) continue;
        context.fillStyle = colour(v);
        context.fillRect(x(i), top, Math.max(x(i + 1) - x(i), 1), Math.round((r + 1) * box.each * ratio) - top - gap);
      }
  }

  function axes() {
    const time = d3.scaleLinear().domain([g.begin_s, g.begin_s + g.columns * g.column_s]).range([left, left + box.width]);
    svg.append("g").attr("class", "axis").attr("transform", "translate(0," + (box.height + 3) + ")")
      .call(d3.axisBottom(time).ticks(Math.max(2, Math.min(10, box.width / 90))).tickSize(4).tickFormat(seconds));
    const labels = svg.append("g").attr("class", "axis").attr("text-anchor", "end");
    const put = (y, text) => labels.append("text").attr("x", left - 8).attr("y", y).attr("dy", ".32em").text(text);
    const per = shape && shape.cores * shape.threads / g.per_row, perNode = shape && per * shape.caches / shape.nodes;
    const whole = shape && Number.isInteger(per);
    if (whole && shape.caches > 1 && per * box.each >= 11) {
      for (let i = 0; i < shape.caches; i++) put((i + 0.5) * per * box.each, "cache " + i);
    } else if (whole && shape.nodes > 1 && perNode * box.each >= 11) {
      for (let i = 0; i < shape.nodes; i++) put((i + 0.5) * perNode * box.each, "node " + i);
    } else {
      const step = Math.max(1, Math.ceil(13 / box.each));
      const nice = [1, 2, 4, 8, 16, 32, 64].find(s => s >= step) || step;
      for (let r = 0; r < g.rows; r += nice) put((r + 0.5) * box.each, "CPU " + r * g.per_row);
    }
    if (whole) edges(per);
  }

  // A line between caches, a stronger one between nodes.
  function edges(per) {
    const perNode = shape.caches / shape.nodes;
    for (let i = 1; i < shape.caches; i++)
      if (per * box.each >= 11 || i % perNode === 0) svg.append("line").attr("x1", left - (i % perNode ? 0 : 60)).attr("x2", left + box.width).attr("y1", i * per * box.each - 0.5)
        .attr("y2", i * per * box.each - 0.5).style("stroke", "var(--ink)").style("stroke-width", i % perNode ? 0.5 : 1.5)
        .style("opacity", i % perNode ? 0.45 : 0.8);
  }

  function outline() {
    svg.selectAll(".cell").data(cell ? [cell] : []).join("rect").attr("class", "cell").attr("fill", "none")
      .style("stroke", "var(--ink)").style("stroke-width", 1.5).attr("x", d => left + d[1] * box.width / g.columns)
      .attr("y", d => d[0] * box.each).attr("width", Math.max(box.width / g.columns, 3)).attr("height", box.each);
  }

  function cpus(r) {
    const from = r * g.per_row, to = Math.min(from + g.per_row, g.cpus) - 1;
    return from === to ? "CPU " + from : "CPUs " + from + " to " + to;
  }

  function hint() {
    const at = g.begin_s + cell[1] * g.column_s;
    return [cpus(cell[0]) + ", " + seconds(at) + " to " + seconds(at + g.column_s), ...lines(cell[0], cell[1])];
  }

  canvas.on("mousemove", () => {
    const at = d3.mouse(canvas.node());
    cell = [Math.max(0, Math.min(g.rows - 1, Math.floor(at[1] / box.each))),
      Math.max(0, Math.min(g.columns - 1, Math.floor(at[0] / box.width * g.columns)))];
    outline();
    showTip(hint(), d3.event.clientX, d3.event.clientY);
  }).on("mouseleave blur", () => {
    cell = null;
    outline();
    hideTip();
  }).on("keydown", () => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[d3.event.key];
    if (!step) return;
    d3.event.preventDefault();
    cell = cell ? [Math.max(0, Math.min(g.rows - 1, cell[0] + step[0])), Math.max(0, Math.min(g.columns - 1, cell[1] + step[1]))] : [0, 0];
    outline();
    const c = canvas.node().getBoundingClientRect();
    showTip(hint(), c.left + (cell[1] + 0.5) * box.width / g.columns, c.top + (cell[0] + 0.5) * box.each);
    say(hint().join(", "));
  });

  return draw;
}

// The scale of a heat map's colours. set(ramp, least text, most text).
function rampKey(parent) {
  const key = parent.append("span").attr("class", "ramp");
  const from = key.append("span"), canvas = key.append("canvas").attr("width", 130).attr("height", 10).attr("aria-hidden", "true");
  const to = key.append("span");
  return (colour, least, most) => {
    const context = canvas.node().getContext("2d");
    for (let i = 0; i < 130; i++) {
      context.fillStyle = colour(i / 129);
      context.fillRect(i, 0, 1, 10);
    }
    from.text(least);
    to.text(most);
  };
}

// Tables whose columns sort. A column: {name, of: row => value to sort by, text: row => string, left, code, draw}.

function table(parent, columns, list, options) {
  const o = options || {};
  const t = parent.append("div").attr("class", "scroll").append("table");
  const heads = t.append("thead").append("tr").selectAll("th").data(columns).join("th").attr("scope", "col")
    .classed("left", c => c.left);
  const body = t.append("tbody");
  let first = o.first && list.length > o.first + 3 ? o.first : o.most || 500, by = o.by === undefined ? -1 : o.by, down = by < 0 || !columns[by].left;

  if (o.caption) t.insert("caption", "thead").attr("class", "unseen").text(o.caption);
  if (o.by === undefined) heads.text(c => c.name);
  else heads.append("button").attr("type", "button").text(c => c.name).on("click", (c, i) => {
    down = by === i ? !down : !c.left;
    by = i;
    fill();
  });

  function fill() {
    const sorted = list.slice();
    if (by >= 0) sorted.sort((a, b) => (down ? -1 : 1) * d3.ascending(columns[by].of(a), columns[by].of(b)));
    heads.attr("aria-sort", (c, i) => i === by ? down ? "descending" : "ascending" : null);
    body.selectAll("tr").remove();
    const tr = body.selectAll("tr").data(sorted.slice(0, first)).join("tr");
    for (const c of columns) {
      const td = tr.append("td").classed("left", !!c.left).classed("code", !!c.code).classed("long", !!c.long);
      if (c.draw) td.each(function (row) { c.draw(d3.select(this), row); });
      else td.text(c.text || c.of);
    }
    if (o.row) o.row(tr);
  }

  if (first < list.length && o.first)
    parent.append("button").attr("type", "button").attr("class", "more").text("Show all " + Math.min(list.length, o.most || 500)).on("click", function () {
      first = o.most || 500;
      d3.select(this).remove();
      fill();
    });
  fill();
  return { fill, body };
}

// A number with a small bar behind it; most: the column's largest.
function withBar(text, value, most, colour) {
  return (td, row) => {
    td.append("span").text(text(row));
    td.append("span").attr("class", "mini").append("i").style("width", 100 * Math.min(value(row) / (most || 1), 1) + "%")
      .style("background", "var(--" + (colour ? colour(row) : "accent") + ")");
  };
}

// Pairs of a name and a text.
function facts(parent, pairs) {
  const list = parent.append("dl").attr("class", "facts");
  for (const [name, text] of pairs) {
    list.append("dt").text(name);
    list.append("dd").text(text);
  }
}

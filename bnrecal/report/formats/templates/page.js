// Sorts and filters the rows of tables. Without it the tables are the same, in the order of the study.
"use strict";
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const texts = rows.map((row) => [...row.cells].map((cell) => cell.textContent.trim()));
  const number = (text) => (/^[+-]?[\d,]*\.?\d+( %)?( to .*)?$/.test(text) ? parseFloat(text.replace(/,/g, "")) : null);
  const order = rows.map((_, k) => k);

  const matches = (text, word) => {
    if (!/^[\d.,]+$/.test(word)) return text.includes(word);
    const plain = text.replace(/(\d),(?=\d{3})/g, "$1");  // 64 is a cell or a word of it, and does not find 0.4764
    const wanted = word.replace(/,/g, "");
    return plain.split(/[\s,]+/).includes(wanted) || (wanted.includes(".") && plain.startsWith(wanted));
  };

  const compare = (column) => {
    const found = texts.map((cells) => cells[column]).filter((text) => text !== "-" && text !== "");
    const numeric = found.every((text) => number(text) !== null);
    return (a, b) => {
      const x = texts[a][column], y = texts[b][column];
      if ((x === "-") !== (y === "-")) return x === "-" ? Infinity : -Infinity;  // always last
      return numeric && x !== "-" ? number(x) - number(y) : x.localeCompare(y, "en", { numeric: true });
    };
  };

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const by = compare(column);
      const sorted = [...order].sort((a, b) => {
        const found = by(a, b);
        if (found === Infinity) return 1;
        if (found === -Infinity) return -1;
        return (down ? -found : found) || a - b;
      });
      body.append(...sorted.map((k) => rows[k]));
    });
  });

  const label = document.createElement("label");
  const field = document.createElement("input");
  const count = document.createElement("output");
  field.type = "search";
  field.placeholder = "arch1 64";
  label.append("Rows with all of these words ", field);
  const tools = document.createElement("p");
  tools.className = "tools";
  tools.append(label, " ", count);
  table.closest(".scroll").before(tools);
  const filter = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, k) => {
      const has = words.every((word) => texts[k].some((text) => matches(text.toLowerCase(), word)));
      row.hidden = !has;
      shown += has;
    });
    count.textContent = words.length ? `${shown} of ${rows.length} rows` : `${rows.length} rows`;
  };
  field.addEventListener("input", filter);
  filter();
}

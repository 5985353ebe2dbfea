// Clicking a column header sorts a table of class "sortable". Without this script, rows are in the
// order of the study: the chosen backbone first.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  const key = (row, column) => {
    const cell = row.cells[column];
    const value = cell.querySelector("data");
    return value ? Number(value.value) : cell.textContent.trim();
  };
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const order = header.getAttribute("aria-sort") === "descending" ? "ascending" : "descending";
      const sign = order === "ascending" ? 1 : -1;
      headers.forEach((each) => each.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", order);
      const rows = [...body.rows].map((row) => [key(row, column), row]);
      rows.sort(([a], [b]) =>
        sign * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(b)),
      );
      body.append(...rows.map(([, row]) => row));
    });
  });
}

// Show a hint above each table that is wider than its box.
const hints = () => {
  for (const box of document.querySelectorAll(".box")) {
    const [hint, inside] = box.children;
    hint.hidden = inside.scrollWidth <= inside.clientWidth + 1;
  }
};
hints();
addEventListener("resize", hints);

// Table of contents: the bar closes after a selection, the sidebar highlights the current section.
const bar = document.querySelector("details.contents");
if (bar) {
  bar.addEventListener("click", (event) => {
    if (event.target.closest("a")) bar.open = false;
  });
  const links = [...document.querySelectorAll(".contents.side a")];
  const seen = new IntersectionObserver(
    (entries) => {
      const entry = entries.find((each) => each.isIntersecting);
      if (!entry) return;
      const anchor = `#${entry.target.getAttribute("aria-labelledby")}`;
      for (const link of links) {
        if (link.getAttribute("href") === anchor) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
    },
    { rootMargin: "-20% 0px -75% 0px" },
  );
  for (const section of document.querySelectorAll("main > section")) seen.observe(section);
}

// Print the content of closed details, too.
addEventListener("beforeprint", () => {
  for (const each of document.querySelectorAll("details:not(.contents)")) each.open = true;
});

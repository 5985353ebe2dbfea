// Tables of class "sortable" can be sorted by a press on a column's name. Without this script they
// stand in the order of the study: the chosen backbone first.
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

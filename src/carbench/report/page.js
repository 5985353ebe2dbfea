// Sorts a table by the column whose name is clicked; without it the table stands as it was written.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.firstElementChild.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((each) => each.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.value;
      const rows = [...body.rows].sort((a, b) => {
        const difference = Number(value(a)) - Number(value(b));
        return Number.isNaN(difference) ? value(a).localeCompare(value(b)) : difference;
      });
      body.append(...(down ? rows.reverse() : rows));
    });
  });
}

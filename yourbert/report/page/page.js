"use strict";
// Each block of filters narrows the rows of the table that follows it; without this script all rows are shown.
for (const block of document.querySelectorAll(".filters")) {
  const table = document.getElementById(block.dataset.table);
  const count = document.getElementById(block.dataset.count);
  const controls = [...block.querySelectorAll("select, input")];
  block.hidden = false;
  const narrow = () => {
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const fits = controls.every((control) => {
        const wanted = control.value.toLowerCase();
        if (!wanted) return true;
        if (control.name === "search") return row.textContent.toLowerCase().includes(wanted);
        return (row.dataset[control.name] || "").toLowerCase().split("|").includes(wanted);
      });
      row.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} of ${table.tBodies[0].rows.length} rows`;
  };
  for (const control of controls) control.addEventListener("input", narrow);
  narrow();
}
// What is folded on the screen is unfolded on paper.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => (one.open = true)));

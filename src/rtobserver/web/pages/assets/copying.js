// Tables as text, for spreadsheets.

import { tell } from "./page.js";

/** Write a table as lines, its cells parted by tabs; a cell gives the number behind what it shows. */
export function asText(table) {
  const rows = [...table.rows].map((row) => [...row.cells].map(cellText).join("\t"));
  return `${rows.join("\n")}\n`;
}

/** Put a button before each `table[data-copy]` that copies it; where nothing can be copied there is none. */
export function offerCopies(root = document) {
  if (!navigator.clipboard) return;
  for (const table of root.querySelectorAll("table[data-copy]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `Copy ${table.dataset.copy}`;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(asText(table));
        tell("Copied.");
      } catch {
        tell("The browser did not let it be copied.");
      }
    });
    table.parentElement.before(button);
  }
}

function cellText(cell) {
  const text = cell.dataset.value ?? cell.querySelector("time")?.dateTime ?? cell.textContent;
  const flat = text.replace(/\s+/gu, " ").trim();
  // a spreadsheet would take it for a formula
  return cell.dataset.value === undefined && /^[=+\-@]/u.test(flat) ? `'${flat}` : flat;
}

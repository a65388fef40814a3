"use strict";

// A number as the report writes it: "+0.48 (+0.04 to +0.90)", "1,147,914", "11.4 M", "12.5 min".
const SCALES = { "": 1, "%": 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12, ms: 1e-3, s: 1, min: 60, h: 3600 };
const NUMBER = /^[<>]?\s*([+\-−]?(?:\d[\d,]*)(?:\.\d+)?(?:e[+-]?\d+)?)\s*(%|k|M|G|T|ms|s|min|h)?(?![\w.])/;

function numberIn(text) {
  const found = NUMBER.exec(text);
  if (!found) return NaN;
  const value = Number(found[1].replaceAll(",", "").replace("−", "-"));
  return value * SCALES[found[2] ?? ""];
}

function textOf(row, column) {
  const text = row.cells[column].textContent.trim();
  return text === "-" ? "" : text;
}

// A row set in bold from end to end is a sum: it stays at the foot.
function isSum(row) {
  return [...row.cells].every((cell) => cell.firstElementChild?.matches("strong"));
}

function sort(table, column, direction) {
  const body = table.tBodies[0];
  const rows = [...body.rows].filter((row) => !isSum(row));
  const sums = [...body.rows].filter(isSum);
  const filled = rows.map((row) => textOf(row, column)).filter((text) => text !== "");
  const numeric = filled.every((text) => !Number.isNaN(numberIn(text)));
  const compare = numeric
    ? (a, b) => numberIn(a) - numberIn(b)
    : (a, b) => a.localeCompare(b, "en", { numeric: true });
  rows.sort((one, other) => {
    const [a, b] = [textOf(one, column), textOf(other, column)];
    // What is missing comes last, either way.
    if (a === "" || b === "") return (a === "") - (b === "");
    return direction === "ascending" ? compare(a, b) : compare(b, a);
  });
  body.append(...rows, ...sums);
}

function makeSortable(table) {
  const headings = [...table.tHead.rows[0].cells];
  const named = headings.some((heading) => heading.textContent.trim() !== "");
  if (!named || table.tBodies[0].rows.length < 2) return;
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const direction =
        heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", direction);
      sort(table, column, direction);
    });
  });
}

// A page opened from a file may be forbidden to remember anything.
function remembered() {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null;
  }
}

function remember(theme) {
  try {
    localStorage.setItem("theme", theme);
  } catch {
    return;
  }
}

function setUpTheme(button) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const current = () => document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
  const name = () => {
    button.textContent = current() === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to the ${button.textContent.toLowerCase()} theme`);
  };
  button.addEventListener("click", () => {
    const next = current() === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    remember(next);
    name();
  });
  dark.addEventListener("change", name);
  name();
  button.hidden = false;
}

function setUpContents(contents) {
  const wide = matchMedia("(min-width: 68rem)");
  const fit = () => {
    contents.open = wide.matches;
  };
  wide.addEventListener("change", fit);
  contents.addEventListener("click", (event) => {
    if (event.target.matches("a") && !wide.matches) contents.open = false;
  });
  fit();

  const links = new Map(
    [...contents.querySelectorAll("a")].map((link) => [link.hash.slice(1), link]),
  );
  const headings = [...links.keys()].map((id) => document.getElementById(id));
  const mark = () => {
    const passed = headings.filter((heading) => heading.getBoundingClientRect().top < 120);
    for (const link of links.values()) link.removeAttribute("aria-current");
    if (passed.length) links.get(passed.at(-1).id).setAttribute("aria-current", "true");
  };
  addEventListener("scroll", () => requestAnimationFrame(mark), { passive: true });
}

// The pictures of a fold are text until it is opened: page.py says why.
function showPictures(fold) {
  for (const picture of fold.querySelectorAll("noscript")) picture.outerHTML = picture.textContent;
}

function setUpViewer(viewer) {
  const shown = viewer.querySelector("img");
  for (const figure of document.querySelectorAll(".figure")) {
    figure.addEventListener("click", () => {
      const image = figure.querySelector("img");
      shown.src = image.src;
      shown.alt = image.alt;
      viewer.showModal();
    });
  }
  viewer.addEventListener("click", () => viewer.close());
}

if (remembered()) document.documentElement.dataset.theme = remembered();

addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("main table").forEach(makeSortable);
  setUpTheme(document.querySelector(".theme"));
  setUpContents(document.querySelector(".contents"));
  setUpViewer(document.querySelector(".viewer"));
  for (const fold of document.querySelectorAll("main details")) {
    fold.addEventListener("toggle", () => showPictures(fold), { once: true });
  }
});

addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("main details")) {
    fold.open = true;
    showPictures(fold);
  }
});

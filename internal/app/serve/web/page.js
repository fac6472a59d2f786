// Keeps the page up to date, and sends what its buttons do, with a token that the
// user enters. Without this script the page is complete but read-only.
"use strict";

const said = (text) => { document.getElementById("said").textContent = text; };

// started says that a run was started, with a link to its live state.
function started(run) {
  const link = document.createElement("a");
  link.href = `#${run}`;
  link.textContent = run;
  document.getElementById("said").replaceChildren("Started ", link, ".");
}

// twin returns the same element in another version of the page: the one with the
// same label and the same target of its link or post.
const twin = (main, element) => [...main.querySelectorAll("[aria-label], [href], [data-post]")].find((other) =>
  ["aria-label", "href", "data-post"].every((name) => other.getAttribute(name) === element.getAttribute(name)));

// replace replaces the page. The focus and the scroll position of tables stay.
function replace(main) {
  const last = document.getElementById("main");
  const focused = last.contains(document.activeElement) ? document.activeElement : null;
  const scrolled = [...last.querySelectorAll(".scroll")].map((table) => [table, table.scrollLeft]);
  last.replaceWith(main);
  for (const [table, left] of scrolled) {
    const now = twin(main, table);
    if (now) now.scrollLeft = left;
  }
  if (focused) twin(main, focused)?.focus({preventScroll: true});
}

// pressing reports whether a button is being pressed or a dialog is open: then the
// page must not be replaced.
const pressing = () => document.querySelector("dialog[open], #main button:active");

async function refresh() {
  if (pressing()) return;
  try {
    const response = await fetch("/", {headers: {Accept: "text/html"}});
    if (!response.ok) throw new Error(`the server answers ${response.status}`);
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    if (pressing()) return;
    const message = document.getElementById("said");
    replace(fresh.getElementById("main"));
    document.title = fresh.title;
    if (!message.textContent.startsWith("Not up to date")) document.getElementById("said").replaceWith(message);
  } catch (error) {
    said(`Not up to date: ${error.message}`);
  }
}

function askForToken() {
  const dialog = document.getElementById("ask");
  dialog.showModal();
  const input = document.getElementById("token");
  return new Promise((resolve) => {
    // The close event would come only with the next frame.
    dialog.querySelector("form").onsubmit = (event) => {
      resolve(event.submitter?.value === "cancel" ? "" : input.value);
      input.value = "";
    };
    dialog.oncancel = () => {
      resolve("");
      input.value = "";
    };
  });
}

async function act(button) {
  if (button.dataset.confirm && !confirm(button.dataset.confirm)) return;
  let token = sessionStorage.getItem("token") || await askForToken();
  if (!token) return;
  try {
    const response = await fetch(button.dataset.post, {
      method: "POST",
      headers: {Authorization: `Bearer ${token}`, "Content-Type": "application/json"},
      body: button.dataset.body,
    });
    const answer = await response.json();
    if (response.status === 401) sessionStorage.removeItem("token");
    else sessionStorage.setItem("token", token);
    if (response.status === 401) said("This is not the token of --api-token-file. Press the button again to enter another one.");
    else if (!response.ok) said(`${answer.error}${answer.hint ? "; " + answer.hint : ""}`);
    else if (answer.run) started(answer.run);
    else said(answer.done || "Done.");
  } catch (error) {
    said(error.message);
  }
  refresh();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-post]");
  if (button) act(button);
});
setInterval(refresh, 2000);

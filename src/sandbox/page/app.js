// The mailbox page: polls the list, shows one mail. Data gets into the page as text only.
"use strict";

const $ = (id) => document.getElementById(id);
const state = { revision: -1, selected: null, view: null, json: "" };

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

const party = (one) => (one.name ? `${one.name} <${one.email}>` : one.email || "(none)");
const parties = (list) => list.map(party).join(", ");
const addresses = (list) => list.map((one) => one.email || "(none)").join(", ");
const clock = (time) => new Date(time).toLocaleTimeString();
const size = (octets) => (octets < 1024 ? `${octets} B` : octets < 1048576 ? `${(octets / 1024).toFixed(1)} KB` : `${(octets / 1048576).toFixed(1)} MB`);

function badge(mail) {
  const status = /^\d+/.exec(mail.answer);
  const final = status && /^4/.test(status[0]) && !["408", "429"].includes(status[0]);
  const tone = mail.taken ? "good" : final ? "bad" : "odd";
  const words = status ? status[0] : mail.taken ? "taken, no answer" : "no answer";
  return make("span", `badge ${tone}`, words);
}

function row(mail) {
  const button = make("button", "mail");
  button.type = "button";
  button.dataset.id = mail.id;
  const first = make("span", "line");
  first.append(make("strong", "", mail.subject || "(no subject)"), badge(mail));
  const second = make("span", "line");
  second.append(make("span", "who", `to ${addresses([...mail.to, ...mail.cc, ...mail.bcc])}`), make("time", "", clock(mail.time)));
  const third = make("span", "line minor");
  const files = mail.attachments.length;
  third.append(make("span", "who", `from ${addresses([mail.from])}`), make("span", "", mail.provider));
  if (files) third.append(make("span", "", files === 1 ? "1 attachment" : `${files} attachments`));
  button.append(first, second, third);
  button.addEventListener("click", () => select(mail.id));
  const item = make("li");
  item.append(button);
  return item;
}

async function refresh() {
  try {
    const answer = await fetch("sandbox/mails");
    if (!answer.ok) throw new Error(answer.status);
    const { revision, mails } = await answer.json();
    $("live").textContent = "live";
    $("live").classList.add("on");
    if (revision === state.revision) return;
    state.revision = revision;
    $("count").textContent = mails.length === 0 ? "No mails yet" : mails.length === 1 ? "1 mail" : `${mails.length} mails`;
    $("mails").replaceChildren(...mails.map(row));
    mark();
    if (state.selected && !mails.some((mail) => mail.id === state.selected)) select(null);
  } catch {
    $("live").textContent = "not reachable";
    $("live").classList.remove("on");
  }
}

function mark() {
  for (const button of document.querySelectorAll(".mail")) button.setAttribute("aria-current", button.dataset.id === state.selected);
}

// The selected mail is the address's fragment, so that the browser's Back works and a mail can be linked to.
const select = (id) => (location.hash = id ?? "");

async function open() {
  const id = decodeURIComponent(location.hash.slice(1)) || null;
  state.selected = id;
  mark();
  const answer = id && (await fetch(`sandbox/mails/${encodeURIComponent(id)}`));
  if (id !== state.selected) return;
  const mail = answer && answer.ok ? await answer.json() : null;
  layout(Boolean(mail));
  if (mail) show(mail);
}

function layout(reading) {
  $("mail").hidden = !reading;
  $("help").hidden = reading;
  document.body.classList.toggle("reading", reading);
}

function show(mail) {
  const { payload } = mail;
  const part = (type) => (Array.isArray(payload.content) ? payload.content : []).find((one) => one && one.type === type)?.value;
  const html = payload.html ?? part("text/html");
  const text = payload.text ?? part("text/plain");
  $("subject").textContent = mail.subject || "(no subject)";
  const facts = [
    ["From", party(mail.from)], ["To", parties(mail.to)], ["Cc", parties(mail.cc)], ["Bcc", parties(mail.bcc)],
    ["Received", new Date(mail.time).toLocaleString()], ["API", mail.provider], ["Answer", mail.answer], ["Id", mail.id],
    ["Attachments", mail.attachments.map((one) => `${one.filename} (${one.type}, ${size(one.size)}${one.inline ? ", inline" : ""})`).join("\n")],
    ["Categories", mail.categories.join(", ")], ["Template", mail.template],
  ].filter(([, value]) => value);
  $("facts").replaceChildren(...facts.flatMap(([name, value]) => [make("dt", "", name), make("dd", name === "Answer" ? (mail.taken ? "good" : "bad") : "", value)]));
  $("view-html").src = html ? `sandbox/mails/${encodeURIComponent(mail.id)}/html` : "about:blank";
  $("view-text").textContent = text ?? "";
  state.json = JSON.stringify(payload, null, 2);
  paint($("view-json"), JSON.stringify(payload, elide, 2));
  for (const tab of document.querySelectorAll("[data-view]")) tab.disabled = (tab.dataset.view === "html" && !html) || (tab.dataset.view === "text" && !text);
  turn(state.view && !document.querySelector(`[data-view=${state.view}]`).disabled ? state.view : html ? "html" : text ? "text" : "json");
}

// An attachment's content would bury the rest.
function elide(_, value) {
  const long = typeof value === "string" && value.length > 160 && /^[A-Za-z0-9+/]+=*$/.test(value);
  return long ? `${value.slice(0, 48)}… (${value.length} characters of base64)` : value;
}

function paint(pre, json) {
  const token = /("(?:\\.|[^"\\])*")(\s*:)?|\b(?:true|false|null)\b|-?\d[\d.eE+-]*/g;
  const pieces = [];
  let end = 0;
  for (const found of json.matchAll(token)) {
    const kind = found[2] ? "key" : found[1] ? "string" : "literal";
    pieces.push(json.slice(end, found.index), make("span", kind, found[1] ?? found[0]), found[2] ?? "");
    end = found.index + found[0].length;
  }
  pre.replaceChildren(...pieces, json.slice(end));
}

function turn(view) {
  for (const tab of document.querySelectorAll("[data-view]")) {
    tab.setAttribute("aria-selected", tab.dataset.view === view);
    $(`view-${tab.dataset.view}`).hidden = tab.dataset.view !== view;
  }
}

async function copy(button, text) {
  const label = button.textContent;
  try {
    // Browsers offer the clipboard to https and localhost only.
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Cannot copy";
  }
  setTimeout(() => (button.textContent = label), 1500);
}

async function help() {
  const { smtp, rules } = await (await fetch("sandbox/steering")).json();
  const swaks = (address) => `swaks --server ${smtp} --from app@example.com --to ${address} --header 'Subject: Hello from the sandbox' --body 'It works.'`;
  $("smtp").textContent = smtp;
  $("example").textContent = swaks(rules[0].address);
  $("copy-example").addEventListener("click", () => copy($("copy-example"), $("example").textContent));
  $("rules").replaceChildren(...rules.map(({ address, does }) => {
    const line = make("tr");
    const button = make("button", "quiet", "Copy swaks");
    button.type = "button";
    button.addEventListener("click", () => copy(button, swaks(address)));
    const cells = [make("td"), make("td", "", does), make("td")];
    cells[0].append(make("code", "", address));
    cells[2].append(button);
    line.append(...cells);
    return line;
  }));
}

$("clear").addEventListener("click", () => fetch("sandbox/mails", { method: "DELETE" }).then(() => select(null)));
$("show-help").addEventListener("click", () => {
  select(null);
  layout(false);
  $("help").scrollIntoView();
});
$("back").addEventListener("click", () => select(null));
$("copy-json").addEventListener("click", () => copy($("copy-json"), state.json));
for (const tab of document.querySelectorAll("[data-view]")) tab.addEventListener("click", () => turn((state.view = tab.dataset.view)));
document.addEventListener("visibilitychange", refresh);
addEventListener("hashchange", open);
setInterval(() => document.hidden || refresh(), 2000);
help();
open();
refresh();

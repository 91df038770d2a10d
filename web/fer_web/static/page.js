// The page: takes pictures, asks the service about them, and shows what comes back.

import { asCsv, asJson, asPng, save } from "/static/downloads.js";
import { article } from "/static/view.js";
import { language, setLanguage, words } from "/static/words.js";

const MOST_PICTURES = 100;
const AT_ONCE = 3;
const MOST_TRIES = 6;
const MIB = 1 << 20;

const at = (id) => document.getElementById(id);
let pictures = []; // {name, file, url, state, answer, problem, version, tries, element, stop}
let model = null;
let token = "";
let remark = "";

/** Ask the service; its problems come back as {problem, retryAfter}. */
async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
    const body = await answer.json();
    return answer.ok ? { body } : { problem: body, retryAfter: Number(answer.headers.get("Retry-After")) };
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return { problem: { title: words("unreachable_title"), detail: words("unreachable") } };
  }
}

async function learnModel() {
  const { body, problem } = await ask("/v1/model");
  at("token-form").hidden = problem?.status !== 401;
  if (body) model = body;
  showLimits();
  if (!at("token-form").hidden) at("token").focus();
  return Boolean(body);
}

function showLimits() {
  at("limits").textContent = model ? words("limits", +(model.limits.max_image_bytes / MIB).toFixed(1)) : "";
}

/** Take files, and begin to send them. */
function take(files) {
  const images = [...files];
  const room = MOST_PICTURES - pictures.length;
  remark = images.length > room ? words("too_many", Math.max(0, room)) : "";
  for (const file of images.slice(0, Math.max(0, room))) {
    pictures.push({ name: file.name || "picture", file, url: URL.createObjectURL(file), state: "waiting", tries: 0 });
  }
  showAll();
  sendNext();
}

function sendNext() {
  while (pictures.filter(({ state }) => state === "sending" || state === "busy").length < AT_ONCE) {
    const next = pictures.find(({ state }) => state === "waiting");
    if (!next || !at("token-form").hidden) return;
    send(next);
  }
}

async function send(picture) {
  const most = model?.limits.max_image_bytes || Infinity;
  if (picture.file.size > most) {
    const sizes = [picture.file.size / MIB, most / MIB].map((size) => size.toFixed(1));
    finish(picture, { problem: { title: words("too_large_title"), detail: words("too_large", ...sizes) } });
    return;
  }
  picture.state = "sending";
  picture.stop = new AbortController();
  show(picture);
  const type = /^image\/[\w.+-]+$/.test(picture.file.type) ? picture.file.type : "application/octet-stream";
  const query = at("cropped").checked ? "?cropped=true" : "";
  let result;
  try {
    result = await ask(`/v1/faces${query}`, { method: "POST", body: picture.file, headers: { "Content-Type": type }, signal: picture.stop.signal });
  } catch {
    return; // It was removed or is asked about anew.
  }
  const status = result.problem?.status;
  if (status === 401) {
    picture.state = "waiting";
    show(picture);
    await learnModel();
  } else if ((status === 429 || status === 503) && (picture.tries += 1) < MOST_TRIES) {
    picture.state = "busy";
    show(picture);
    const stop = picture.stop;
    setTimeout(() => {
      if (stop.signal.aborted) return;
      picture.state = "waiting";
      sendNext();
    }, 1000 * (result.retryAfter || 1) * (1 + Math.random()));
  } else {
    finish(picture, result);
  }
}

function finish(picture, { body, problem }) {
  picture.state = body ? "done" : "failed";
  picture.answer = body?.images[0];
  picture.version = body?.model_version;
  picture.problem = problem;
  show(picture);
  sendNext();
}

function again(picture) {
  picture.stop?.abort();
  Object.assign(picture, { state: "waiting", tries: 0, answer: undefined, problem: undefined });
  show(picture);
  sendNext();
}

function remove(picture) {
  picture.stop?.abort();
  URL.revokeObjectURL(picture.url);
  picture.element?.remove();
  pictures = pictures.filter((other) => other !== picture);
  showProgress();
  (pictures.length ? at("results-title") : at("files")).focus();
  sendNext();
}

/** Return the faces of a picture that the options leave. */
function facesOf({ answer }) {
  const confidence = Number(at("min-confidence").value) / 100;
  const side = Number(at("min-face").value);
  return (answer?.faces || []).filter((face) => face.confidence >= confidence
    && (!face.box || Math.min(face.box.x_max - face.box.x_min, face.box.y_max - face.box.y_min) >= side));
}

function show(picture) {
  const faces = facesOf(picture);
  const had = picture.element?.contains(document.activeElement) ? document.activeElement.dataset.action : null;
  const element = article(picture, faces, model?.quality_bounds || [], {
    png: async () => save(`${picture.name.replace(/\.\w+$/, "")}_annotated.png`, await asPng(picture, faces)),
    remove: () => remove(picture),
    again: () => again(picture),
  });
  if (picture.element) picture.element.replaceWith(element);
  else at("pictures").append(element);
  picture.element = element;
  if (had) (element.querySelector(`[data-action="${had}"]`) || at("results-title")).focus();
  showProgress();
}

function showAll() {
  pictures.forEach(show);
  showProgress();
}

function showProgress() {
  at("results").hidden = !pictures.length && !remark;
  const [done, failed] = ["done", "failed"].map((state) => pictures.filter((picture) => picture.state === state).length);
  const text = failed ? words("progress_failed", done, pictures.length, failed) : words("progress", done, pictures.length);
  at("progress").textContent = `${text}${remark ? ` · ${remark}` : ""}`;
  at("json").disabled = at("csv").disabled = !(done + failed);
}

function translate() {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  document.title = words("title");
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = words(element.dataset.t);
  for (const element of document.querySelectorAll("[data-t-label]")) element.setAttribute("aria-label", words(element.dataset.tLabel));
  showLimits();
  showAll();
}

function colour() {
  document.documentElement.dataset.theme = at("theme").value;
}

/** Remember what was chosen here; nothing else is kept. */
function remember(name, value) {
  try {
    if (value === undefined) return localStorage.getItem(name);
    localStorage.setItem(name, value);
  } catch { /* The browser keeps nothing. */ }
  return null;
}

async function paste() {
  try {
    const files = [];
    for (const item of await navigator.clipboard.read()) {
      const type = item.types.find((name) => name.startsWith("image/"));
      if (type) files.push(new File([await item.getType(type)], `pasted.${type.slice(6)}`, { type }));
    }
    if (files.length) return take(files);
  } catch { /* Not allowed. */ }
  remark = words("no_paste");
  showProgress();
}

function listen() {
  for (const id of ["files", "camera"]) {
    at(id).addEventListener("change", () => { take(at(id).files); at(id).value = ""; });
  }
  at("paste").addEventListener("click", paste);
  document.addEventListener("paste", (event) => { if (event.clipboardData?.files.length) take(event.clipboardData.files); });
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => { event.preventDefault(); at("drop").classList.add("over"); });
  }
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) at("drop").classList.remove("over"); });
  document.addEventListener("drop", (event) => { event.preventDefault(); at("drop").classList.remove("over"); take(event.dataTransfer.files); });
  for (const id of ["min-confidence", "min-face"]) at(id).addEventListener("input", showAll);
  at("cropped").addEventListener("change", () => pictures.forEach(again));
  at("json").addEventListener("click", () => save("faces.json", asJson(pictures, facesOf), "application/json"));
  at("csv").addEventListener("click", () => save("faces.csv", asCsv(pictures, facesOf, model), "text/csv"));
  at("clear").addEventListener("click", () => { remark = ""; pictures.slice().forEach(remove); showProgress(); });
  at("token-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    token = at("token").value.trim();
    if (await learnModel()) sendNext();
  });
  at("language").addEventListener("change", () => { setLanguage(at("language").value); remember("language", language); translate(); });
  at("theme").addEventListener("change", () => { remember("theme", at("theme").value); colour(); });
}

at("theme").value = remember("theme") || "auto";
setLanguage(remember("language") || navigator.language.slice(0, 2));
at("language").value = language;
colour();
listen();
translate();
learnModel();

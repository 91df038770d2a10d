// Builds what is seen of one picture: the photo with its boxes, a card for each face, a table.

import { percent, short, term, terms, words } from "/static/words.js";

const SVG = "http://www.w3.org/2000/svg";
const MANY = 3; // More cards than these scroll beside the photo.

/** Return an element with attributes and children. Text is always text, never HTML. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Return what a picture's state is in words. */
export function stateOf(picture, faces) {
  if (picture.state !== "done") return words(picture.state);
  const found = picture.answer.faces_found;
  const count = faces.length < found ? words("shown_of", faces.length, found) : found === 1 ? words("face_one") : words("faces", found);
  return `${count} · ${picture.answer.image_size.width} × ${picture.answer.image_size.height} px · ${words("took", Math.round(picture.answer.inference_ms))}`;
}

/** Return the article of a picture.
 *
 * picture: {name, url, state, answer, problem}; faces: those to show; bounds: the model's;
 * act: {png, remove, again}, functions.
 */
export function article(picture, faces, bounds, act) {
  const isDone = picture.state === "done";
  const label = (action) => words("of_picture", picture.name, words(action));
  const button = (action) => make("button", { class: "button", type: "button", "aria-label": label(action), "data-action": action, click: act[action] }, words(action));
  const root = make("article", { class: "picture", "aria-label": picture.name },
    make("header", {},
      make("h3", {}, picture.name),
      make("p", { class: "state" }, stateOf(picture, faces)),
      picture.problem ? button("again") : null,
      isDone && !picture.unshown ? button("png") : null,
      button("remove")));
  const cards = make("div", { class: faces.length > MANY ? "faces many" : "faces" });
  const view = make("div", { class: "view" }, photo(picture, isDone ? faces : [], cards), cards);
  if (picture.problem) cards.append(problem(picture.problem));
  else if (isDone && !faces.length) cards.append(make("p", { class: "none" }, words(picture.answer.faces_found ? "none_left" : "no_face")));
  else if (isDone) faces.forEach((face, index) => cards.append(card(face, index, bounds, view)));
  root.append(view);
  if (isDone && faces.length) root.append(table(picture, faces));
  return root;
}

function problem(details) {
  return make("div", { class: "problem" },
    make("strong", {}, details.type ? term(details.type) === details.type ? details.title : term(details.type) : details.title),
    make("p", details.type ? { lang: "en" } : {}, details.detail));
}

function photo(picture, faces, cards) {
  picture.image ??= make("img", { src: picture.url, error: () => { picture.unshown = true; picture.image.parentElement.hidden = true; } });
  picture.image.alt = words("photo_of", picture.name); // The same element each time: a new one would flicker.
  const figure = make("figure", { class: "photo", hidden: Boolean(picture.unshown) }, picture.image);
  const size = picture.answer?.image_size;
  if (size && faces.some((face) => face.box)) figure.append(boxes(faces, size, cards));
  return figure;
}

/** Return boxes as SVG over the photo. They repeat what the cards and the table say, so they are hidden from readers. */
function boxes(faces, size, cards) {
  const root = document.createElementNS(SVG, "svg");
  root.setAttribute("viewBox", `0 0 ${size.width} ${size.height}`);
  root.setAttribute("aria-hidden", "true");
  const unit = Math.max(size.width, size.height * 1.2) / 640;
  faces.forEach((face, index) => {
    const { x_min: x, y_min: y, x_max, y_max } = face.box;
    const place = { x, y, width: x_max - x, height: y_max - y };
    const group = shape("g", { class: face.uncertain ? "uncertain" : "", "data-face": index });
    const dash = face.uncertain ? { "stroke-dasharray": `${7 * unit} ${5 * unit}` } : {};
    group.append(shape("rect", { ...place, class: "box-under", "stroke-width": 5 * unit }));
    group.append(shape("rect", { ...place, class: "box-over", "stroke-width": 2.5 * unit, ...dash }));
    const caption = `${index + 1} ${faces.length <= 12 ? term(face.emotion) : ""}`.trim();
    const wide = (widthOf(caption) + 10) * unit;
    const left = Math.max(0, Math.min(x, size.width - wide));
    const top = y >= 20 * unit ? y - 20 * unit : Math.min(y_max, size.height - 20 * unit);
    group.append(shape("rect", { x: left, y: top, width: wide, height: 20 * unit, rx: 3 * unit, class: "tag" }));
    const text = shape("text", { x: left + 5 * unit, y: top + 14.5 * unit, "font-size": 14 * unit, class: "tag-text" });
    text.textContent = caption;
    group.append(text);
    group.addEventListener("click", () => cards.children[index]?.scrollIntoView({ block: "nearest" }));
    root.append(group);
  });
  return root;
}

/** Return the width of a caption in px at the size of 14 px. */
function widthOf(caption) {
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = "700 14px system-ui, sans-serif";
  return pen.measureText(caption).width;
}

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function card(face, index, bounds, view) {
  const mark = (on) => () => view.querySelector(`[data-face="${index}"]`)?.classList.toggle("marked", on);
  const root = make("section", { class: "face", "aria-label": words("face", index + 1), pointerenter: mark(true), pointerleave: mark(false), focusin: mark(true), focusout: mark(false) },
    make("h4", {},
      make("span", { class: "number" }, words("face", index + 1)),
      make("span", {}, term(face.emotion)),
      make("span", { class: "value" }, percent(face.confidence))),
    face.uncertain ? make("p", { class: "why" }, words("uncertain_why", terms(face.uncertain_reasons))) : null,
    make("ul", { class: "bars" }, ...Object.entries(face.probabilities).map(([label, share]) => bar(label, share, label === face.emotion))));
  if (face.quality) root.append(quality(face.quality, bounds));
  return root;
}

function bar(label, share, isBest) {
  const fill = make("span", { class: "fill" });
  fill.style.width = `${100 * share}%`;
  return make("li", isBest ? { class: "best" } : {},
    make("span", {}, term(label)), make("span", { class: "track", "aria-hidden": "true" }, fill), make("span", { class: "value" }, percent(share)));
}

function quality(values, bounds) {
  const isBeyond = (column, value) => bounds.some(({ column: bounded, min, max }) => bounded === column && ((min !== null && value < min) || (max !== null && value > max)));
  const list = make("dl", { class: "quality" }, ...Object.entries(values).map(([column, value]) =>
    make("div", isBeyond(column, value) ? { class: "beyond" } : {}, make("dt", {}, term(column)), make("dd", {}, short(value)))));
  return make("details", {}, make("summary", {}, words("quality")), list);
}

function table(picture, faces) {
  const labels = Object.keys(faces[0].probabilities);
  const columns = Object.keys(faces[0].quality || {});
  const head = (text, attributes = {}) => make("th", { scope: "col", ...attributes }, text);
  const rows = faces.map((face, index) => make("tr", {},
    make("th", { scope: "row" }, String(index + 1)),
    make("td", { class: "text" }, term(face.emotion)),
    make("td", {}, percent(face.confidence)),
    make("td", { class: "text" }, face.uncertain ? `${words("yes")}: ${terms(face.uncertain_reasons)}` : words("no")),
    make("td", {}, face.box ? placeOf(face.box).join(", ") : "–"),
    make("td", {}, face.detection_score === undefined ? "–" : face.detection_score.toFixed(2)),
    ...labels.map((label) => make("td", {}, percent(face.probabilities[label]))),
    ...columns.map((column) => make("td", {}, short(face.quality[column])))));
  return make("details", {}, make("summary", {}, words("table")),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": words("table_of", picture.name) },
      make("table", {},
        make("caption", {}, words("table_of", picture.name)),
        make("thead", {}, make("tr", {}, head(words("column_face")), head(words("column_expression"), { class: "text" }), head(words("column_confidence")),
          head(words("column_uncertain"), { class: "text" }), head(words("column_box")), head(words("column_score")),
          ...labels.map((label) => head(term(label))), ...columns.map((column) => head(term(column))))),
        make("tbody", {}, ...rows))));
}

/** Return x, y, width, height of a box in whole pixels. */
export function placeOf(box) {
  return [box.x_min, box.y_min, box.x_max - box.x_min, box.y_max - box.y_min].map(Math.round);
}

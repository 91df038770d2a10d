// What can be taken home: JSON, CSV, and a picture with its faces drawn on it.

import { percent, term, words } from "/static/words.js";

const LONGEST_SIDE_PX = 4096; // Of a drawn picture: larger canvases fail in some browsers.

/** Give the browser a file to save. */
export function save(name, content, type) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** Return pictures with an answer or a problem as JSON. facesOf: the faces that are shown of a picture. */
export function asJson(pictures, facesOf) {
  const images = pictures.filter(({ answer, problem }) => answer || problem).map((picture) => picture.problem
    ? { name: picture.name, error: picture.problem }
    : { name: picture.name, model_version: picture.version, image_size: picture.answer.image_size, faces_found: picture.answer.faces_found, faces: facesOf(picture) });
  return `${JSON.stringify({ notice: words("drawn_note"), images }, null, 2)}\n`;
}

/** Return a line for each face, and one for each picture without one, as CSV (RFC 4180). */
export function asCsv(pictures, facesOf, model) {
  const labels = model?.labels || [];
  const columns = model?.quality_columns || [];
  const lines = [["file", "image_width", "image_height", "face", "x_min", "y_min", "x_max", "y_max", "detection_score", "emotion", "confidence", "uncertain", "reasons",
    ...labels.map((label) => `p_${label}`), ...columns, "model_version", "error"]];
  for (const picture of pictures) {
    const { answer, problem, name, version } = picture;
    if (!answer && !problem) continue;
    const size = [answer?.image_size.width, answer?.image_size.height];
    const faces = answer ? facesOf(picture) : [];
    const empty = { probabilities: {}, uncertain_reasons: [] };
    (faces.length ? faces : [empty]).forEach((face, index) => {
      const { x_min, y_min, x_max, y_max } = face.box || {};
      lines.push([name, ...size, faces.length ? index + 1 : "", x_min, y_min, x_max, y_max, face.detection_score, face.emotion, face.confidence, face.uncertain, face.uncertain_reasons.join("; "),
        ...labels.map((label) => face.probabilities[label]), ...columns.map((column) => face.quality?.[column]), version, problem?.detail]);
    });
  }
  return `\ufeff${lines.map((line) => line.map(cell).join(",")).join("\r\n")}\r\n`;
}

function cell(value) {
  if (typeof value === "number") return String(value);
  let text = String(value ?? "");
  if (/^[=+\-@\t\r]/.test(text)) text = `'${text}`; // Spreadsheets would run it.
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Return a picture with its faces drawn on it as a PNG. */
export async function asPng(picture, faces) {
  const photo = await createImageBitmap(picture.file, { imageOrientation: "from-image" });
  const scale = Math.min(1, LONGEST_SIDE_PX / Math.max(photo.width, photo.height));
  const [width, height] = [Math.round(photo.width * scale), Math.round(photo.height * scale)];
  const font = Math.max(11, Math.round(width / 45));
  const note = wrap(words("drawn_note"), font * 0.75, width);
  const canvas = Object.assign(document.createElement("canvas"), { width, height: height + Math.round(font * (note.length + 0.6)) });
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#101014";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(photo, 0, 0, width, height);
  const unit = Math.max(1, Math.max(width, height) / 640);
  pen.textBaseline = "top";
  faces.filter((face) => face.box).forEach((face) => drawFace(pen, face, scale, unit, font, { width, height }));
  pen.fillStyle = "#ffffff";
  pen.font = `${font * 0.75}px system-ui, sans-serif`;
  note.forEach((line, index) => pen.fillText(line, font * 0.4, height + font * (index + 0.35)));
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

function drawFace(pen, face, scale, unit, font, size) {
  const [x, y, right, bottom] = [face.box.x_min, face.box.y_min, face.box.x_max, face.box.y_max].map((value) => value * scale);
  const color = face.uncertain ? "#ffffff" : "#ffd54a";
  for (const [style, line] of [["#101014", 5 * unit], [color, 2.5 * unit]]) {
    pen.strokeStyle = style;
    pen.lineWidth = line;
    pen.setLineDash(face.uncertain && style === color ? [7 * unit, 5 * unit] : []);
    pen.strokeRect(x, y, right - x, bottom - y);
  }
  pen.font = `600 ${font}px system-ui, sans-serif`;
  const caption = `${term(face.emotion)} ${percent(face.confidence, 0)}${face.uncertain ? ` (${words("uncertain")})` : ""}`;
  const wide = pen.measureText(caption).width + font * 0.6;
  const left = Math.max(0, Math.min(x, size.width - wide));
  const top = y >= font * 1.4 ? y - font * 1.4 : Math.min(bottom, size.height - font * 1.4);
  pen.fillStyle = color;
  pen.fillRect(left, top, wide, font * 1.4);
  pen.fillStyle = "#101014";
  pen.fillText(caption, left + font * 0.3, top + font * 0.2);
}

function wrap(text, font, width) {
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = `${font}px system-ui, sans-serif`;
  const lines = [""];
  for (const piece of text.split(/(?<=[ ，。、])/)) {
    if (lines.at(-1) && pen.measureText(lines.at(-1) + piece).width > width - font) lines.push("");
    lines[lines.length - 1] += piece;
  }
  return lines;
}

// The documents: examples name the address that they were read at, and requests can be tried.

for (const code of document.querySelectorAll("pre code")) {
  code.textContent = code.textContent.replaceAll("http://127.0.0.1:8080", location.origin);
}

const answer = document.getElementById("answer");
const file = document.getElementById("file");

async function show(path, options) {
  answer.textContent = "…";
  try {
    const got = await fetch(path, options);
    answer.textContent = `${got.status} ${got.headers.get("Content-Type")}\n${JSON.stringify(await got.json(), null, 2)}`;
  } catch {
    answer.textContent = "The service cannot be reached.";
  }
}

file.addEventListener("change", () => {
  const [picture] = file.files;
  if (picture) show("/v1/faces", { method: "POST", body: picture, headers: { "Content-Type": picture.type || "application/octet-stream" } });
  file.value = "";
});
for (const button of document.querySelectorAll("[data-path]")) button.addEventListener("click", () => show(button.dataset.path));

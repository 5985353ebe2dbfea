// An image is sent to `predict` as soon as there is one, and the newest image wins.
const $ = (id) => document.getElementById(id);
const [answer, said, again, preview] = ["answer", "said", "again", "preview"].map($);
const SLOW_MS = 400; // most answers are faster: a word of waiting would only flicker
const FEW = 6; // names that are listed
const SURE = 0.5; // where the model has no threshold of its own

// A service may ask for an API key; it is kept until the tab is closed.
const key = () => (sessionStorage.apiKey ? { "X-API-Key": sessionStorage.apiKey } : {});
let current;
let running = new AbortController();

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

function percent(part) {
  if (part > 0 && part < 0.0005) return "<0.1\u00a0%";
  if (part < 1 && part >= 0.9995) return ">99.9\u00a0%";
  return `${(100 * part).toFixed(1)}\u00a0%`;
}

function row({ class: name, probability }) {
  const filled = element("div", "");
  filled.style.width = `${100 * probability}%`;
  const text = [element("span", "", name), element("span", "percent", percent(probability))];
  return element("li", "", ...text, element("div", "bar", filled));
}

function result({ top, sure: promised, prediction_set: set, notes, image, milliseconds, model }) {
  const sure = promised ?? top[0].probability >= SURE;
  const rows = element("ol", "top", ...top.map(row));
  rows.setAttribute("role", "list"); // Safari takes it away with the numbers
  rows.setAttribute("aria-label", "Most likely names");
  const words = notes.map((note) => element("li", "", note));
  if (promised === false) words.unshift(element("li", "doubt", "Not sure enough to answer: these are its best guesses."));
  else if (!sure) words.unshift(element("li", "doubt", "The model is not sure."));
  if (set?.length > 1) words.push(element("li", "", `It may be any of ${set.length}${set.length > FEW ? "" : `: ${set.join(", ")}`}.`));
  const { total, decode, model: thinking } = milliseconds;
  const facts = [
    `${total.toFixed(1)} ms in the service: ${decode.toFixed(1)} to decode, ${thinking.toFixed(1)} in the model.`,
    `${image.format}, ${image.width}\u00a0×\u00a0${image.height} pixels.`,
    `Model ${model}.`,
  ];
  return {
    nodes: [
      element("h2", "verdict", ...(promised === false ? ["Not sure"] : [sure ? "Most likely " : "Perhaps ", element("b", "", top[0].class)])),
      rows,
      ...(words.length ? [element("ul", "notes", ...words)] : []),
      element("p", "small", facts.join(" ")),
    ],
  };
}

function failure(sentence, retry = false) {
  return { nodes: [element("h2", "verdict", "No answer"), element("p", "error", sentence)], retry };
}

async function predict(image, signal) {
  try {
    await image.slice(0, 1).arrayBuffer();
  } catch { // fetch would blame the network
    return failure("This file cannot be read. A folder is not an image, and a file may have been moved.");
  }
  const body = new FormData();
  body.append("image", image, image.name);
  let response;
  try {
    response = await fetch("v1/predict", { method: "POST", body, signal, headers: key() });
  } catch {
    return failure("The service cannot be reached.", true);
  }
  if (response.status === 401) {
    const given = prompt("This service needs an API key:");
    if (given) {
      sessionStorage.apiKey = given;
      return predict(image, signal);
    }
  }
  const content = await response.json().catch(() => ({}));
  if (response.ok && content.top) return result(content);
  if (response.status === 503) {
    const seconds = Number(response.headers.get("Retry-After"));
    return failure(`The service is busy. Try again in ${seconds > 1 ? `${seconds} seconds` : "a second"}.`, true);
  }
  const { detail } = content;
  const sentence = typeof detail === "string" ? detail : `This page does not understand the answer (${response.status}).`;
  const refused = response.status >= 400 && response.status < 500; // and would be again
  return failure(sentence, !refused);
}

async function ask(image) {
  running.abort();
  const { signal } = (running = new AbortController());
  current = image;
  answer.setAttribute("aria-busy", "true");
  const waiting = setTimeout(() => {
    said.className = "waiting";
    said.replaceChildren(element("h2", "verdict", "Looking at the image …"));
  }, SLOW_MS);
  const { nodes, retry = false } = await predict(image, signal);
  clearTimeout(waiting);
  if (signal.aborted) return;
  said.className = "";
  said.replaceChildren(...nodes);
  answer.setAttribute("aria-busy", "false");
  if (document.activeElement === again && !retry) {
    nodes[0].tabIndex = -1; // the button goes: the focus must not go with it
    nodes[0].focus();
  }
  again.hidden = !retry;
  answer.scrollIntoView({ block: "nearest" });
}

function take(files) {
  const image = [...files].find((file) => file.type.startsWith("image/")) ?? files[0];
  if (!image) return;
  const old = preview.src;
  preview.src = URL.createObjectURL(image);
  preview.alt = `Your image, ${image.name}`;
  URL.revokeObjectURL(old);
  $("pick-name").textContent = "Choose another image";
  ask(image);
}
preview.addEventListener("load", () => { preview.hidden = false; });
preview.addEventListener("error", () => {
  preview.hidden = true;
  $("unseen").textContent = `Your browser cannot show ${current.name}.`;
});

for (const [button, input] of [["pick", "file"], ["photograph", "camera"]]) {
  $(button).addEventListener("click", () => $(input).click());
  $(input).addEventListener("change", ({ target }) => {
    take(target.files);
    target.value = ""; // or the same file, picked again, would be no change
  });
}
again.addEventListener("click", () => ask(current));

document.addEventListener("paste", (event) => take(event.clipboardData.files));

// An image that misses the frame, or a link, would replace the page.
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  if (!event.dataTransfer.types.includes("Files")) event.dataTransfer.dropEffect = "none";
  else document.body.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  take(event.dataTransfer.files);
});

// What the page says besides is worth no error: without it the page still answers.
async function get(path) {
  const response = await fetch(path, { headers: key() }).catch(() => null);
  return response?.ok ? response : null;
}
get("example").then(async (response) => {
  if (!response) return;
  const example = new File([await response.blob()], "example.jpg", { type: "image/jpeg" });
  $("example").addEventListener("click", () => take([example]));
  $("example").hidden = false;
});
get("v1/classes").then(async (response) => {
  if (!response) return;
  const { classes } = await response.json();
  $("count").textContent = classes.length;
  $("names").querySelector("ul").append(...classes.map((name) => element("li", "", name)));
  $("names").hidden = false;
});
get("v1/model").then(async (response) => {
  const { backbone, accuracy, backbone_accuracy: mean, decision } = (await response?.json()) ?? {};
  if (!accuracy) return;
  const { value, low, high } = accuracy;
  const between = low == null ? "" : `, likely between ${(100 * low).toFixed(1)} and ${percent(high)} of new ones`;
  // The report's headline is this mean: one training is what is served.
  const others = mean?.trainings > 1 ? `; the mean of its ${mean.trainings} trainings is ${percent(mean.value)}` : "";
  $("accuracy").textContent = `Its model, ${backbone}, names ${percent(value)} of clean test images correctly${between}${others}.`;
  const { max_error: wanted, answered, error } = decision ?? {};
  if (wanted && error) {
    $("accuracy").textContent += ` It is sure of ${percent(answered.value)} of them, and wrong on ${percent(error.value)} of those.`;
  }
});

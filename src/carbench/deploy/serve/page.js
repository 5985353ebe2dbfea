// Each chosen image is sent to `predict` immediately; only the newest result is shown.
const $ = (id) => document.getElementById(id);
const [resultSection, message, retryButton, preview] = ["result", "message", "retry", "preview"].map($);
const PROGRESS_DELAY_MS = 400; // most responses are faster: a progress text would only flicker
const MAX_LISTED_CLASSES = 6;
const DEFAULT_THRESHOLD = 0.5; // if the model has no threshold

// The API key, if the service requires one, is stored until the tab is closed.
const apiKeyHeader = () => (sessionStorage.apiKey ? { "X-API-Key": sessionStorage.apiKey } : {});
let currentImage;
let pendingRequest = new AbortController();

function element(tag, className, ...children) {
  const created = document.createElement(tag);
  created.className = className;
  created.append(...children);
  return created;
}

function percent(fraction) {
  if (fraction > 0 && fraction < 0.0005) return "<0.1\u00a0%";
  if (fraction < 1 && fraction >= 0.9995) return ">99.9\u00a0%";
  return `${(100 * fraction).toFixed(1)}\u00a0%`;
}

function classRow({ class: name, probability }) {
  const filled = element("div", "");
  filled.style.width = `${100 * probability}%`;
  const text = [element("span", "", name), element("span", "percent", percent(probability))];
  return element("li", "", ...text, element("div", "bar", filled));
}

function predictionView({ top, sure: aboveThreshold, prediction_set: set, notes, image, milliseconds, model }) {
  const confident = aboveThreshold ?? top[0].probability >= DEFAULT_THRESHOLD;
  const rows = element("ol", "top", ...top.map(classRow));
  rows.setAttribute("role", "list"); // Safari removes the role together with the numbers
  rows.setAttribute("aria-label", "Most likely classes");
  const remarks = notes.map((note) => element("li", "", note));
  if (aboveThreshold === false) remarks.unshift(element("li", "warning", "The confidence is below the threshold for an answer. These are the most likely classes."));
  else if (!confident) remarks.unshift(element("li", "warning", "The confidence is low."));
  if (set?.length > 1) remarks.push(element("li", "", set.length > MAX_LISTED_CLASSES ? `${set.length} classes are possible.` : `Possible classes: ${set.join(", ")}.`));
  const { total, decode, model: inference } = milliseconds;
  const facts = [
    `Processed in ${total.toFixed(1)} ms (decoding ${decode.toFixed(1)} ms, model ${inference.toFixed(1)} ms).`,
    `Image: ${image.format}, ${image.width}\u00a0×\u00a0${image.height} pixels.`,
    `Model: ${model}.`,
  ];
  return {
    nodes: [
      element("h2", "verdict", ...(aboveThreshold === false ? ["Not sure"] : [confident ? "Most likely " : "Possibly ", element("b", "", top[0].class)])),
      rows,
      ...(remarks.length ? [element("ul", "notes", ...remarks)] : []),
      element("p", "small", facts.join(" ")),
    ],
  };
}

function errorView(text, retry = false) {
  return { nodes: [element("h2", "verdict", "No result"), element("p", "error", text)], retry };
}

async function predict(image, signal) {
  try {
    await image.slice(0, 1).arrayBuffer();
  } catch { // fetch would report a network error
    return errorView("This file cannot be read. It may be a folder, or it may have been moved.");
  }
  const body = new FormData();
  body.append("image", image, image.name);
  let response;
  try {
    response = await fetch("v1/predict", { method: "POST", body, signal, headers: apiKeyHeader() });
  } catch {
    return errorView("The service cannot be reached.", true);
  }
  if (response.status === 401) {
    const apiKey = prompt("This service requires an API key:");
    if (apiKey) {
      sessionStorage.apiKey = apiKey;
      return predict(image, signal);
    }
  }
  const content = await response.json().catch(() => ({}));
  if (response.ok && content.top) return predictionView(content);
  if (response.status === 503) {
    const seconds = Number(response.headers.get("Retry-After"));
    return errorView(`The service is busy. Try again in ${seconds > 1 ? `${seconds} seconds` : "a second"}.`, true);
  }
  const { detail } = content;
  const text = typeof detail === "string" ? detail : `Unexpected response from the service (status ${response.status}).`;
  const clientError = response.status >= 400 && response.status < 500; // a retry would fail again
  return errorView(text, !clientError);
}

async function classify(image) {
  pendingRequest.abort();
  const { signal } = (pendingRequest = new AbortController());
  currentImage = image;
  resultSection.setAttribute("aria-busy", "true");
  const progress = setTimeout(() => {
    message.className = "waiting";
    message.replaceChildren(element("h2", "verdict", "Classifying …"));
  }, PROGRESS_DELAY_MS);
  const { nodes, retry = false } = await predict(image, signal);
  clearTimeout(progress);
  if (signal.aborted) return;
  message.className = "";
  message.replaceChildren(...nodes);
  resultSection.setAttribute("aria-busy", "false");
  if (document.activeElement === retryButton && !retry) {
    nodes[0].tabIndex = -1; // keep the focus when the button disappears
    nodes[0].focus();
  }
  retryButton.hidden = !retry;
  resultSection.scrollIntoView({ block: "nearest" });
}

function selectImage(files) {
  const image = [...files].find((file) => file.type.startsWith("image/")) ?? files[0];
  if (!image) return;
  const previousUrl = preview.src;
  preview.src = URL.createObjectURL(image);
  preview.alt = `Your image, ${image.name}`;
  URL.revokeObjectURL(previousUrl);
  $("pick-name").textContent = "Choose another image";
  classify(image);
}
preview.addEventListener("load", () => { preview.hidden = false; });
preview.addEventListener("error", () => {
  preview.hidden = true;
  $("no-preview").textContent = `Your browser cannot display ${currentImage.name}.`;
});

for (const [button, input] of [["pick", "file"], ["take-photo", "camera"]]) {
  $(button).addEventListener("click", () => $(input).click());
  $(input).addEventListener("change", ({ target }) => {
    selectImage(target.files);
    target.value = ""; // so that choosing the same file again is a change
  });
}
retryButton.addEventListener("click", () => classify(currentImage));

document.addEventListener("paste", (event) => selectImage(event.clipboardData.files));

// Without these handlers, dropping an image or a link would replace the page.
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
  selectImage(event.dataTransfer.files);
});

// The following is optional: if it fails, the page still works.
async function get(path) {
  const response = await fetch(path, { headers: apiKeyHeader() }).catch(() => null);
  return response?.ok ? response : null;
}
get("example").then(async (response) => {
  if (!response) return;
  const example = new File([await response.blob()], "example.jpg", { type: "image/jpeg" });
  $("example").addEventListener("click", () => selectImage([example]));
  $("example").hidden = false;
});
get("v1/classes").then(async (response) => {
  if (!response) return;
  const { classes } = await response.json();
  $("count").textContent = classes.length;
  $("classes").querySelector("ul").append(...classes.map((name) => element("li", "", name)));
  $("classes").hidden = false;
});
get("v1/model").then(async (response) => {
  const { accuracy, backbone_accuracy: mean, decision } = (await response?.json()) ?? {};
  if (!accuracy) return;
  const { value, low, high } = accuracy;
  const interval = low == null ? "" : ` (confidence interval ${(100 * low).toFixed(1)} to ${percent(high)})`;
  // The report states the mean of all training runs; the service uses one of them.
  const runs = mean?.trainings > 1 ? ` The mean accuracy of the ${mean.trainings} training runs is ${percent(mean.value)}.` : "";
  $("accuracy").textContent = `Its accuracy on clean test images is ${percent(value)}${interval}.${runs}`;
  const { max_error: target, answered, error } = decision ?? {};
  if (target && error) {
    $("accuracy").textContent += ` Its confidence is high enough for ${percent(answered.value)} of them; ${percent(error.value)} of these are wrong.`;
  }
});

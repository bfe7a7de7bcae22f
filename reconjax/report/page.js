// Draws the charts with Vega, and lets the slider move them and the sentences beside them.
const { dims, charts, pictures } = JSON.parse(document.getElementById("charts").textContent);
const views = new Map();

function rowsOf(table) {
  const names = Object.keys(table);
  return table[names[0]].map((_, i) => Object.fromEntries(names.map((name) => [name, table[name][i]])));
}

// Values on hover, as lines of text.
const tip = document.body.appendChild(document.createElement("div"));
tip.id = "tip";
tip.hidden = true;
function showTip(_, event, __, value) {
  tip.hidden = value === null || value === undefined || value === "";
  if (tip.hidden) return;
  const known = Object.entries(value).filter(([, text]) => text !== "null" && text !== "");
  tip.replaceChildren(...known.map(([name, text]) => {
    const line = document.createElement("div");
    line.textContent = `${name}: ${text}`;
    return line;
  }));
  const { clientX = 0, clientY = 0 } = event.touches ? event.touches[0] ?? {} : event;
  tip.style.left = `${Math.max(4, Math.min(clientX + 14, innerWidth - tip.offsetWidth - 4))}px`;
  tip.style.top = `${Math.max(4, clientY - tip.offsetHeight - 10)}px`;
}

for (const [id, { spec, table }] of Object.entries(charts)) {
  spec.data.find((data) => data.name === "rows").values = rowsOf(table);
  const view = new vega.View(vega.parse(spec), {
    renderer: "svg",
    container: document.querySelector(`#${CSS.escape(id)} .chart`),
    hover: true,
  });
  view.tooltip(showTip);
  views.set(id, view);
}

function setSignal(name, value) {
  for (const [id, view] of views) {
    if (charts[id].spec.signals.some((signal) => signal.name === name)) view.signal(name, value).runAsync();
  }
}

// Of what is there for some K, the largest that is not above the slider's is shown.
function moveTo(latentDim) {
  for (const group of document.querySelectorAll(".by-dim")) {
    const parts = [...group.children];
    const below = parts.filter((part) => Number(part.dataset.k) <= latentDim);
    const chosen = below.length ? below[below.length - 1] : parts[0];
    for (const part of parts) part.hidden = part !== chosen;
  }
  setSignal("K", latentDim);
}

const slider = document.getElementById("latent-dim");
slider?.addEventListener("input", () => {
  const latentDim = dims[Number(slider.value)];
  document.getElementById("latent-dim-shown").textContent = latentDim;
  moveTo(latentDim);
});
for (const select of document.querySelectorAll("select[data-signal]")) {
  select.addEventListener("change", () => setSignal(select.dataset.signal, select.value));
}

// Downloads.
const quoted = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
function csvOf(table) {
  const names = Object.keys(table);
  const lines = table[names[0]].map((_, i) => names.map((name) => quoted(String(table[name][i] ?? ""))));
  return [names.map(quoted), ...lines].map((line) => line.join(",")).join("\n") + "\n";
}
async function svgOf(figure) {
  const text = views.has(figure.id)
    ? await views.get(figure.id).toSVG()
    : new XMLSerializer().serializeToString(figure.querySelector("svg"));
  return text.replaceAll("currentColor", "#1c1e21");
}
for (const button of document.querySelectorAll("button[data-save]")) {
  button.addEventListener("click", async () => {
    const figure = button.closest("figure"), kind = button.dataset.save;
    const text = kind === "svg" ? await svgOf(figure) : csvOf(charts[figure.id]?.table ?? pictures[figure.id]);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: kind === "svg" ? "image/svg+xml" : "text/csv" }));
    link.download = `${figure.id}.${kind}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
}

// Draws the charts with Vega-Lite, and lets the slider move them and the sentences beside them.
const { dims, charts, pictures } = JSON.parse(document.getElementById("charts").textContent);
const views = new Map();

function rowsOf(table) {
  const names = Object.keys(table);
  return table[names[0]].map((_, i) => Object.fromEntries(names.map((name) => [name, table[name][i]])));
}

const drawn = Object.entries(charts).map(async ([id, { spec, table }]) => {
  const place = document.querySelector(`#${CSS.escape(id)} .chart`);
  const data = { values: rowsOf(table) };
  const options = { actions: false, renderer: "svg", tooltip: { disableDefaultStyle: true } };
  views.set(id, (await vegaEmbed(place, { ...spec, data }, options)).view);
});

function setSignal(name, value) {
  for (const [id, view] of views) {
    if (charts[id].spec.params.some((parameter) => parameter.name === name)) view.signal(name, value).runAsync();
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

// For those who wait for the charts.
Promise.all(drawn).then(() => { document.documentElement.dataset.ready = "true"; });

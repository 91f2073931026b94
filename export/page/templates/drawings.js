// Elements, thumbnails, curves and bars. Text enters as text, never as markup.

const SVG = "http://www.w3.org/2000/svg", THUMBNAIL = 64;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && key !== "list") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function shape(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function byId(id) {
  return document.getElementById(id);
}

// A sample as a picture's address: its pixels, or a curve for each channel.
function thumbnail(image, facts) {
  return isPicture(facts.input) ? pictureOf(image, facts) : curvesOf(image, facts.input);
}

function pictureOf(image, facts) {
  const { height, width, channels } = facts.input, shown = shownValues(image, facts.sample_values, facts.input);
  const low = Math.min(0, ...shown.slice(0, 65536)), high = Math.max(1, ...shown.slice(0, 65536));
  const canvas = element("canvas", { width, height }), context = canvas.getContext("2d"), pixels = context.createImageData(width, height);
  for (let i = 0; i < height * width; ++i) {
    for (let c = 0; c < 3; ++c) {
      const value = shown[i * channels + (channels === 1 ? 0 : c)];
      pixels.data[4 * i + c] = (255 * (value - low)) / (high - low);
    }
    pixels.data[4 * i + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
  if (width <= THUMBNAIL && height <= THUMBNAIL) return canvas.toDataURL();
  const size = THUMBNAIL / Math.max(width, height);
  const small = element("canvas", { width: Math.max(1, width * size), height: Math.max(1, height * size) });
  small.getContext("2d").drawImage(canvas, 0, 0, small.width, small.height);
  return small.toDataURL();
}

function curvesOf(image, { height, width, channels }) {
  const steps = Math.max(height, width), lines = image.length / steps;
  const canvas = element("canvas", { width: 2 * THUMBNAIL, height: THUMBNAIL }), context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  for (let line = 0; line < Math.min(lines, 8); ++line) {
    context.strokeStyle = `hsl(${Math.round((360 * line) / Math.min(lines, 8))} 70% 38%)`;
    context.beginPath();
    for (let step = 0; step < steps; ++step) {
      const q = image[step * lines + line] ?? 0;
      context.lineTo((step / Math.max(1, steps - 1)) * canvas.width, ((127 - q) / 255) * canvas.height);
    }
    context.stroke();
  }
  return canvas.toDataURL();
}

function drawCurve(svg, losses, total) {
  const width = 600, height = 160, top = Math.max(...losses, 1e-9), last = Math.max(total - 1, losses.length - 1, 1);
  const points = losses.map((loss, i) => `${((i / last) * width).toFixed(1)},${(height - (loss / top) * (height - 12)).toFixed(1)}`);
  svg.setAttribute("viewBox", `-4 -4 ${width + 8} ${height + 8}`);
  svg.replaceChildren(
    shape("polyline", { points: `0,0 0,${height} ${width},${height}`, class: "axis" }),
    shape("polyline", { points: points.join(" "), class: "curve" }),
    ...losses.map((loss, i) => shape("circle", { cx: points[i].split(",")[0], cy: points[i].split(",")[1], r: 3, class: "dot" },
      shape("title", {}, `iteration ${i + 1}: ${loss.toFixed(4)}`))),
  );
  svg.setAttribute("aria-label", `Loss: ${losses[0].toFixed(3)} at first, ${losses.at(-1).toFixed(3)} after ${losses.length} iterations`);
}

// Name, a bar of a share, and what it stands for in words.
function barRow(name, share, words, kind = "") {
  const bar = element("span", { className: `bar ${kind}`, ariaHidden: "true" }, element("i", { style: `width:${(100 * Math.max(0, Math.min(1, share))).toFixed(1)}%` }));
  return element("li", {}, element("span", { className: "name" }, name), bar, element("span", { className: "words" }, words));
}

function kilobytes(bytes) {
  return `${Math.round(bytes / 1024)}`;
}

function duration(seconds) {
  if (seconds < 100) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

function download(name, bytes) {
  const link = element("a", { href: URL.createObjectURL(new Blob([bytes])), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Making elements, and telling the person at the page something.

export function el(tag, props = {}, ...children) {
  const node = tag.startsWith("svg:") ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

export function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

export function notice(words, bad = false) {
  const line = el("p", bad ? { class: "bad", role: "alert" } : {}, words);
  document.getElementById("notice").append(line);
  setTimeout(() => line.remove(), bad ? 12000 : 5000);
}

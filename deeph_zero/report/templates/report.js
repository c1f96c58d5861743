"use strict";

// ---- the table: a click on a heading sorts, a second one turns the order round
(() => {
  const table = document.getElementById("structures");
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => row.cells[column].dataset.key;
  const compare = (a, b) => {
    if (a === undefined || b === undefined) return 0;
    const x = Number(a), y = Number(b);
    if (a.trim() === "" || b.trim() === "" || Number.isNaN(x) || Number.isNaN(y)) {
      return a.localeCompare(b, "en", { numeric: true });
    }
    return x - y;
  };
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      const known = rows.filter((row) => key(row, column) !== undefined);
      const unknown = rows.filter((row) => key(row, column) === undefined);
      known.sort((a, b) => (down ? -1 : 1) * compare(key(a, column), key(b, column)));
      table.tBodies[0].append(...known, ...unknown);
    });
  });
})();

// ---- the viewer
(() => {
  const place = document.getElementById("viewer");
  if (!place) return;
  const { scenes, clip, levels } = JSON.parse(document.getElementById("scenes").textContent);
  const NAMES = {
    molecule: "molecule", homo: "HOMO", homo_alpha: "HOMO α", homo_beta: "HOMO β",
    lumo: "LUMO", lumo_alpha: "LUMO α", lumo_beta: "LUMO β",
    density: "density", spin_density: "spin density",
    homo_gamma: "highest filled at Γ", homo_gamma_alpha: "highest filled at Γ, α",
    homo_gamma_beta: "highest filled at Γ, β", lumo_gamma: "lowest empty at Γ",
    lumo_gamma_alpha: "lowest empty at Γ, α", lumo_gamma_beta: "lowest empty at Γ, β",
  };
  const nameOf = (field) => field === "molecule" && state.scene.cell ? "atoms" : NAMES[field];
  const POSITIVE = "#0072b2", NEGATIVE = "#e69f00";
  const element = (id) => document.getElementById(id);
  const slider = element("iso"), legend = element("legend"), fields = element("fields");
  const state = { scene: null, field: "molecule", volumes: {}, iso: {}, viewer: null };

  const say = (text) => {
    place.replaceChildren(Object.assign(document.createElement("p"), { textContent: text }));
  };
  try {
    state.viewer = window.$3Dmol.createViewer(place, { antialias: true });
  } catch (error) { /* said below */ }
  if (!state.viewer) {
    say("The view needs WebGL, which this browser does not offer.");
    return;
  }
  const viewer = state.viewer;
  // an opaque background: surfaces over a transparent one are mixed with the page and turn pale
  const paint = () => {
    const rgb = getComputedStyle(place).backgroundColor.match(/\d+/g).slice(0, 3).map(Number);
    viewer.setBackgroundColor(rgb.reduce((number, part) => 256 * number + part, 0), 1);
    viewer.render();
  };
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  paint();

  // orbitals change sign and are seen from 0.01 to 0.2; densities reach farther out
  const range = (field) => field.endsWith("density") ? [0.001, 0.3] : [0.005, 0.25];
  const start = (field) => field === "density" ? 0.05 : field === "spin_density" ? 0.005 : 0.05;
  const toIso = (field, position) => {
    const [low, high] = range(field);
    return low * (high / low) ** (position / 100);
  };
  const toPosition = (field, iso) => {
    const [low, high] = range(field);
    return 100 * Math.log(iso / low) / Math.log(high / low);
  };

  // the reverse of volumes.pack: bytes in two planes, differences, cube roots
  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const planes = new Uint8Array(await new Response(stream).arrayBuffer());
    const n = planes.length / 2, data = new Float32Array(n);
    for (let i = 0, step = 0; i < n; i++) {
      step += ((planes[i] | (planes[n + i] << 8)) << 16) >> 16;
      data[i] = clip * (step / levels) ** 3;
    }
    return data;
  }

  async function volume(field) {
    const scene = state.scene;
    if (!state.volumes[field]) {
      const v = new window.$3Dmol.VolumeData("", "none");
      const [nx, ny, nz] = scene.shape, [x, y, z] = scene.origin, d = scene.spacing;
      Object.assign(v, { size: { x: nx, y: ny, z: nz }, data: await unpack(scene.fields[field]) });
      if (scene.steps) {  // points along the vectors of a cell
        const [a, b, c] = scene.steps;
        v.matrix = new window.$3Dmol.Matrix4(
          a[0], b[0], c[0], x, a[1], b[1], c[1], y, a[2], b[2], c[2], z, 0, 0, 0, 1);
        Object.assign(v, { unit: { x: 1, y: 1, z: 1 }, origin: { x: 0, y: 0, z: 0 } });
      } else {
        Object.assign(v, { unit: { x: d, y: d, z: d }, origin: { x: x, y: y, z: z } });
      }
      if (state.scene === scene) state.volumes[field] = v;
      return v;
    }
    return state.volumes[field];
  }

  // the cells that are shown; of a layer only the parallelogram
  function outline() {
    const { cell, repeats, layer, middle } = state.scene;
    if (!cell) return;
    const [n1, n2, n3] = repeats;
    const at = (...n) => [0, 1, 2].map(
      (k) => n.reduce((sum, times, row) => sum + times * cell[row][k], middle[k]));
    const line = (from, to) => {
      const [start, end] = [from, to].map(([x, y, z]) => ({ x, y, z }));
      viewer.addCylinder({ start, end, radius: 0.02, color: "#808080" });
    };
    for (let i = 0; i <= n1; i++) {
      for (let j = 0; j <= n2; j++) {
        for (let k = 0; k <= (layer ? 0 : n3); k++) {
          if (i < n1) line(at(i, j, k), at(i + 1, j, k));
          if (j < n2) line(at(i, j, k), at(i, j + 1, k));
          if (!layer && k < n3) line(at(i, j, k), at(i, j, k + 1));
        }
      }
    }
  }

  async function draw() {
    const { field, scene } = state;
    slider.disabled = field === "molecule";
    element("iso-value").textContent = "";
    if (field === "molecule") {
      viewer.removeAllShapes();
      outline();
      viewer.render();
      legend.textContent = "Atoms and bonds; bonds are drawn by distance.";
      return;
    }
    const v = await volume(field);
    if (state.field !== field || state.scene !== scene) return;  // something else was asked for
    const iso = state.iso[field];
    viewer.removeAllShapes();
    outline();
    const surface = (isoval, color) => {
      const inside = (x) => isoval > 0 ? x > isoval : x < isoval;
      if (!v.data.some(inside) || v.data.every(inside)) return;  // nothing to draw is an error there
      viewer.addIsosurface(v, { isoval, color, opacity: 0.75, smoothness: 3 });
    };
    surface(iso, POSITIVE);
    if (field !== "density") surface(-iso, NEGATIVE);
    viewer.render();
    element("iso-value").textContent = iso.toPrecision(2);
    const unit = field.endsWith("density") ? "electrons per cubic bohr" : "atomic units";
    const signs = {
      density: "blue: where the electrons are",
      spin_density: "blue: more α, orange: more β",
    }[field] || "blue and orange: the two signs; which is which has no meaning";
    legend.textContent = `${nameOf(field)} at ±${iso.toPrecision(2)} ${unit}; ${signs}.`
      .replace("±", field === "density" ? "" : "±");
  }

  function choose(field) {
    state.field = field;
    for (const button of fields.children) {
      button.setAttribute("aria-pressed", String(button.dataset.field === field));
    }
    if (field !== "molecule") {
      state.iso[field] ??= start(field);
      slider.value = toPosition(field, state.iso[field]);
    }
    return draw();
  }

  function atomNames() {
    viewer.removeAllLabels();
    if (element("names").checked) {
      state.scene.symbols.forEach((symbol, k) => {
        const [x, y, z] = state.scene.xyz[k];
        viewer.addLabel(symbol + (k + 1), {
          position: { x, y, z }, fontSize: 13, fontColor: "white", backgroundColor: "black",
          backgroundOpacity: 0.65, alignment: "center", inFront: true,
        });
      });
    }
    viewer.render();
  }

  // from where the molecule is widest, with room for its surfaces; the camera sees 20 degrees
  function look() {
    const { centre, radius, turn } = state.scene.view;
    const room = radius / Math.min(1, place.clientWidth / place.clientHeight);
    const away = 150 - room / Math.tan(Math.PI / 18);
    viewer.setView([...centre.map((x) => -x), away, ...turn]);
    viewer.render();
  }

  function open(index) {
    const scene = state.scene = scenes[index];
    state.volumes = {};
    viewer.removeAllShapes();
    viewer.removeAllModels();
    const lines = scene.symbols.map((symbol, k) => `${symbol} ${scene.xyz[k].join(" ")}`);
    viewer.addModel([scene.symbols.length, "", ...lines].join("\n"), "xyz");
    viewer.setStyle({}, { stick: { radius: 0.12 }, sphere: { scale: 0.25 } });
    atomNames();
    look();
    fields.replaceChildren(...["molecule", ...Object.keys(scene.fields)].map((field) => {
      const button = Object.assign(document.createElement("button"), { type: "button" });
      button.dataset.field = field;
      button.textContent = nameOf(field);
      button.addEventListener("click", () => choose(field));
      return button;
    }));
    const usual = scene.cell && state.field !== "molecule" ? "density" : "molecule";
    return choose(state.field in scene.fields ? state.field : usual);
  }

  // the wheel scrolls the page unless Ctrl is held
  place.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) event.stopPropagation();
  }, { capture: true });
  slider.addEventListener("input", () => {
    state.iso[state.field] = toIso(state.field, Number(slider.value));
    element("iso-value").textContent = state.iso[state.field].toPrecision(2);
  });
  slider.addEventListener("change", draw);
  element("names").addEventListener("change", atomNames);
  const zoom = (factor) => { viewer.zoom(factor); viewer.render(); };
  element("zoom-in").addEventListener("click", () => zoom(1.25));
  element("zoom-out").addEventListener("click", () => zoom(0.8));
  element("reset").addEventListener("click", look);
  const select = element("choose");
  scenes.forEach((scene, k) => select.add(new Option(scene.label, String(k))));
  element("choose-label").hidden = scenes.length < 2;
  select.addEventListener("change", () => open(Number(select.value)));

  // what is on the screen is also what is printed: a canvas may come out blank
  let print = null;
  window.addEventListener("beforeprint", () => {
    print = Object.assign(new Image(), { src: viewer.pngURI(), alt: "" });
    print.style.cssText = "position:absolute;inset:0;width:100%;height:100%;object-fit:contain";
    place.append(print);
  });
  window.addEventListener("afterprint", () => print?.remove());
  window.addEventListener("resize", () => viewer.resize());

  window.report = { viewer, choose, open, state };
  const first = ["homo", "homo_alpha", "density"].find((field) => field in scenes[0].fields);
  open(0).then(() => first && choose(first));
})();

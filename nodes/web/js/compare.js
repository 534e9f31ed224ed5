// The slider of Compare: before on the left of the line, after on the right. The node works without it.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";

const address = (image) => {
  const query = new URLSearchParams({ filename: image.filename, subfolder: image.subfolder, type: image.type });
  return api.apiURL(`/view?${query}`);
};

const slider = () => {
  const box = document.createElement("div");
  box.style.cssText = "position:relative;width:100%;height:100%;min-height:160px;cursor:ew-resize;overflow:hidden";
  const pictures = ["before", "after"].map((name) => {
    const picture = document.createElement("img");
    picture.alt = name;
    picture.draggable = false;
    picture.hidden = true; // until there is one: the page would draw a broken picture
    picture.style.cssText = "position:absolute;inset:0;width:100%;height:100%;object-fit:contain;user-select:none";
    box.append(picture);
    return picture;
  });
  const line = document.createElement("div");
  line.style.cssText = "position:absolute;top:0;bottom:0;width:2px;background:#ffd60a;pointer-events:none";
  box.append(line);
  const cut = (share) => {
    pictures[1].style.clipPath = `inset(0 0 0 ${100 * share}%)`;
    line.style.left = `${100 * share}%`;
  };
  box.addEventListener("pointermove", (event) => {
    const frame = box.getBoundingClientRect();
    cut(Math.min(1, Math.max(0, (event.clientX - frame.left) / frame.width)));
  });
  cut(0.5);
  const show = (pair) =>
    pair.forEach((image, index) => {
      pictures[index].src = address(image);
      pictures[index].hidden = false;
    });
  return { box, show };
};

app.registerExtension({
  name: "MirrorPPR.Compare",
  async nodeCreated(node) {
    if (node.comfyClass !== "MirrorPPR_Compare" || !node.addDOMWidget) return;
    const { box, show } = slider();
    node.addDOMWidget("slider", "mirrorppr_slider", box, { serialize: false });
    const before = node.onExecuted;
    node.onExecuted = function (message) {
      before?.apply(this, arguments);
      if (message?.mirrorppr_pair?.length === 2) show(message.mirrorppr_pair);
    };
  },
});

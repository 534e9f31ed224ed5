"""The real page in a real browser: a template opens, runs and shows its result, in both ways of drawing nodes.

Skipped where no Chromium is installed (on Debian: apt install chromium). Screenshots stay in .host/screenshots.
"""

import json
import shutil

import pytest
from host import PACK, ROOT

pytestmark = pytest.mark.host
sync_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SHOTS = ROOT / ".host" / "screenshots"
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
NAMES = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
PATIENCE_MS = 120_000  # a busy machine draws the page in minutes
# Not any graph: until the template is there, the page shows the host's own first workflow.
OPENED = "window.app?.graph?._nodes?.some((node) => node.type === 'MirrorPPR_SamplePortraits')"
EMPTY = "{nodes: [], links: [], last_node_id: 0, last_link_id: 0, version: 0.4}"
RUN = """() => new Promise((done) => {
  app.api.addEventListener("execution_success", () => done(""), { once: true });
  app.api.addEventListener("execution_error", (event) => done(JSON.stringify(event.detail)), { once: true });
  setTimeout(() => done("no answer in two minutes"), 120000);
  app.queuePrompt(0, 1);
})"""
DRAWN = """() => app.graph._nodes.map((node) => ({
  title: node.title, x: node.pos[0], y: node.pos[1] - 30, width: node.size[0], height: node.size[1] + 30,
}))"""
AS_ELEMENTS = """() => [...document.querySelectorAll("[data-node-id]")].map((one) => {
  const frame = one.getBoundingClientRect();
  return { title: one.dataset.nodeId, x: frame.x, y: frame.y, width: frame.width, height: frame.height };
})"""


@pytest.fixture(scope="module")
def page(host):
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt install chromium")
    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        page = browser.new_page(viewport={"width": 1900, "height": 1100})
        page.set_default_timeout(PATIENCE_MS)
        page.mistakes = []
        page.on("pageerror", lambda error: page.mistakes.append(str(error)))
        address = f"{host.url}/?template=retouch_from_exemplar&source={PACK}"
        page.goto(address, wait_until="domcontentloaded", timeout=PATIENCE_MS)
        page.wait_for_function(OPENED, timeout=PATIENCE_MS)
        page.wait_for_timeout(1500)
        page.keyboard.press("Escape")
        yield page
        browser.close()


def overlaps(frames: list[dict]) -> list[tuple[str, str]]:
    def apart(a: dict, b: dict) -> bool:
        beside = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
        return beside or a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"]

    pairs = [(a, b) for i, a in enumerate(frames) for b in frames[i + 1 :]]
    return [(a["title"], b["title"]) for a, b in pairs if not apart(a, b)]


def drawn_apart(page, how: str, count: int | None = None, polls: int = 30) -> list[dict]:
    """The frames, as soon as none covers another: a page draws some time after it has opened, a busy one late."""
    for _ in range(polls):
        frames = page.evaluate(how)
        if not overlaps(frames) and count in (None, len(frames)):
            break
        page.wait_for_timeout(500)
    return frames


def elements_apart(page, count: int) -> list[dict]:
    """The same as elements. Drawn while the machine is busy, the page may measure a node before its content is there,
    and not again: then it is asked to draw anew."""
    for _ in range(4):
        page.evaluate("(on) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", True)
        page.wait_for_function("(n) => document.querySelectorAll('[data-node-id]').length === n", arg=count)
        frames = drawn_apart(page, AS_ELEMENTS, count, polls=12)
        if not overlaps(frames):
            break
        page.evaluate("(on) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", False)
        page.wait_for_timeout(1500)
    return frames


def test_the_first_template_opens_by_a_link_runs_and_shows_its_result(page, host):
    assert not page.evaluate("() => app.graph._nodes.filter((node) => node.has_errors).length")
    assert page.evaluate(RUN) == ""
    page.wait_for_function("document.querySelectorAll('img[alt=after]').length > 0")
    page.wait_for_function("document.querySelector('img[alt=after]').naturalWidth === 640")
    page.screenshot(path=SHOTS / "first_template.png")
    assert not page.mistakes


def test_no_node_covers_another_after_the_run(page):
    assert not overlaps(drawn_apart(page, DRAWN))


def test_the_same_holds_where_nodes_are_drawn_as_elements(page):
    count = len(page.evaluate(DRAWN))
    frames = elements_apart(page, count)
    page.screenshot(path=SHOTS / "first_template_elements.png")
    assert len(frames) == count and not overlaps(frames)
    page.evaluate("() => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")


def test_a_saved_picture_dropped_on_the_page_brings_its_workflow_back(page, host):
    newest = max((host.base_dir / "output").glob("mirrorppr_*.png"), key=lambda path: path.stat().st_mtime_ns)
    page.evaluate(f"async () => {{ await app.loadGraphData({EMPTY}); }}")
    page.wait_for_function("app.graph._nodes.length === 0")
    page.evaluate(
        """async (bytes) => {
          const file = new File([new Uint8Array(bytes)], "result.png", { type: "image/png" });
          await app.handleFile(file);
        }""",
        list(newest.read_bytes()),
    )
    page.wait_for_function("app.graph._nodes.length > 5")
    kinds = set(page.evaluate("() => app.graph._nodes.map((node) => node.type)"))
    assert {"MirrorPPR_SamplePortraits", "MirrorPPR_Compare", "MirrorPPR_RetouchSampler"} <= kinds


def shown_as_elements(page, wanted: bool) -> None:
    page.evaluate("(on) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", wanted)


@pytest.mark.parametrize("name", NAMES)
def test_every_template_opens_whole_and_no_node_covers_another_in_either_way_of_drawing(page, name):
    address = f"/api/workflow_templates/{PACK}/{name}.json"
    opened = "async ([at, n]) => app.loadGraphData(await (await fetch(at)).json(), true, true, n)"
    page.evaluate(opened, [address, name])
    expected = json.loads((ROOT / "workflows" / f"{name}.json").read_text())["nodes"]
    page.wait_for_function("(n) => app.graph._nodes.length === n", arg=len(expected))
    page.keyboard.press("Escape")  # what it says about absent models
    unknown = page.evaluate("() => app.graph._nodes.filter((node) => !node.constructor.nodeData).map((n) => n.type)")
    assert set(unknown) <= {"MarkdownNote", "Note"}
    assert not overlaps(drawn_apart(page, DRAWN))
    frames = elements_apart(page, len(expected))
    page.screenshot(path=SHOTS / f"{name}_elements.png")
    shown_as_elements(page, False)
    assert not overlaps(frames)


def test_the_page_offers_the_blueprint_and_it_retouches(page, host):
    """From the library onto the canvas, connected to the drawn portraits, and run."""
    page.evaluate(f"async () => {{ await app.loadGraphData({EMPTY}); }}")
    toggle = "async () => { await app.extensionManager.command.execute('Workspace.ToggleSidebarTab.node-library'); }"
    page.evaluate(toggle)
    page.locator(".sidebar-content-container input").first.fill("Retouch by example")
    page.get_by_text("Retouch by example", exact=True).last.click()
    page.wait_for_timeout(500)
    page.mouse.click(1000, 600)
    page.wait_for_function("app.graph._nodes.length === 1")
    page.evaluate(toggle)
    described = page.evaluate(
        "() => { const n = app.graph._nodes[0]; return [n.inputs.map((i) => i.name), n.widgets.map((w) => w.value)]; }"
    )
    assert described == [["before", "after", "query", "strength", "face"], [1, "only"]]
    page.evaluate(
        """() => {
          const one = app.graph._nodes[0];
          const [samples, shown] = ["MirrorPPR_SamplePortraits", "PreviewImage"].map((kind) => {
            const node = LiteGraph.createNode(kind);
            app.graph.add(node);
            return node;
          });
          [0, 1, 2].forEach((slot) => samples.connect(slot, one, slot));
          one.connect(0, shown, 0);
        }"""
    )
    assert page.evaluate(RUN) == ""
    page.wait_for_timeout(1000)
    page.screenshot(path=SHOTS / "blueprint.png")
    pictures = page.evaluate("() => app.graph._nodes.find((n) => n.type === 'PreviewImage').imgs?.length ?? 0")
    assert pictures == 1


def test_a_page_in_chinese_names_our_nodes_and_their_inputs_in_chinese(page, host):
    def in_language(language: str, title: str, input_name: str) -> None:
        page.evaluate("(l) => app.extensionManager.setting.set('Comfy.Locale', l)", language)
        address = f"{host.url}/?template=retouch_from_exemplar&source={PACK}"
        page.goto(address, wait_until="domcontentloaded", timeout=PATIENCE_MS)
        page.wait_for_function(  # the template opens, and words of a language come, some time after the page
            """([title, name]) => {
              const node = window.app?.graph?._nodes?.find((one) => one.type === "MirrorPPR_RetouchSampler");
              return node?.title === title && (node.widgets[0].label ?? node.widgets[0].name) === name;
            }""",
            arg=[title, input_name],
            timeout=PATIENCE_MS,
        )

    in_language("zh", "修图采样器 (MirrorPPR)", "强度")
    page.screenshot(path=SHOTS / "chinese.png")
    in_language("en", "Retouch Sampler (MirrorPPR)", "strength")


@pytest.mark.parametrize("name", NAMES)
def test_every_template_has_a_thumbnail_a_read_me_and_says_whose_its_nodes_are(name):
    workflow = json.loads((ROOT / "workflows" / f"{name}.json").read_text())
    kinds = [node["type"] for node in workflow["nodes"]]
    assert "MarkdownNote" in kinds or "Note" in kinds, "no Read me"
    assert (ROOT / "workflows" / f"{name}.jpg").is_file(), "no thumbnail"
    for node in workflow["nodes"]:
        if node["type"].startswith("MirrorPPR"):
            assert node["properties"].get("cnr_id") == "mirrorppr"

"""The page in a browser: every view opened, clicked and read back; keyboard, themes, widths, and
rows that mean harm. Skipped where no Chromium is installed; .ci/run installs one."""

import os
import shutil
import threading

import pytest
from own_data import forget_own_tasks
from shown import HARM, LABELS, block_of, hostile_run, several_tasks

from data.tasks import TASKS
from multitask import Predictor, training
from multitask.inside.explain import explain
from multitask.inside.live import live_server
from multitask.inside.page import PageSettings, make_page
from multitask.runs.run import Run

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
SETTINGS = PageSettings(explain=6, steps=6)


@pytest.fixture(scope="module", autouse=True)
def registry():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "draw_run", lambda run: None)
        yield
    forget_own_tasks()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        # A container's own user is root, for whom Chromium has no sandbox.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def run(home):
    return several_tasks(home)


@pytest.fixture(scope="module")
def address(home, run):
    other = several_tasks(home, "other", lr=3e-3, tasks=("sst", "sts"), pair="cross")
    path = home / "page.html"
    path.write_text(make_page([run, other], SETTINGS), encoding="utf-8")
    return path.as_uri()


class Opened:
    """A page in the browser, and what it said."""

    def __init__(self, browser, address, **how):
        self.problems = []
        self.context = browser.new_context(**{"viewport": {"width": 1100, "height": 800}, **how})
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(20_000)
        self.tab.on("console", lambda message: self.problems.append(message.text))
        self.tab.on("pageerror", lambda error: self.problems.append(str(error)))
        self.asked = []
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(address)
        self.tab.wait_for_selector("html[data-ready]")

    def __enter__(self):
        return self

    def __exit__(self, kind, *rest):
        if kind is None:
            assert self.problems == []
        self.context.close()

    def texts(self, selector):
        return self.tab.locator(selector).all_inner_texts()


@pytest.fixture
def opened(browser, address):
    with Opened(browser, address) as page:
        yield page
        assert page.asked == [address], "it asks for nothing but itself"


@pytest.fixture(scope="module")
def told(home, address):
    return block_of((home / "page.html").read_text(encoding="utf-8"))[0]["runs"][0]


def test_scores_are_the_records(opened, run):
    record = Run(run).record()
    for task, scores in record["dev"].items():
        for metric, score in scores.items():
            cells = opened.texts(f"[data-score='{task} {metric}'] td")
            assert cells[2] == f"{score:.3f}"
            assert cells[-1] == f"{record['constant'][task][metric]:.3f}"
    assert opened.tab.locator(".interval").count() > 4
    assert opened.texts("h1") == ["several, other"]


def test_settings_that_differ_are_shown(opened):
    rows = opened.texts("#settings > .scroll tbody tr")
    found = {row.split("\t")[0]: row.split("\t")[1:] for row in rows}
    assert found["lr"] == ["0.01", "0.003"] and found["pair"] == ["concat", "cross"]
    assert "seed" not in found
    opened.tab.click("#settings summary")
    assert any(row.startswith("seed\t") for row in opened.texts("#settings details tbody tr"))


def test_curves_zoom(opened):
    assert opened.tab.locator("#curves svg").count() == 2
    opened.tab.fill("[data-key='zoom from']", "3")
    opened.tab.press("[data-key='zoom from']", "Enter")
    ticks = opened.tab.locator("#curves svg").first.locator("text").all_text_contents()
    assert "4" in ticks and "0" not in ticks and opened.tab.locator("#curves svg path").count() > 2
    opened.tab.click("text=All steps")
    assert opened.tab.input_value("[data-key='zoom from']") == ""
    opened.tab.locator("#curves svg").first.scroll_into_view_if_needed()
    box = opened.tab.locator("#curves svg").first.bounding_box()
    opened.tab.mouse.move(box["x"] + 80, box["y"] + 100)
    opened.tab.mouse.down()
    opened.tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
    opened.tab.mouse.up()
    assert opened.tab.input_value("[data-key='zoom to']") != ""


def test_each_cell_of_the_confusion_is_a_filter_of_the_rows(opened, run):
    confusion = Run(run).record()["analysis"]["sst"]["confusion"]
    shown = [int(text) for text in opened.texts("#confusion td button")]
    assert shown == [count for line in confusion for count in line]
    cell = max(range(25), key=shown.__getitem__)
    opened.tab.locator("#confusion td button").nth(cell).click()
    assert opened.texts("#table [role=status]") == [f"{shown[cell]} of 60 rows"]
    classes = TASKS["sst"].classes
    assert set(opened.texts("td.cell-label")) == {classes[cell // 5]}
    assert set(opened.texts("td.cell-answer")) == {classes[cell % 5]}
    # A second filter narrows it, and the first comes off again by its chip.
    opened.tab.locator("#length button.line").first.click()
    opened.tab.locator("#rows .chip").first.click()
    opened.tab.click("button:text-is('All rows')")
    assert opened.texts("#table [role=status]") == ["60 of 60 rows"]


def test_calibration_and_groups_add_up(opened, run):
    analysis = Run(run).record()["analysis"]["sst"]
    counts = [rows for rows, _, _ in analysis["calibration"] if rows]
    shown = opened.texts("#calibration .value")
    assert [int(text.split(" of ")[1]) for text in shown] == counts
    right = [good for rows, _, good in analysis["calibration"] if rows]
    assert [float(text.split("%")[0]) for text in shown] == pytest.approx(
        [100 * share for share in right], abs=0.06
    )
    assert f"{analysis['expected_calibration_error']:.3f}"[:4] in opened.texts("#calibration")[0]
    for kind in ("label", "length"):
        assert sum(int(text.split(" of ")[1]) for text in opened.texts(f"#{kind} .value")) == 60


def test_rows_are_sorted_searched_and_turned(opened, told):
    rows = told["tasks"]["sst"]["rows"]
    worst = max(
        (n for n in range(60) if rows["labels"][n] != rows["answers"][n]),
        key=lambda n: rows["chances"][rows["answers"][n]][n],
    )
    assert opened.texts("td.cell-text")[0].split("\n")[0] == rows["texts"][0][worst].strip()
    assert len(opened.texts("td.cell-text")) == 25
    opened.tab.click("[data-key='sort tokens']")
    lengths = [int(text) for text in opened.texts("td.cell-tokens")]
    assert lengths == sorted(rows["tokens"], reverse=True)[:25]
    assert opened.tab.get_attribute("th:has([data-key='sort tokens'])", "aria-sort") == "descending"
    opened.tab.click("[data-key=on]")
    assert int(opened.texts("td.cell-tokens")[0]) <= lengths[-1]
    word = rows["texts"][0][7].split()[0]
    opened.tab.fill("[data-key=search]", word.upper())
    expected = sum(word in text for text in rows["texts"][0])
    opened.tab.wait_for_selector(f"text={expected} of 60 rows")
    assert opened.tab.evaluate("document.activeElement.dataset.key") == "search"


def test_the_inside_of_a_row(opened, run, told):
    task = told["tasks"]["sst"]
    row = opened.tab.locator("tr:has(small)").first
    number = row.get_attribute("data-row")
    row.locator("button.text").click()
    opened.tab.wait_for_selector("section#sentence .inside")
    assert opened.tab.evaluate("document.activeElement.id") == "sentence-title"
    (expected,) = explain(run, [task["rows"]["texts"][0][int(number)]], task="sst", steps=6)
    chances = opened.tab.eval_on_selector_all(
        "#sentence [data-chance]", "all => all.map(x => +x.dataset.chance)"
    )
    assert chances == pytest.approx(expected.probabilities.tolist(), abs=1e-3)
    (sequence,) = expected.sequences

    def values():
        script = "all => all.map(x => +x.dataset.value)"
        return opened.tab.eval_on_selector_all("#sentence span.token[data-value]", script)

    assert values() == pytest.approx(sequence.integrated_gradients.tolist(), abs=1e-3)
    said = opened.texts("#sentence")[0].partition("the sum is off by ")[2].split()[0]
    assert float(said.rstrip(".")) == task["explained"][number]["error"]
    opened.tab.click("[data-key='method gradient']")
    assert values() == pytest.approx(sequence.gradient_x_input.tolist(), abs=1e-3)

    layers, heads, size, _ = sequence.attentions.shape
    assert opened.tab.locator("#sentence button.head").count() == layers * heads
    opened.tab.click("[data-key='head 1 1']")
    assert "Layer 2, head 2: entropy" in opened.texts("#sentence h4")[0]
    opened.tab.click("#sentence details:has(table.strongest) summary")
    for query, line in enumerate(opened.texts("table.strongest tr")):
        best = float(line.split("\t")[1].split()[-1])
        assert best == pytest.approx(sequence.attentions[1, 1, query].max(), abs=0.01)
    lines = opened.tab.locator("svg.lines line").count()
    opened.tab.click("[data-key=faded]")
    assert opened.tab.locator("svg.lines line").count() > lines
    opened.tab.click("[data-key=sorted]")
    names = opened.tab.eval_on_selector_all("button.head", "all => all.map(x => x.title)")
    entropies = [float(name.split()[-1]) for name in names]
    assert entropies == sorted(entropies)
    opened.tab.click("[data-key='token 0 1']")
    assert opened.tab.locator("svg.lines line").count() <= size
    assert len(opened.texts(".near li")) == 3
    assert opened.tab.locator("table.path tbody tr").count() == layers

    opened.tab.click("summary:has-text('As a table') >> nth=-1")
    shown = [line.split("\t")[1:] for line in opened.texts("[data-layer]")]
    for ours, theirs in zip(shown, expected.layer_probabilities, strict=True):
        assert [float(x) for x in ours] == pytest.approx(theirs.tolist(), abs=1e-3)
    opened.tab.locator(".near button").first.click()
    opened.tab.click("text=Close")
    assert opened.tab.locator("section#sentence").count() == 0


def test_a_row_without_its_inside_says_how_to_see_it(opened):
    opened.tab.click("tr:not(:has(small)) button.text")
    assert "minbert show RUN --live" in opened.texts("#sentence")[0]


def test_the_map_names_its_rows(opened, told):
    rows = told["tasks"]["sst"]["rows"]
    canvas = opened.tab.locator("canvas.map")
    box = canvas.bounding_box()
    x, y = (30 + rows["map"][0][4] / 1000 * 940, 620 - 30 - rows["map"][1][4] / 1000 * 560)
    scale = box["width"] / 1000
    canvas.hover(position={"x": x * scale, "y": y * scale})
    said = opened.texts("#map [role=status]")[0]
    assert "answer" in said and said.partition(" (")[0] in [t.strip() for t in rows["texts"][0]]
    opened.tab.click("[data-key='colour mistakes']")
    assert opened.texts("#map .legend li") == ["right", "wrong"]
    canvas.click(position={"x": x * scale, "y": y * scale})
    opened.tab.wait_for_selector("section#sentence")


def test_tasks_and_runs_are_chosen(opened, told):
    opened.tab.click("[data-key='task sts']")
    rows = told["tasks"]["sts"]["rows"]
    off = [abs(a - b) for a, b in zip(rows["labels"], rows["answers"], strict=True)]
    assert float(opened.texts("td.cell-wrong")[0]) == pytest.approx(max(off), abs=1e-3)
    assert opened.tab.locator("#deviation button").count() > 2
    opened.tab.locator("tr:has(small) button.text").first.click()
    headings = opened.texts("#sentence h3")
    assert "Attention, first text" in headings and "Attention, second text" in headings
    opened.tab.click("[data-key='run 1']")
    assert opened.tab.locator("section#sentence").count() == 0
    opened.tab.locator("tr:has(small) button.text").first.click()
    assert "Attention" in opened.texts("#sentence h3")
    assert opened.tab.locator("[data-key='task para']").count() == 0


def test_all_of_it_can_be_reached_by_keyboard(opened):
    seen = set()
    for _ in range(220):
        opened.tab.keyboard.press("Tab")
        key = opened.tab.evaluate(
            "(e => e.dataset.key ?? e.id ?? e.tagName)(document.activeElement)"
        )
        seen.add(key.split(" ")[0])
        if key.startswith("row "):
            opened.tab.keyboard.press("Enter")
            break
    opened.tab.wait_for_selector("section#sentence")
    assert seen >= {
        "theme",
        "zoom",
        "cell",
        "calibration",
        "label",
        "length",
        "colour",
        "search",
        "sort",
    }
    unnamed = opened.tab.evaluate(
        """[...document.querySelectorAll("button, input, canvas, svg[role=img], section")]
        .filter(e => !e.closest("[aria-hidden]") && e.getAttribute("aria-hidden") !== "true")
        .filter(e => ![e.ariaLabel, e.getAttribute("aria-labelledby"), e.textContent].join(""))
        .map(e => e.outerHTML.slice(0, 100))"""
    )
    assert unnamed == []


def contrast(first, second):
    def light(colour):
        channels = [int(x) / 255 for x in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(first), light(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_themes_and_a_narrow_screen(browser, address, theme):
    with Opened(
        browser, address, color_scheme=theme, viewport={"width": 400, "height": 800}
    ) as page:
        page.tab.locator("tr:has(small) button.text").first.click()
        page.tab.wait_for_selector("section#sentence .inside")
        assert page.tab.evaluate("document.documentElement.scrollWidth") <= 400
        table = "e => [e.scrollWidth - e.clientWidth, e.querySelectorAll('thead th').length]"
        assert page.tab.eval_on_selector("#table .scroll", table) == [0, 7]
        sizes = "all => [...new Set(all.map(e => getComputedStyle(e).fontSize))]"
        cells = "td.cell-label, td.cell-answer, td.cell-sure, td.cell-wrong"
        assert page.tab.eval_on_selector_all(cells, sizes) == ["12px"]
        style = "e => [getComputedStyle(e).color, getComputedStyle(document.body).backgroundColor]"
        for selector, least in (("p.note", 4.5), ("td.cell-text button", 7), ("nav a", 4.5)):
            assert contrast(*page.tab.eval_on_selector(selector, style)) >= least
        ground = page.tab.evaluate("getComputedStyle(document.body).backgroundColor")
        for _ in range(2):
            page.tab.click("#theme")
        other = page.tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == other) == (theme == "dark")


def test_hostile_rows_do_no_harm(browser, tmp_path):
    folder = hostile_run(tmp_path)
    path = tmp_path / "page.html"
    path.write_text(make_page([folder], SETTINGS), encoding="utf-8")
    with Opened(browser, path.as_uri()) as page:
        page.tab.hover("canvas.map")
        for button in page.tab.locator("#confusion td button").all()[:2]:
            button.click()
        if page.tab.locator("button:text-is('All rows')").count():
            page.tab.click("button:text-is('All rows')")
        for row in page.tab.locator("tr:has(small) button.text").all()[:3]:
            row.click()
            page.tab.locator("[data-key='token 0 1']").click()
        assert page.tab.evaluate("window.harmed") is None
        assert set(page.texts("td.cell-label")) <= set(LABELS)
        assert any(HARM in text for text in page.texts("td.cell-text"))
        assert page.tab.locator("main img, main script, main b, main iframe, td style").count() == 0
        assert page.texts("h1") == [folder.name]


def test_the_policy_lets_nothing_else_run(browser, address):
    """Were there a hole in the page, its policy would still refuse."""
    with Opened(browser, address) as page:
        page.tab.evaluate(
            """() => {
            const div = document.createElement("div");
            div.innerHTML = "<img src='http://127.0.0.1:9/x' onerror='window.harmed = true'>";
            document.body.append(div);
            const script = document.createElement("script");
            script.textContent = "window.harmed = true";
            document.body.append(script);
            return fetch("http://127.0.0.1:9/").catch(() => 0);
            }"""
        )
        page.tab.wait_for_timeout(200)
        assert page.tab.evaluate("window.harmed") is None
        assert any("Content Security Policy" in problem for problem in page.problems)
        page.problems.clear()


def test_the_live_page(browser, run):
    server = live_server([run, run], PageSettings(rows=10, explain=3, steps=4))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    predictor = Predictor(run)
    try:
        with Opened(browser, server.address) as page:

            def answered(do):
                before = page.tab.evaluate("+(document.documentElement.dataset.answered ?? 0)")
                do()
                page.tab.wait_for_selector(f"html[data-answered]:not([data-answered='{before}'])")
                page.tab.wait_for_selector("#live span.token[data-value]")  # attributions too

            def shown(task, run=0):
                return page.texts(f"[data-run='{run}'] [data-task={task}] strong")[0]

            answered(lambda: page.tab.locator("[data-key=first]").press_sequentially("bon superb"))
            (expected,) = predictor.predict("sst", ["bon superb"])
            assert shown("sst") == shown("sst", 1) == expected.label
            assert "asks for a second text" in page.texts("[data-run='0']")[0]
            page.tab.fill("[data-key=second]", "awful dot")
            page.tab.wait_for_selector("[data-task=sts]")
            (similar,) = predictor.predict("sts", [("bon superb", "awful dot")])
            assert float(shown("sts")) == pytest.approx(similar.value, abs=2e-3)
            assert page.tab.locator(".insides > div").count() == 2, "two runs side by side"

            page.tab.locator("#live [data-key='token 0 2']").first.click()
            answered(lambda: page.tab.locator("#live [data-key=mask]").first.click())
            tokens = page.texts(".insides > div:first-child button.token")
            assert tokens[2] == "[MASK]" and page.texts(".edits .chip") == ["token 3 masked ×"]
            page.tab.locator("#live [data-key='head 0 1']").first.click()
            answered(lambda: page.tab.locator("#live [data-key='blot head']").first.click())
            answered(lambda: page.tab.locator("#live [data-key='blot layer']").first.click())
            assert len(page.texts(".edits .chip")) == 3
            answered(lambda: page.tab.click("[data-key=undo]"))
            assert page.texts(".edits .chip") == []
            page.tab.locator("#live [data-key=swap]").first.click()
            answered(lambda: page.tab.locator("#live [data-key='token 0 1']").first.click())
            tokens = page.texts(".insides > div:first-child button.token")
            assert tokens[1:3] == ["superb", "bon"]

            page.tab.locator("#rows button.text").nth(4).click()
            page.tab.wait_for_selector("section#sentence .inside span.token[data-value]")
            page.tab.fill("[data-key=first]", "bon " * 20_000)
            page.tab.wait_for_selector("[role=alert]")
            assert "at most 65536" in page.texts("[role=alert]")[0]
            page.problems.clear()  # the browser notes that it was refused
    finally:
        server.shutdown()
        server.server_close()

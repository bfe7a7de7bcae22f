"""The page in a real browser: it draws without a complaint, answers, and fits a phone."""

import csv
import io
import json
import shutil

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROME = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROME and DRIVER),
        reason="no Chromium with its driver (Debian: chromium chromium-driver)",
    ),
]
# Below so many pixels a phone is at hand.
PHONE, DESK = 400, 1400


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROME
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, made):
    """Opens the page at a width, in the dark if need be, and waits until it is drawn."""

    def open_at(width, scheme="light"):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        browser.get((made / "report.html").as_uri())
        browser.execute_async_script(
            "const done = arguments[0];"
            "const ready = () => document.documentElement.dataset.ready;"
            "const wait = () => ready() ? done() : setTimeout(wait, 50);"
            "wait();"
        )
        return browser

    return open_at


def shapes(browser, figure):
    """The drawing of a chart, as the browser has it."""
    return browser.execute_script(
        "return document.querySelector(`#${arguments[0]} .chart svg`).outerHTML", figure
    )


def slide(browser, place):
    browser.execute_async_script(
        "const [place, done] = arguments, slider = document.getElementById('latent-dim');"
        "slider.value = place; slider.dispatchEvent(new Event('input', {bubbles: true}));"
        "setTimeout(done, 400);",
        place,
    )


def sentences(browser, section):
    """What is to be read in a section."""
    return browser.execute_script("return document.getElementById(arguments[0]).innerText", section)


def color(browser, name):
    script = "return getComputedStyle(document.body)[arguments[0]]"
    return [int(part) for part in browser.execute_script(script, name)[4:-1].split(",")[:3]]


def test_it_draws_every_chart_without_a_word_and_asks_for_nothing(opened):
    browser = opened(DESK)
    assert browser.get_log("browser") == []
    drawn, asked = browser.execute_script(
        "const paths = (chart) => chart.querySelectorAll('svg path').length;"
        "return [[...document.querySelectorAll('.chart')].map(paths),"
        " performance.getEntriesByType('resource').map((r) => r.name)"
        ".filter((n) => !n.startsWith('data:') && !n.startsWith('blob:'))]"
    )
    assert len(drawn) >= 7
    assert min(drawn) > 3
    assert asked == []


def test_the_slider_moves_the_map_the_curves_and_the_sentences(opened):
    browser = opened(DESK)
    figures = ("mask-map", "alignment-curve", "mask-gains", "by-class")
    before = {figure: shapes(browser, figure) for figure in figures}
    first = sentences(browser, "masks")
    slide(browser, 2)
    charts = json.loads(
        browser.execute_script("return document.getElementById('charts').textContent")
    )
    k = charts["dims"][2]
    for figure in figures:
        assert shapes(browser, figure) != before[figure], figure
    moved = sentences(browser, "masks")
    assert f"At K = {k}," in moved
    assert f"At K = {k}," not in first
    assert browser.find_element("id", "latent-dim-shown").text == str(k)
    assert moved.count("At K = ") == 1
    # The numbers that the map shows are those of its table at this K.
    table = charts["charts"]["mask-map"]["table"]
    gains = [100 * g for g, at in zip(table["test gain"], table["K"], strict=True) if at == k]
    shown = browser.execute_script(
        "return [...document.querySelectorAll('#mask-map .chart svg .mark-text text')]"
        ".map((t) => t.textContent)"
    )
    for gain in gains:
        assert f"{gain:+.1f}".replace("-", "−") in shown
    assert browser.get_log("browser") == []


def test_lines_are_switched_and_samples_chosen(opened):
    browser = opened(DESK)
    before = shapes(browser, "explained")
    browser.execute_async_script(
        "const done = arguments[0];"
        "const text = [...document.querySelectorAll('#explained svg text')]"
        ".find((t) => t.textContent === 'test samples');"
        "for (const kind of ['pointerdown', 'mousedown', 'pointerup', 'mouseup', 'click'])"
        " text.dispatchEvent(new MouseEvent(kind, {bubbles: true}));"
        "setTimeout(done, 400);"
    )
    after = shapes(browser, "explained")
    assert before.count('opacity="0"') < after.count('opacity="0"')
    before = shapes(browser, "mask-map")
    browser.execute_async_script(
        "const done = arguments[0], choice = document.querySelector('[data-signal=measured]');"
        "choice.value = 'training gain'; choice.dispatchEvent(new Event('change'));"
        "setTimeout(done, 400);"
    )
    assert shapes(browser, "mask-map") != before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_is_seen_in_the_dark(opened, scheme):
    browser = opened(PHONE, scheme)
    wide = browser.execute_script(
        "const drawn = [...document.querySelectorAll('.chart svg')];"
        "return [document.documentElement.scrollWidth,"
        " ...drawn.map((svg) => svg.getBoundingClientRect().right)]"
    )
    assert wide[0] <= PHONE
    assert max(wide[1:]) <= PHONE
    ink, paper = sum(color(browser, "color")), sum(color(browser, "backgroundColor"))
    assert (ink > paper + 300) if scheme == "dark" else (paper > ink + 300)


def test_figures_are_saved_as_drawings_and_tables(opened, tmp_path):
    browser = opened(DESK)
    browser.execute_script(
        "window.saved = {}; const make = URL.createObjectURL;"
        "URL.createObjectURL = (blob) => { blob.text().then((t) => { saved[blob.type] = t; });"
        " return make(blob); };"
        "HTMLAnchorElement.prototype.click = function () {};"
    )
    for figure in ("by-class", "examples"):
        files = browser.execute_async_script(
            "const [figure, done] = arguments; saved = {};"
            "for (const b of document.querySelectorAll(`#${figure} [data-save]`)) b.click();"
            "setTimeout(() => done(saved), 800);",
            figure,
        )
        assert files["image/svg+xml"].startswith("<svg")
        assert "currentColor" not in files["image/svg+xml"]
        rows = list(csv.DictReader(io.StringIO(files["text/csv"])))
        assert {row["class"] for row in rows} >= {'with "quotes", commas', "</script><b>bold"}
    assert [row["training samples"] for row in rows] == ["67", "67", "66"]


def test_it_is_printed_without_what_only_a_screen_has(opened):
    browser = opened(DESK, "dark")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    hidden, ink = browser.execute_script(
        "const shown = (name) => getComputedStyle(document.querySelector(name)).display;"
        "return [['#latent-dim', '.downloads', '.control'].map(shown),"
        " getComputedStyle(document.body).color]"
    )
    assert hidden == ["none"] * 3
    assert ink == "rgb(0, 0, 0)"

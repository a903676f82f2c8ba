"""The page of the report: all that it says is there, whatever the data says is text, and a browser shows it so."""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from tests.faults.project import Project
from tests.support.browser import browser
from yourbert.report.page.render import SHOWN_CHARACTERS, visible

pytestmark = pytest.mark.integration

RUNS = ("sst", "sts", "shared")
PAYLOADS = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</script><script>alert(1)</script>", "{{7*7}}",
    "{% raw %}", "<svg onload=alert(1)>", "javascript:alert(1)", "<a href=javascript:alert(1)>x</a>", "<!--", "]]>",
    "<iframe src=//x.example>", "<style>*{display:none}</style>", "'onmouseover='alert(1)", "&lt;b&gt;", "&amp;amp;",
    "<base href=//x.example>", "<meta http-equiv=refresh content=0>", "<form action=//x.example>",
    "<details open ontoggle=a>",
    "<math><mtext></mtext>", "<td></td></tr></table>", "</textarea>", "</title>", "</style>", "<plaintext>", "<xmp>",
    "`${alert(1)}`", "[x](javascript:alert(1))", "![x](http://x.example/a.png)", "|a|b|", "**bold**", "<b>bold</b>",
    "<body onload=alert(1)>", "<input autofocus onfocus=alert(1)>", "<video><source onerror=alert(1)></video>",
    "<audio src=x onerror=alert(1)>", "<object data=javascript:alert(1)>", "<embed src=javascript:alert(1)>",
    "<link rel=stylesheet href=//x.example>", "<marquee onstart=alert(1)>", "<keygen autofocus onfocus=alert(1)>",
    "<isindex type=image src=1 onerror=alert(1)>", "<svg><animate onbegin=alert(1)>", "<svg/onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>", "<a xlink:href=javascript:alert(1)>", "<template><script>1</script>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>", "<select><option></select>",
    "<table background=x>",
    "<img src=`x`onerror=alert(1)>", "<img/src/onerror=alert(1)>", "<<script>alert(1)//<</script>", "%3Cscript%3E",
    "&#60;script&#62;", "\\x3cscript\\x3e", "\\u003cscript\\u003e", "data:text/html,<script>alert(1)</script>",
    "vbscript:msgbox(1)", "<!ENTITY x SYSTEM 'file:///etc/passwd'>", "<?xml version='1.0'?>", "]]><script>1</script>",
    "{{constructor.constructor('alert(1)')()}}", "${7*7}", "#{7*7}", "<%= 7*7 %>",
]  # fmt: skip


class Parsed(HTMLParser):
    """The elements of a page, with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self) -> Counter[str]:
        return Counter(tag for tag, _ in self.elements)


def made(folder: Path, texts: list[str], marks: list[str]) -> str:
    """The page of a small project whose dev texts are these, in turn, and whose ids end in the marks."""
    project = Project(folder)
    params = yaml.safe_load(project.params.read_text())
    params |= {"seeds": [1], "precision": "fp32", "epochs": 1, "sequential": []}
    params["mixtures"] = {"shared": {"tasks": ["sst", "sts"], "sampling": "annealed"}}
    params["tasks"] = {name: {**params["tasks"][name], "epochs": None} for name in ("sst", "sts")}
    params["evaluate"] |= {"bootstrap_samples": 100}
    params["report"] |= {"permutations": 100}
    project.params.write_text(yaml.safe_dump(params, sort_keys=False))
    for name, width in (("ids-sst-dev.csv", 1), ("sts-dev.csv", 2)):
        path = project.corpus / name
        header, *rows = path.read_text().splitlines()
        lines = [header]
        for number in range(40):
            cells = [str(number), f"d{number}{marks[number % len(marks)]}"]
            cells += [f"{texts[(number + shift) % len(texts)]} {number}" for shift in range(width)]
            lines.append(
                "\t".join('"' + c.replace('"', '""') + '"' for c in [*cells, rows[number % 10].split("\t")[-1]])
            )
        path.write_text("\n".join(lines) + "\n")
    project.download()
    stages = [
        ("tokenize", "sst"),
        ("tokenize", "sts"),
        ("pretrain",),
        ("finetune", "sst", "1"),
        ("finetune", "sts", "1"),
    ]
    stages += [("finetune", "shared", "1"), *(("evaluate", run, "1") for run in RUNS), ("report",)]
    shutil.rmtree(project.folder / "build" / "models")
    for stage in stages:
        done = project.attempt(*stage)
        assert done.code == 0, done.said
    return (project.folder / "report" / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def plain_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("plain")
    made(place / "project", ["a fine film that is not bad", "a long text " * 30, "but it is good"], [""])
    return place / "project" / "report" / "index.html"


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hostile")
    half = len(PAYLOADS) // 2  # two in a text, so that each is among the rows shown
    texts = [" ".join(PAYLOADS[number::half]) for number in range(half)]
    made(place / "project", texts, ["<i>", '" onclick="x', "&amp;", "=1+1"])
    return place / "project" / "report" / "index.html"


def test_the_same_inputs_give_the_same_bytes_and_nothing_is_fetched(plain_page: Path) -> None:
    text = plain_page.read_text(encoding="utf-8")
    project = Project.__new__(Project)
    project.folder = plain_page.parents[1]
    assert project.attempt("report").code == 0 and plain_page.read_text(encoding="utf-8") == text
    assert len(text) < 5_000_000
    for tag, attributes in Parsed(text).elements:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href", "xlink:href", "action"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)


def test_its_policy_allows_its_own_script_and_nothing_else(plain_page: Path) -> None:
    text = plain_page.read_text(encoding="utf-8")
    script = text.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [a["content"] for tag, a in Parsed(text).elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None and policy.startswith("default-src 'none'") and f"script-src 'sha256-{digest}'" in policy
    assert Parsed(text).count()["script"] == 1


def test_every_part_is_there(plain_page: Path) -> None:
    parsed = Parsed(plain_page.read_text(encoding="utf-8"))
    for part in ("Dev scores", "Results by slice", "Highest-loss examples", "Multi-task transfer", "Cost", "Data"):
        assert part in parsed.text
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids)), "each is there once"
    wanted = {(a.get("href") or "")[1:] for tag, a in parsed.elements if tag == "a"}
    assert wanted <= set(ids), "every link leads somewhere"
    assert all(a.get("aria-label") for tag, a in parsed.elements if tag == "svg"), "a chart says what it shows"


def test_what_data_says_is_text(hostile_page: Path, plain_page: Path) -> None:
    """Every payload stands there as it is, and the page has the elements of a harmless one."""
    hostile, harmless = (Parsed(page.read_text(encoding="utf-8")) for page in (hostile_page, plain_page))
    for payload in PAYLOADS:
        assert payload in hostile.text, payload
    for tag in ("script", "img", "iframe", "style", "form", "base", "math", "meta", "title", "b", "plaintext", "xmp"):
        assert hostile.count()[tag] == harmless.count()[tag], tag
    assert not any(name.startswith("on") for _, attributes in hostile.elements for name in attributes)


def test_what_no_screen_shows_is_shown_as_its_number() -> None:
    assert visible("a\u202eb\u200b\0\tc\n") == "a⟨U+202E⟩b⟨U+200B⟩⟨U+0000⟩\tc\n"
    long = visible("x" * 1_000_000)
    assert len(long) < SHOWN_CHARACTERS + 100 and long.endswith("(truncated at 2,000 of 1,000,000 characters)")


def test_the_worst_rows_are_explained_word_by_word(plain_page: Path) -> None:
    """As many as `evaluate.num_explanations` says, of each task and model, each word with its share of the most."""
    parsed = Parsed(plain_page.read_text(encoding="utf-8"))
    marks = [attributes for tag, attributes in parsed.elements if tag == "mark"]
    assert len(marks) > 100 and {mark["class"] for mark in marks} == {"for", "against"}
    shares = [float((mark["style"] or "").removeprefix("--share: ")) for mark in marks]
    assert max(shares) == 1.0 and min(shares) >= 0.0
    assert parsed.text.count("attributions") >= 4 * 10 and "without random words" in parsed.text


def test_in_a_browser(plain_page: Path, hostile_page: Path) -> None:
    with browser(plain_page.as_uri()) as tab:
        tab.locator("details").first.evaluate("one => one.open = true")
        count = tab.locator("#count-sst")
        assert count.inner_text() == "60 of 60 rows"
        tab.select_option('[data-table="loss-sst"] select[name=run]', "shared")
        assert count.inner_text() == "30 of 60 rows"
        tab.fill('[data-table="loss-sst"] input', "No Text Says This")
        assert count.inner_text() == "0 of 60 rows" and not tab.locator("#loss-sst tbody tr:visible").count()
        for width in (1280, 768, 390):
            tab.set_viewport_size({"width": width, "height": 900})
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, "nothing makes the page wider"
        assert tab.complaints == []
    with browser(hostile_page.as_uri()) as tab:
        tab.locator("details").first.evaluate("one => one.open = true")
        assert tab.complaints == [] and "alert(1)" in tab.locator("#loss-sst").inner_text()

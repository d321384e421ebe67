"""The HTML of the page: what is hostile stays text, and what changes is live."""

import re
from html.parser import HTMLParser

import msgspec
import pytest
from jinja2 import UndefinedError

from supervisor.core.explain import Explanation, Input, Verdict
from supervisor.page.asking import Answered, Asked
from supervisor.page.curves import Curve, Curves
from supervisor.page.pages import Checkpoint
from supervisor.page.past import Mark
from supervisor.page.queue import JobReport
from supervisor.page.refused import Refused
from supervisor.page.rendering import PARTS, Rendering
from supervisor.page.static import addresses
from supervisor.page.trace import Points
from testkit.looks import (
    AT,
    a_boot,
    a_job,
    a_line,
    a_look,
    a_queue,
    a_report,
    a_run,
    a_sample,
    but,
)

MARK = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
HOSTILE = {
    "markup": MARK,
    "turned around": "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe \N{HEBREW LETTER ALEF}",
    "long": "n" * 64,
    "umlauts": "Größe läuft über: 5 €",
    "templates": "{{ 7 * 7 }}{% raw %}",
    "commands": "\x1b[2J\x07 gone \ud800",
}
UNSEEN = re.compile("[\\x00-\\x08\\x0b-\\x1f\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")
"""what commands a terminal, turns text around, or cannot be sent"""
ASKED = {"event": "", "run": "", "since": "", "before": ""}


@pytest.fixture(scope="module")
def rendering():
    return Rendering(addresses().__getitem__)


def a_hostile_look(text):
    """A home in which everything that anybody may have written is `text`."""
    run = a_run(text, id="drill-a", status="quarantined", reason=text, waits=text, trainer=text)
    done = a_run(text, id="drill-b", status="failed", reason=text)
    job = a_job(tenant=text, name=text, waits=(text,))
    return a_look(
        a_report(home=text, runs=(run, done), bounds=(text,), trouble=(text,), mode=text),
        lines=(a_line(1, text, run=text, reason=text), a_line(2, "run.died", reason=text)),
        queue=a_queue(job),
    )


def documents(rendering, text, who="act"):
    """Every document of the page, with that text wherever somebody may have written something."""
    look = a_hostile_look(text)
    line = look.lines[0] | {"evidence": {text: text}}
    explanation = Explanation(
        seq=1,
        time="2026-11-29T01:31:05.201Z",
        boot="b" * 32,
        old=text,
        new="light",
        rule=text,
        reason=text,
        next=text,
        inputs=(Input(name=text, value=text, note=text),),
        rules=(Verdict(rule=text, decides=True, why=text),),
        before=0,
    )
    job = JobReport(
        id="job-1",
        run="drill-a",
        here=True,
        tenant=text,
        name=text,
        trainer=text,
        priority="normal",
        status="FAILED",
        ended=False,
        progress=0.5,
        submitted_at=AT,
        started_at=None,
        finished_at=None,
        waits=(text,),
        metrics={text: text, "mase": 0.8, "baselines": {text: {text: [text]}}},
        error=text,
        attempts=((text, text),),
    )
    points = Points(x=(0.0, 1000.0), y=(1.0, 2.0))
    curve = Curve(name=text, points=points, last=2.0)
    asked = ASKED | {"run": text, "since": text}
    given = {
        "main.html": {"seen": text},
        "run.html": {
            "run": look.report.runs[0],
            "checkpoints": [Checkpoint(name=text, saved_at=AT)],
            "lines": [text],
            "position": 9,
            "curves": Curves(by="step", curves=(curve,), left_out=0, whole=True),
            "marks": (Mark(what="crash", at=AT, step=1000, seq=3, words=text),),
            "preview": True,
            "recording": True,
        },
        "job.html": {"job": job},
        "decisions.html": {"lines": look.lines, "asked": asked, "shown_max": 2},
        "decision.html": {"line": line, "explanation": explanation},
        "ledger.html": {},
        "goodput.html": {},
        "ask.html": {"asked": Asked("pin", text, text, {"mode": text})},
        "answer.html": {"answer": Answered(text, "refused", 7)},
    }
    found = {name: rendering.page(name, look, who, **values) for name, values in given.items()}
    found["decision.html of a line"] = rendering.page(
        "decision.html", look, who, line=line, explanation=None
    )
    found["entered.html"] = rendering.page("entered.html", None, "look")
    found["refused.html"] = rendering.page(
        "refused.html", None, "look", refused=Refused(404, text, text)
    )
    return found


class Elements(HTMLParser):
    """Every element of a document with its attributes, and its text."""

    def __init__(self, html):
        super().__init__()
        self.found, self.texts = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_is_text(rendering, kind):
    """Whatever somebody has called a run, there is no more of a document than without it."""
    tame = {name: shape(html) for name, html in documents(rendering, "Pong").items()}
    for name, html in documents(rendering, HOSTILE[kind]).items():
        assert shape(html) == tame[name], name
        assert not re.search(
            "[\\x00-\\x08\\x0b-\\x1f\\u202a-\\u202e\\u2066-\\u2069\\ud800]", html
        ), name


def shape(html):
    """The elements of a document with the names of their attributes."""
    return [(tag, sorted(attributes)) for tag, attributes in Elements(html).found]


def test_hostile_text_is_shown_and_not_left_out(rendering):
    """Somebody must be able to read what it is."""
    for name, html in documents(rendering, MARK).items():
        if name not in ("entered.html", "ledger.html", "goodput.html"):
            assert MARK in "".join(Elements(html).texts), name


def test_nothing_is_inline_and_nothing_comes_from_afar(rendering):
    """The content security policy needs no exception."""
    for name, html in documents(rendering, "Pong").items():
        for tag, attributes in Elements(html).found:
            assert tag != "style", name
            assert tag != "script" or "src" in attributes, name
            for attribute, value in attributes.items():
                assert attribute != "style", name
                assert not attribute.startswith("on"), (name, attribute)
                if attribute in ("src", "href", "action", "poster", "srcset"):
                    assert re.match(r"[/#](?!/)", value), (name, value)


def test_what_is_static_has_its_hash_in_its_address(rendering):
    """A browser may keep it for ever."""
    page = rendering.page("main.html", a_look(), "look")
    assert addresses()["page.css"] in page
    assert addresses()["page.js"] in page


def test_whoever_may_only_look_sees_no_button(rendering):
    """There is no form but that of the filter, and no way to ask for anything."""
    for name, html in documents(rendering, "Pong", who="look").items():
        if name == "ask.html":  # nobody is led there
            continue
        assert "/ask/" not in html, name
        assert 'method="post"' not in html, name


def test_whoever_may_act_has_the_buttons(rendering):
    """A pause is lifted where it is, a pin likewise."""
    calm = rendering.part("next", a_look(), "act").html
    assert "/ask/pause" in calm
    assert "/ask/resume" not in calm
    assert "/ask/pin?mode=medium" in calm
    goal = {"mode": "medium", "pinned": True, "pauses": ("person",), "paused": True}
    held = rendering.part("next", a_look(a_report(goal=goal)), "act").html
    assert "/ask/resume" in held
    assert "/ask/pause" not in held
    assert "/ask/unpin" in held
    assert "/ask/pin?" not in held


def test_a_missing_value_is_no_empty_page(rendering):
    """What a template asks for must be there."""
    with pytest.raises(UndefinedError):
        rendering.page("job.html", a_look(), "look")


@pytest.mark.parametrize("name", PARTS)
def test_what_changes_from_second_to_second_leaves_the_skeleton(rendering, name):
    """A second later only live texts differ, so nothing is fetched anew."""
    run = a_run(step=613_200, progress=0.3066, checkpoint_age_s=13.0, eta_s=1156.0, loss=0.2)
    one = a_look(
        a_report(boots=(a_boot(600.0),), runs=(a_run(), a_run("B"))),
        queue=a_queue(a_job(1), a_job(2)),
    )
    later = but(
        one, runs=(run, a_run("B")), mode_running_s=72_060.0, stable_s=72_060.0, uptime_s=108_001.0
    )
    later = msgspec.structs.replace(
        later, at=AT + 61, queue=a_queue(a_job(1, eta_s=540.0), a_job(2))
    )
    before, after = rendering.part(name, one, "act"), rendering.part(name, later, "act")
    assert before.skeleton == after.skeleton
    assert before.live.keys() == after.live.keys()
    for key, text in after.live.items():
        assert key.removesuffix("@value") in after.html
        assert isinstance(text, str)


def test_the_live_texts_are_those_of_show_state(rendering):
    """The stream sends what the page has."""
    live = rendering.part("runs", a_look(), "look").live
    assert live["runs.drill-Pong.reached"] == "612k (30.6 %)"
    assert live["runs.drill-Pong.progress@value"] == "0.306"


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("verdict", a_look(a_report(trouble=("damaged",)))),
        ("runs", a_look(a_report(runs=(a_run(), a_run("Breakout", status="done"))))),
        ("queue", a_look(queue=a_queue(a_job(1), a_job(2)))),
        ("machine", a_look(sample=a_sample(cpu_temperature_c=None))),
        ("decisions", a_look(lines=(a_line(3, "run.died"),))),
    ],
)
def test_what_is_built_otherwise_is_fetched_anew(rendering, name, other):
    """Another tone, another run, another line."""
    before = rendering.part(name, a_look(queue=a_queue(a_job())), "look")
    assert before.skeleton != rendering.part(name, other, "look").skeleton


def test_a_live_text_cannot_pass_for_markup(rendering):
    """A name that looks like a live text is none."""
    text = '</span><span data-live="runs.x">y</span>'
    look = a_look(a_report(runs=(a_run("P", status="queued", waits=text),)))
    part = rendering.part("runs", look, "look")
    assert "runs.x" not in part.live
    assert part.html.count('data-live="runs.x"') == 0


@pytest.mark.parametrize(
    ("look", "said"),
    [
        (a_look(a_report(runs=())), "There is no run yet"),
        (a_look(), "No jobs are taken in here"),
        (a_look(queue=a_queue()), "No job waits"),
        (a_look(sample=None), "Nothing of this machine has been sampled"),
        (a_look(sample=a_sample(gpus=())), "No GPU was seen here"),
        (a_look(lines=()), "Nothing was decided yet"),
        (a_look(cost_per_hour=None), "cost_per_hour"),
    ],
)
def test_what_is_empty_says_how_it_fills(rendering, look, said):
    """Nobody is left before an empty box."""
    assert said in rendering.page("main.html", look, "look")


def test_without_scripts_the_page_comes_anew(rendering):
    """Each minute; with scripts the stream brings what changes."""
    page = rendering.page("main.html", a_look(), "look")
    assert '<noscript><meta http-equiv="refresh" content="60"></noscript>' in page


def test_an_answer_that_waits_comes_anew(rendering):
    """And one that is there does not."""
    waits = rendering.page("answer.html", a_look(), "act", answer=Answered("not yet", "waits"))
    assert 'http-equiv="refresh" content="2"' in waits
    there = rendering.page("answer.html", a_look(), "act", answer=Answered("yes", "granted", 7))
    assert "http-equiv" not in there
    assert 'href="/decisions/7"' in there

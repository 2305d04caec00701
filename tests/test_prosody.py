"""Rhyme, metre and form are heard as a reader hears them, and a contract is held to its clauses."""

from __future__ import annotations

import builtins
import gzip
import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora import CORPORA, needs_corpora
from versecraft import forms, sounds
from versecraft.answers import FIXED_FORMS, Form
from versecraft.errors import MissingExtra, UnknownName
from versecraft.prosody import (
    check,
    detect_form,
    end_word,
    form_of,
    meter,
    rhyme,
    scheme,
    syllables,
)  # fmt: skip

pytest.importorskip("pronouncing", reason="needs the extra 'prosody'")

SONNET = """\
The ferry leaves its engine running late,
The deckhand throws a rope and lets it fall;
A man with someone's roses at the gate
Looks twice along the empty harbour wall.

He has the time she gave him on a card,
A jacket that was pressed for her to see;
The ticket clerk comes out into the yard
And offers him a seat and half his tea.

They talk about the weather and the fish,
How prices drop whenever it is fine,
And neither of them says what both might wish
While evening draws its shutter down the line.

He leaves the flowers standing in a pail.
The clerk has put a card on them: For sale."""

LIMERICK = """\
A plumber who lived in Dundee
Kept a trout in a cistern for free.
When the bill had come due
It was seen to by two,
And the trout had a share of the fee."""

TIDE = "The tide comes back for what it left behind"
LAMP = "I keep the lamp and do not draw the blind"
VILLANELLE = f"""\
{TIDE}
a rope, a shoe
{LAMP}

I walk the shore with nothing on my mind
as others do
{TIDE}

There is a kind of losing that is kind
a kind of view
{LAMP}

The nets are old, the bolts begin to grind
the gulls are few
{TIDE}

What has been let go slack will not rewind
the wind is new
{LAMP}

You said that there was nothing there to find
it may be true
{TIDE}
{LAMP}"""

BALLAD = """\
The miller sold his daughter's mare
to pay the bailiff's man,
and she went out at dead of night
as only daughters can.

She took the bridle from the hook,
she took the road to Leigh,
and what she told the bailiff's man
has not been told to me."""

BLANK = """\
The orchard has been quiet since the frost.
My father counts the boxes in the shed
and writes the number on a paper bag,
then turns it over, looking for a sum
that he had done in August on the back.
The dog gets up, lies down, gets up again.
A tractor that is no concern of ours
goes over Pelham Hill towards the town."""

FREE = """\
Nobody has opened the drawer
since the electrician.
It holds, still,
a fuse, four candles,
the instructions in Danish
for something we gave away.
You say we should.
The drawer agrees, I think, with me."""

HAIKU = """\
lift out of order
the caretaker carries up
somebody's tuba"""


def clause(report: Any, name: str) -> Any:
    return next(c for c in report.clauses if c.name == name)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("And counts the working mornings of the week.", "week"),
        ("“What is it?” asked the clerk—“a letter?”", "letter"),
        ("He went over-board", "board"),
        ("the light o’er", "o'er"),
        ("a blessèd café!", "cafe"),
        ("for the dogs’", "dogs"),
        ("* * *", ""),
        ("", ""),
    ],
)
def test_the_end_word_is_bare(line: str, word: str) -> None:
    assert end_word(line) == word


@pytest.mark.parametrize(
    ("a", "b", "grade"),
    [
        ("late", "gate", "perfect"),
        ("fall", "wall", "perfect"),
        ("eternity", "sea", "perfect"),  # a last syllable that verse may stress
        ("blow", "o'er-flow", "perfect"),
        ("lov'd", "beloved", "perfect"),
        ("poor", "more", "perfect"),  # kept apart by some speakers only
        ("love", "prove", "eye"),
        ("war", "far", "eye"),
        ("given", "heaven", "eye"),
        ("symmetry", "eye", "eye"),  # a last y that verse may stress, as poets have said it
        ("body", "sky", "none"),  # but not one beside the stress
        ("lost", "toss", "slant"),
        ("bell", "ball", "slant"),
        ("sing", "talking", "none"),  # -ing alone is no rhyme
        ("walking", "bringing", "none"),
        ("wanted", "ended", "none"),
        ("table", "window", "none"),
        ("", "wall", "none"),
        ("wall", "wall", "perfect"),
    ],
)
def test_rhyme_is_graded(a: str, b: str, grade: str) -> None:
    assert rhyme(a, b) == rhyme(b, a) == grade


def test_an_unknown_word_is_heard_by_its_ending() -> None:
    assert rhyme("the old Pabengmay", "a day") == "perfect"
    assert rhyme("unbeclouded", "crowded") in ("perfect", "eye")


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("The ferry leaves its engine running late,", 10),
        ("lift out of order", 5),
        ("fire", 1),
        ("Every heaven'd flower", 6),
        ("the unbeclouded", 5),
        ("", 0),
    ],
)
def test_syllables_are_counted_by_the_shortest_way_of_saying(line: str, count: int) -> None:
    assert abs(syllables(line) - count) <= (line == "Every heaven'd flower")


def test_a_scheme_has_a_group_for_each_stanza() -> None:
    assert scheme(SONNET) == "ABAB CDCD EFEF GG"
    assert scheme(LIMERICK) == "AABBA"
    assert scheme(BALLAD.split("\n\n")[0]) == "ABCB"
    assert scheme("") == ""


def test_half_rhymes_join_lonely_lines_of_rhymed_stanzas_only() -> None:
    assert scheme("the bell\na gate\nthe ball\nthe late") == "ABAB"
    assert scheme("the bell\na table\nthe ball\nthe window") == "ABCD"


@pytest.mark.parametrize(
    ("text", "foot", "pattern"),
    [
        (SONNET, "iambic", (5,)),
        (BLANK, "iambic", (5,)),
        (BALLAD, "iambic", (4, 3)),
        (LIMERICK, "anapestic", (3,)),
    ],
)
def test_metre_is_estimated(text: str, foot: str, pattern: tuple[int, ...]) -> None:
    found = meter(text)
    assert found is not None
    assert (found.foot, found.pattern, found.feet) == (foot, pattern, max(pattern))
    assert 0.6 <= found.agreement <= 1


@pytest.mark.parametrize("text", [FREE, HAIKU, "", "one line alone\nand another", "word " * 300])
def test_metre_is_none_where_the_evidence_is_not_enough(text: str) -> None:
    assert meter(text) is None


FORMS = [
    (SONNET, "shakespearean-sonnet"),
    (LIMERICK, "limerick"),
    (VILLANELLE, "villanelle"),
    (BALLAD, "ballad-stanza"),
    (BLANK, "blank-verse"),
    (FREE, "free-verse"),
    (HAIKU, "haiku"),
]


@pytest.mark.parametrize(("text", "name"), FORMS)
def test_a_form_is_found_and_its_clauses_hold(text: str, name: Any) -> None:
    assert detect_form(text) == name
    assert check(text, name).broken == ()


def test_a_heading_does_not_hide_a_form() -> None:
    assert detect_form(f"THE FERRY\n\n{SONNET}") == "shakespearean-sonnet"


def test_nothing_has_no_form_and_paragraphs_are_a_prose_poem() -> None:
    assert detect_form("") is None
    assert detect_form(f"{'The lorry reversed for an hour. ' * 6}\n\n{'It beeped. ' * 12}") == (
        "prose-poem"
    )


def test_a_broken_clause_says_what_was_asked_and_found_and_where() -> None:
    report = check(SONNET.replace("the wall", "x").rpartition("\n")[0], "shakespearean-sonnet")
    lines = clause(report, "lines")
    assert (lines.asked, lines.found, lines.holds) == ("14", "13", False)
    assert lines in report.broken
    assert clause(report, "scheme").holds is True
    off = SONNET.replace("tea", "bread").replace("fine", "cold").replace("fish", "tide")
    amiss = clause(check(off, "shakespearean-sonnet"), "scheme")
    assert {6, 8, 9, 10, 11, 12} <= set(amiss.lines)
    assert amiss.holds is False


def test_one_line_amiss_is_named_and_forgiven() -> None:
    report = check(SONNET.replace("half his tea", "half his bread"), "shakespearean-sonnet")
    assert clause(report, "scheme").holds is True
    assert clause(report, "scheme").lines == (6, 8)


def test_refrains_may_vary_by_a_word_but_must_return() -> None:
    varied = VILLANELLE.replace(
        "as others do\nThe tide comes back for", "as others do\nThe tide came back for"
    )
    assert clause(check(varied, "villanelle"), "refrain").holds is True
    gone = VILLANELLE
    for line in ("a dog", "the post", "an egg"):
        gone = gone.replace(LAMP, line, 1)
    refrain = clause(check(gone, "villanelle"), "refrain")
    assert refrain.holds is False
    assert refrain.lines


def test_a_triolet_a_pantoum_and_a_rondeau_are_known_by_what_returns() -> None:
    triolet = "A\nB\nc\nA\nd\ne\nA\nB".replace("A", "The bus is late again").replace("B", "so am I")
    assert detect_form(triolet) == "triolet"
    stanzas = [["one light is on", "the stair is wet", "a door has gone", "no key as yet"]]
    for n in range(3):
        _, b, _, d = stanzas[-1]
        stanzas.append([b, f"a coat on hook {n}", d, f"a book on shelf {n}"])
    pantoum = "\n\n".join("\n".join(stanza) for stanza in stanzas)
    assert detect_form(pantoum) == "pantoum"
    assert clause(check(pantoum, "pantoum"), "stanzas").holds is True


def test_terza_rima_is_chained() -> None:
    ends = "late fall gate wall card hall yard see hard tea me".split()
    lines = [f"and something of the {end}" for end in ends[:10]]
    text = "\n\n".join("\n".join(lines[n : n + 3]) for n in range(0, 10, 3))
    report = check(text, "terza-rima")
    assert detect_form(text) == "terza-rima"
    assert clause(report, "scheme").holds is True
    plain = "\n\n".join(
        f"a {a}\nthe table {n}\na {b}"
        for n, (a, b) in enumerate([("late", "gate"), ("fall", "wall"), ("card", "yard")])
    )
    assert clause(check(plain, "terza-rima"), "scheme").holds is False


def test_a_brief_s_own_figures_are_the_contract() -> None:
    form = Form(name="quatrains", lines=(4, 8), scheme="AABB", meter="none", feet=0)
    report = check(BALLAD, form)
    assert [c.name for c in report.clauses] == ["lines", "stanzas", "scheme"]
    assert [c.name for c in report.broken] == ["scheme"]
    kept = form.model_copy(update={"scheme": "ABCB", "meter": "iambic", "feet": 4})
    assert check(BALLAD, kept).broken == ()


def test_an_open_scheme_goes_on_and_unrhymed_verse_rhymes_here_and_there_only() -> None:
    form = Form(name="couplets", lines=(2, 20), scheme="AA", meter="none", feet=0)
    six = "late\ngate\nfall\nwall\ncard\nyard"
    assert check(six, form).broken == ()
    free = Form(name="free-verse", lines=(2, 20), scheme="none", meter="none", feet=0)
    assert [c.name for c in check(six, free).broken] == ["scheme"]
    assert check(six.replace("gate", "stone").replace("wall", "dog"), free).broken == ()
    assert clause(check(six, "blank-verse"), "scheme").holds is False


SAME = "the cold sea\nthe old sea\nthe blue sea\nthe grey sea\n\na sea\nno sea\none sea\nthat sea"


def test_a_word_is_no_rhyme_for_itself_except_now_and_then_or_in_a_refrain() -> None:
    eight: dict[str, Any] = {"name": "quatrains", "lines": (8, 8), "meter": "none", "feet": 0}
    for asked in ("ABAB CDCD", "ABAB", "AA"):
        report = check(SAME, Form(**eight, scheme=asked))
        assert clause(report, "scheme").lines == tuple(range(1, 9))
        assert clause(report, "scheme").holds is False
    assert clause(check(SAME, Form(**eight, scheme="A1A1A1A1")), "scheme").holds is True
    told = "it told me\nthe gate\nto hold me\nlate\n\na wall\na card\na fall\na yard"
    assert clause(check(told, Form(**eight, scheme="ABAB CDCD")), "scheme").lines == ()


def test_syllables_cannot_be_told_where_most_words_are_unknown() -> None:
    foreign = "雨が降る港の朝\n舟ひとつ\nかもめの声"
    assert clause(check(foreign, "haiku"), "syllables").holds is None
    assert detect_form(foreign) != "haiku"
    assert clause(check(HAIKU, "haiku"), "syllables").holds is True


def test_rhyme_in_another_language_cannot_be_told() -> None:
    words = "улица\nфонарь\nаптека\nсвет"
    assert clause(check(words, "quatrains"), "scheme").holds is None


@pytest.mark.parametrize("scheme", ["abcb", " ", "x1", "42", "R"])
def test_an_odd_scheme_is_read_as_well_as_it_can_be(scheme: str) -> None:
    form = Form(name="quatrains", lines=(9, 3), scheme=scheme, meter="none", feet=0)
    assert clause(check(BALLAD, form), "scheme").holds is True
    assert clause(check(BALLAD, form), "lines").holds is False


def test_an_unknown_form_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(UnknownName, match="villanelle"):
        check(SONNET, "sonet")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", [text for text, _ in FORMS])
def test_a_poem_keeps_the_form_that_is_made_of_it(text: str) -> None:
    form = form_of(text)
    assert check(text, form).broken == ()
    assert Form.read(form.text()) == form


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from(SONNET.split("\n")), max_size=7), max_size=6))
def test_any_text_keeps_the_form_that_is_made_of_it(stanzas: list[list[str]]) -> None:
    text = "\n\n".join("\n".join(stanza) for stanza in stanzas)
    form = form_of(text)
    broken = check(text, form).broken
    assert not broken or (form.scheme == "none" and [c.name for c in broken] == ["scheme"])
    assert len(scheme(text).replace(" ", "")) == len([x for x in text.split("\n") if x.strip()])


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_any_text_can_be_looked_at(text: str) -> None:
    meter(text), scheme(text), detect_form(text), syllables(text)
    for name in get_args(forms.FormName):
        check(text, name)


def test_each_form_has_a_contract_and_fixed_ones_settle_the_lines() -> None:
    assert set(forms.CONTRACTS) == set(get_args(forms.FormName))
    assert FIXED_FORMS["haiku"] == (range(3, 201, 3), False)
    assert FIXED_FORMS["villanelle"] == (range(19, 20), True)
    assert "quatrains" not in FIXED_FORMS


def test_a_report_shows_in_a_terminal_and_a_notebook() -> None:
    report = check(SONNET, "shakespearean-sonnet")
    assert report.report() == {
        "form": "shakespearean-sonnet", "lines": True, "scheme": True, "meter": True,
    }  # fmt: skip
    assert "14 of 14 lines" in " ".join(report._repr_html_().split())


@pytest.fixture
def _bare(monkeypatch: pytest.MonkeyPatch) -> Any:
    """As if the extra were not installed."""
    real = builtins.__import__

    def without(name: str, *args: Any, **more: Any) -> Any:
        if name == "pronouncing":
            raise ImportError(name)
        return real(name, *args, **more)

    caches = (sounds._dictionary, sounds.pronounced, sounds.sounds, sounds.graded, sounds._stresses)
    for cached in caches:
        cached.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    yield
    monkeypatch.undo()
    for cached in caches:
        cached.cache_clear()


@pytest.mark.usefixtures("_bare")
def test_without_the_extra_lines_stanzas_and_refrains_are_still_measured() -> None:
    form = Form(name="villanelle", lines=(19, 19), scheme="none", meter="none", feet=0)
    with pytest.raises(MissingExtra, match="prosody"):
        check(VILLANELLE, form)
    assert (
        check(
            "a\n\nb", Form(name="prose-poem", lines=(2, 2), scheme="none", meter="none", feet=0)
        ).broken
        == ()
    )
    for call in (rhyme, check):
        with pytest.raises(MissingExtra, match=r"versecraft\[prosody\]"):
            call(SONNET, "limerick")  # type: ignore[arg-type]


@pytest.mark.slow
@needs_corpora
def test_rhyme_and_sonnets_are_found_in_poems_whose_answers_are_known() -> None:
    with gzip.open(CORPORA / "prosody_gold.jsonl.gz", "rt", encoding="utf-8") as file:
        gold = [json.loads(line) for line in file]
    hit = false = missed = sonnets = found = 0
    for poem in gold[::3]:
        parts = poem["text"].split("\n\n")
        golds = poem.get("stanza_schemes") or []
        for part, letters in zip(parts, golds, strict=False) if len(parts) == len(golds) else ():
            lines = part.split("\n")
            if not letters or len(letters) != len(lines) or not 3 <= len(lines) <= 14:
                continue
            for n in range(len(lines) - 2):
                for m in (n + 1, n + 2):
                    if end_word(lines[n]) != end_word(lines[m]):
                        said = rhyme(lines[n], lines[m]) in ("perfect", "eye")
                        hit += said and letters[n] == letters[m]
                        false += said and letters[n] != letters[m]
                        missed += not said and letters[n] == letters[m]
            if "".join(letters) in ("ababcdcdefefgg", "abbaabbacdecde", "abbaabbacdcdcd"):
                sonnets += 1
                found += str(detect_form(part)).endswith("sonnet")
    assert hit / (hit + false) > 0.96
    assert hit / (hit + missed) > 0.88
    assert found / sonnets > 0.95


def test_the_last_words_of_a_sestina_return_also_in_another_order() -> None:
    words = "salt door lamp road hand wheel".split()
    stanzas = [words]
    for _ in range(5):
        stanzas.append([stanzas[-1][n - 1] for n in (6, 1, 5, 2, 4, 3)])
    lines = [[f"word {n} before the {w}" for n, w in enumerate(stanza)] for stanza in stanzas]
    text = "\n\n".join("\n".join(part) for part in (*lines, ["a", "b", "c"]))
    report = check(text, "sestina")
    assert detect_form(text) == "sestina"
    assert clause(report, "end words").found == "30 of 30 return, 30 in that order"
    turned = [lines[0], *(part[::-1] for part in lines[1:])]
    mixed = "\n\n".join("\n".join(part) for part in (*turned, ["a", "b", "c"]))
    assert clause(check(mixed, "sestina"), "end words").holds is True
    assert clause(check(mixed, "sestina"), "end words").lines
    assert clause(check(VILLANELLE * 2, "sestina"), "end words").holds is False

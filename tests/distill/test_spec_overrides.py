"""``--set KEY=VALUE``: its effect on a spec, and its error messages."""

import tomllib

import pytest
from test_spec import GOOD

from curation.errors import UserError
from distill.spec_overrides import MOST_OVERRIDES, override, parse_override
from distill.spec_source import LARGEST_SPEC
from distill.spec_text import SpecFile


def applied(text: str, *overrides: str) -> dict:
    return override(tomllib.loads(text), [parse_override(each) for each in overrides]).document


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a=3", {"a": 3}),
        ("a = [1, 2]", {"a": [1, 2]}),
        ("a={ x = 1 }", {"a": {"x": 1}}),
        ("a=word", {"a": "word"}),
        ("a=timm/mobilenet_v3.small-050", {"a": "timm/mobilenet_v3.small-050"}),
        ("a=2nd-try", {"a": "2nd-try"}),
        ("a=true", {"a": True}),
        ("a=True", {"a": "True"}),
        ("a=1e-3", {"a": 1e-3}),
        ('a="x = y"', {"a": "x = y"}),
        ("a=''", {"a": ""}),
        ("b.c=1", {"a": 0, "b": {"c": 1}}),
        ('b."c.d"=1', {"a": 0, "b": {"c.d": 1}}),
        ("s[1].e=9", {"a": 0, "s": [{"e": 1}, {"e": 9}]}),
        ("s.0.e=9", {"a": 0, "s": [{"e": 9}, {"e": 2}]}),
        ("s[0]={}", {"a": 0, "s": [{}, {"e": 2}]}),
        ("s=[]", {"a": 0, "s": []}),
        ("n.0=1", {"a": 0, "n": {"0": 1}}),
    ],
)
def test_a_value_is_set(given: str, expected: dict) -> None:
    text = "a = 0\n" + ("s = [{ e = 1 }, { e = 2 }]\n" if given.startswith("s") else "")
    assert applied(text, given) == expected


def test_the_document_that_was_given_is_left_as_it_was() -> None:
    document = {"s": [{"e": {"f": 1}}]}
    override(document, [parse_override("s[0].e.f=2")])
    assert document == {"s": [{"e": {"f": 1}}]}


def test_of_two_for_one_key_the_last_counts() -> None:
    assert applied("", "a.b=1", "a={ c = 2 }", "a.d=3") == {"a": {"c": 2, "d": 3}}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("train.seed", "no value; write KEY=VALUE, such as train.seed=3"),
        ("=3", "no key"),
        ("train..seed=3", "no key"),
        (".train=3", "no key"),
        ("'\x01'=3", "is not a TOML key"),
        ('"\\x"=3', "is not a TOML key"),
        ("train.seed=", "no value"),
        ("train.seed=1\nname=2", "it sets more than one key"),
        ("name=a b", "needs quotes inside those of the shell"),
        ("data.evaluate=[lfw]", "needs quotes inside those of the shell"),
        ("stage[1].epochs=2", "there is no stage[1]; the spec has 1"),
        ("stage[999999999].epochs=2", "there is no stage[999999999]"),
        ("stage.epochs=2", "give an index, such as stage[0].epochs"),
        ("name.x=2", 'name is "try", no table'),
        ("name[0]=2", 'name is "try", no table'),
        ("other[0]=2", "other is not an array of the spec"),
        ("train[0]=2", "train is not an array of the spec"),
        ("data[0]=2", "data is a table, not an array"),
        ("[0]=2", "a spec is a table"),
        ("a=\udcff", "it is not UTF-8"),
        ("a=" + "9" * 5000, "longer than"),
        ("a=" + "9" * 4000, "an integer of more than 64 bits"),
        ("name=" + "9" * 20, "(an integer of more than 64 bits, which TOML does not have)"),
        ("a=" + "[" * 4000, "nested too deeply"),
        (".".join("a" * 40) + "=1", "more than 32 parts"),
        ("train.seed=x", "train.seed: must be a whole number, got 'x'"),
        ("train.seeds=3", "train: unknown key 'seeds'; did you mean 'seed'"),
        ("stage[0].losses.arcface.margin=9", "stage 1: losses.arcface.margin: 9 is above"),
        ("stage={}", "stage: must be a list, such as [[stage]]"),
        ("stage=true", "stage: must be a list, such as [[stage]]"),
        ("generations.seeds={}", "generations.seeds: must be a list, such as [ ... ]"),
        ("stage[0]=[]", "stage 1: must be a table"),
        ("teacher.least_accuracy=nan", "teacher.least_accuracy: must be a finite number, got nan"),
        ("name=No", "is not a job name"),
        ("generations.seeds=[1,1]", "generations.seeds: [1, 1] has a duplicate"),
    ],
)
def test_an_error_in_one_names_it(given: str, words: str) -> None:
    with pytest.raises(UserError) as raised:
        SpecFile.parse(GOOD, "spec", ["data.train=drawn/train", given])
    message = str(raised.value)
    assert words in message
    assert len(message) < 600
    if given.isprintable():
        assert message.startswith(f"--set {given[:60]}")


def test_a_fault_outside_overrides_has_its_place_in_the_file() -> None:
    with pytest.raises(UserError, match=r"^spec:12:10: teacher.stage.epochs: .*got '1'"):
        SpecFile.parse(GOOD.replace("epochs = 1", 'epochs = "1"', 1), "spec", ["train.seed=1"])


def test_a_table_that_only_an_override_made_is_its_fault() -> None:
    text = GOOD.replace("[student]", "[generations]\nselect_on = []\n[student]")
    with pytest.raises(UserError, match=r"^--set teacher.stage.losses.angular.wait=1: "):
        SpecFile.parse(text, "spec", ["teacher.stage.losses.angular.wait=1"])


def test_only_the_text_matters_and_it_is_kept_verbatim() -> None:
    text = f"# a comment\n{GOOD}"
    spec = SpecFile.parse(text, "spec", ["name=other", "train.seed=3"])
    assert (spec.job.name, spec.job.train.seed) == ("other", 3)
    assert SpecFile.parse(spec.text).job == spec.job
    assert spec.written == text
    assert spec.overrides == ("name=other", "train.seed=3")
    assert SpecFile.parse(text).text == text, "without any, nothing of the text changes"


def test_too_many_and_too_much_are_refused() -> None:
    with pytest.raises(UserError, match="given 101 times"):
        SpecFile.parse(GOOD, "spec", ["train.seed=1"] * (MOST_OVERRIDES + 1))
    large = GOOD.replace("evaluate = [", "evaluate = [" + "".join(f"'{i}'," for i in range(9000)))
    assert len(large) < LARGEST_SPEC
    with pytest.raises(UserError, match="larger than 64 KiB with the overrides of --set"):
        SpecFile.parse(large, "spec", ["train.seed=1"])

"""The table [resources] of a job spec: what a job uses, and what does not affect its steps."""

import pytest

from curation.errors import UserError
from distill.pipeline.fit import ranks_of
from distill.resources import in_gigabytes, size_in_bytes
from distill.spec_text import parse_spec

SPEC = """
name = "x"
data = {{ train = "d/train" }}
student = {{ backbone = "mobilefacenet" }}
stage = [{{ epochs = 1, losses = {{ arcface = {{}} }} }}]
train = {{ {train} }}
[resources]
{resources}
"""


def spec(resources="", train=""):
    return parse_spec(SPEC.format(resources=resources, train=train), "s")


def test_sizes_are_written_as_people_write_them():
    asked = spec('memory = "16 GB"\ndisk = "1.5TiB"\nhours = 24').resources
    assert asked.memory_bytes == 16_000_000_000
    assert asked.disk_bytes == 3 * 2**39
    assert asked.seconds == 86400
    assert spec().resources.memory_bytes is None
    assert in_gigabytes(15_812_345_678) == "15.8 GB"
    assert in_gigabytes(2e12) == "2 TB"


NO_SIZES = ["16", "16 gb", "-1 GB", "1e3 GB", "1 KB", "0 GB", "99999 TB", "nan GB", "GB",
            "\u0661 GB", "1 GB ", "1  GB", "9" * 5000]  # fmt: skip


@pytest.mark.parametrize("text", NO_SIZES)
def test_an_invalid_size_is_refused(text):
    with pytest.raises(ValueError, match=r"size|range"):
        size_in_bytes(text)


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ('memory = "much"',
         "s:8:10: resources.memory: 'much' is not a size; write \"16 GB\" (units: MB, GB, TB, MiB, "
         "GiB, TiB)"),
        ("memory = 16", "s:8:10: resources.memory: must be a string, got 16"),
        ("gpus = -1", "s:8:8: resources.gpus: -1 is below 0"),
        ("gpus = 1.5", "s:8:8: resources.gpus: must be a whole number, got 1.5"),
        ("hours = 0", "s:8:9: resources.hours: must be above 0, got 0"),
        ('on_time = "fail"', "s:8:11: resources.on_time: needs hours; leave it out"),
        ('on_stall = "restart"',
         "s:8:12: resources.on_stall: needs stall_minutes; leave it out"),
        ("gpu = 2", "s:8:1: resources: unknown key 'gpu'"),
    ],
)  # fmt: skip
def test_each_mistake_is_a_line_with_its_place(resources, words):
    with pytest.raises(UserError) as error:
        spec(resources)
    assert str(error.value).startswith(words)


@pytest.mark.parametrize("word", ["--wrap=id", "a b", "a;b", "$(id)", "a\\nb", ""])
@pytest.mark.parametrize("key", ["partition", "account", "qos", "gres"])
def test_words_for_the_cluster_cannot_be_options_or_shell(key, word):
    with pytest.raises(UserError, match=f"resources.{key}"):
        spec(f'{key} = "{word}"')


def test_each_gpu_has_a_rank():
    assert ranks_of(spec("gpus = 3", "batch_size = 12")) == 3
    assert ranks_of(spec("gpus = 2\nnodes = 2")) == 4
    assert ranks_of(spec("gpus = 0", "ranks = 2")) == 2
    assert ranks_of(spec("gpus = 2", "ranks = 2")) == 2
    with pytest.raises(UserError, match=r"s:6:19: train.ranks: 4 is not the number of GPUs, .*= 2"):
        spec("gpus = 2", "ranks = 4")

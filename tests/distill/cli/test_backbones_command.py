"""`distill backbones`: our figures next to the papers', and the latency on this machine."""

import json
import subprocess
import sys

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from curation.errors import UserError
from distill.backbones import NETWORKS
from distill.cli import bundles, networks

app = typer.Typer()
networks.register(app)
bundles.register(app)  # with only one command, Typer would omit its name


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["backbones", *arguments])


def rows(*arguments: str) -> list[dict]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def test_every_registered_network_is_listed():
    assert {row["name"] for row in rows()} == set(NETWORKS)


def test_a_network_has_our_figures_and_the_papers():
    (row,) = rows("mobilefacenet")
    paper = row.pop("paper")
    assert row == {
        "name": "mobilefacenet",
        "family": "mobilefacenet",
        "params": 1003136,
        "madds": 220965376,
        "lfr_flops": 439820928,
        "size_mib": pytest.approx(3.83, abs=0.005),
        "embedding": 128,
        "input_size": [112, 112],
        "status": "exact",
    }
    assert "MobileFaceNets" in paper["source"]
    assert paper["figures"]["madds"] == {
        "printed": "130M",
        "value": 130e6,
        "difference": pytest.approx(0.70, abs=0.005),
        "reproducible": False,
    }


def test_the_table_marks_figures_missing_in_the_paper():
    output = run("mobilefacenet", "iresnet18").stdout
    assert "1.003" in output
    assert "0.99M" in output
    assert "!= 130M" in output
    assert "MAdds (conv + fc)" in " ".join(output.split())
    assert "timm/NAME" in output


def test_latency_is_measured_on_demand():
    (row,) = rows("mobilefacenet", "--latency")
    assert 0.5 < row["latency_ms"] < 2000
    assert "latency_ms" not in rows("mobilefacenet")[0]


def test_listing_all_networks_builds_none():
    script = "import sys; from distill.catalogue import catalogue; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert answer.stdout == b"False\n"


def test_a_timm_model_is_described_too():
    (row,) = rows("timm/mobilenetv3_small_050")
    assert row["family"] == "timm"
    assert row["paper"] is None


def test_an_unknown_name_is_refused_with_the_known_ones():
    assert isinstance(error := run("mobilfacenet").exception, UserError)
    assert "mobilefacenet" in str(error)

"""A budget is checked before anything is trained, and the message says what would fit."""

import pytest

from curation.errors import UserError
from distill.budget import Budget, check_budget, cost, fitting_networks

SIZE = (112, 112)


def test_a_network_within_its_budget_passes():
    check_budget(Budget(mflops=440, madds=221, size_mib=4, embedding=128),
                 "mobilefacenet", 128, SIZE, 1.0)  # fmt: skip


def test_no_limits_let_everything_pass():
    check_budget(Budget(), "iresnet200", 512, SIZE, 1.0)


def test_the_message_tells_the_excess_and_what_fits():
    with pytest.raises(UserError) as error:
        check_budget(Budget(mflops=400, size_mib=20), "mobilefacenet", 128, SIZE, 1.0)
    message = str(error.value)
    assert "mobilefacenet with 128 dimensions at 112x112 does not fit" in message
    assert "mflops 439.8 is 39.8 (10.0%) over 400" in message
    assert "size_mib" not in message
    assert "these fit, the largest first: " in message


def test_every_limit_that_is_broken_is_named():
    budget = Budget(mflops=1000, madds=500, size_mib=20, embedding=256)
    with pytest.raises(UserError, match=r"mflops .* madds .* size_mib .* embedding 512 is 256"):
        check_budget(budget, "iresnet18", 512, SIZE, 1.0)


def test_width_counts():
    budget = Budget(mflops=200)
    check_budget(budget, "mobilefacenet", 128, SIZE, 0.5)
    with pytest.raises(UserError):
        check_budget(budget, "mobilefacenet", 128, SIZE, 1.0)


def test_fitting_networks_come_largest_first():
    budget = Budget(mflops=1024, size_mib=20, embedding=512)
    fitting = fitting_networks(budget, 512, SIZE)
    costs = [cost(name, 512, SIZE, 1.0) for name in fitting]
    assert "vargfacenet" in fitting
    assert not any(budget.excess(spent) for spent in costs)
    assert min(spent["mflops"] for spent in costs) > 900


def test_if_nothing_fits_the_message_says_so():
    with pytest.raises(UserError, match=r"no registered network fits.*width"):
        check_budget(Budget(mflops=0.001), "mobilefacenet", 128, SIZE, 1.0)

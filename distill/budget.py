"""Limits on the cost of a student, checked before anything is trained.

``{ mflops = 1024, size_mib = 20, embedding = 512 }`` are the limits of the Lightweight Face
Recognition challenge of 2019. VarGFaceNet, a participant, has 1,022.9 million operations by the
challenge's counter and 19.83 MiB.
"""

from math import prod
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from curation.errors import UserError
from distill.catalogue import catalogue, counted
from distill.spec_errors import SpecError

SUGGESTIONS = 5
DIGITS = {"mflops": 1, "madds": 1, "size_mib": 2, "embedding": 0}


Limit = Annotated[float, Field(gt=0, le=1e9)]


class Budget(BaseModel):
    """The maximum cost of a student; None is no limit.

    ``mflops`` are millions of operations by the LFR counter, ``madds`` millions of
    multiply-additions, ``size_mib`` the float32 weights in MiB, ``embedding`` dimensions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    mflops: Limit | None = None
    madds: Limit | None = None
    size_mib: Limit | None = None
    embedding: int | None = Field(default=None, ge=1, le=8192)

    def excess(self, spent: dict[str, float]) -> dict[str, float]:
        """By how much ``spent`` (see `cost`) exceeds each limit; empty if it fits."""
        limits: dict[str, Any] = self.model_dump(exclude_none=True)
        return {name: spent[name] - limit for name, limit in limits.items() if spent[name] > limit}


def cost(name: str, embedding: int, input_size: tuple[int, int], width: float) -> dict[str, float]:
    """The cost of a registered network, by the names of `Budget`."""
    row = counted(name, embedding, input_size, width)
    return {
        "mflops": row["lfr_flops"] / 1e6,
        "madds": row["madds"] / 1e6,
        "size_mib": row["size_mib"],
        "embedding": embedding,
    }


def check_budget(
    budget: Budget, name: str, embedding: int, input_size: tuple[int, int], width: float
) -> None:
    """Raise ``UserError`` if the network exceeds the budget: by how much, and what would fit."""
    spent = cost(name, embedding, input_size, width)
    excess = budget.excess(spent)
    if not excess:
        return
    faults = [
        f"{limit} {_number(limit, spent[limit])} is {_number(limit, over)} "
        f"({over / (spent[limit] - over):.1%}) over {spent[limit] - over:g}"
        for limit, over in excess.items()
    ]
    fitting = fitting_networks(budget, embedding, input_size)
    if fitting:
        advice = f"these fit, the largest first: {', '.join(fitting)}"
    else:
        advice = "no registered network fits; allow more, or set student.width below 1"
    raise SpecError(
        ("student", "budget"),
        f"{name} with {embedding} dimensions at {input_size[0]}x{input_size[1]} "
        f"does not fit: {', '.join(faults)}; {advice}",
    )


def fitting_networks(budget: Budget, embedding: int, input_size: tuple[int, int]) -> list[str]:
    """A few registered networks within ``budget`` at this embedding and input, largest first.

    Networks are tried in order of their operations at default settings, except those that are far
    too large by a rough estimate.
    """
    length = min(embedding, budget.embedding or embedding)
    fitting: list[str] = []
    for row in sorted(catalogue(), key=lambda row: -row["lfr_flops"]):
        if len(fitting) == SUGGESTIONS:
            break
        if not budget.excess(_half_of(row, input_size)) and _fits(
            budget, row["name"], length, input_size
        ):
            fitting.append(row["name"])
    return fitting


def _half_of(row: dict[str, Any], input_size: tuple[int, int]) -> dict[str, float]:
    """Half of a network's cost at default settings, with operations scaled to ``input_size``."""
    area = prod(input_size) / prod(row["input_size"])
    return {
        "mflops": row["lfr_flops"] / 1e6 * area / 2,
        "madds": row["madds"] / 1e6 * area / 2,
        "size_mib": row["size_mib"] / 2,
        "embedding": 1,
    }


def _fits(budget: Budget, name: str, embedding: int, input_size: tuple[int, int]) -> bool:
    try:
        return not budget.excess(cost(name, embedding, input_size, 1.0))
    except UserError:  # its strides do not divide this input size
        return False


def _number(limit: str, value: float) -> str:
    return f"{value:,.{DIGITS[limit]}f}"

"""What a loss requires of the data and the batch; without it the loss is constant.

A margin head cannot separate a single identity; a triplet needs two images of one person and one
of another. A loss that never gets these is constant and has no effect on the training.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Needs:
    """Minimum numbers of ``images`` in a rank's micro-batch and of ``identities`` in the data set.

    In the micro-batch of all ranks, ``positives`` means two images of one identity, ``negatives``
    an image of another identity as well, ``absent`` an identity without an image.
    """

    images: int = 1
    identities: int = 0
    positives: bool = False
    negatives: bool = False
    absent: bool = False


@dataclass(frozen=True)
class Supply:
    """What a training supplies to its losses in each step, in the terms of ``Needs``.

    ``images`` counts one rank's micro-batch, ``pooled`` the micro-batches of all ranks. ``met`` is
    the mean number of other ``pooled`` images of the same identity per image; ``present`` is the
    number of identities among them, if it is the same in every step.
    """

    images: int
    pooled: int
    identities: int
    met: float
    present: int | None = None


def lacking(needs: Needs, supply: Supply) -> str | None:
    """Why a loss with these needs can never have an effect; None if it can."""
    if supply.identities < needs.identities:
        return f"it needs {needs.identities:,} identities and data.train has {supply.identities:,}"
    if supply.images < needs.images:
        return (
            f"it relates at least {needs.images} images and gets {supply.images} at a time "
            "(train.batch_size / ranks / accumulate)"
        )
    if needs.positives and supply.met == 0:
        return "it needs two images of one identity, and no batch can contain them"
    if needs.negatives and supply.present == 1:
        return (
            f"it needs images of two identities and gets {supply.pooled} of one at a time "
            "(train.batch_size / accumulate, with sampler.images of each)"
        )
    if needs.absent and supply.present == supply.identities:
        return (
            f"its negatives are identities that are not in the batch, and each batch holds all "
            f"{supply.identities}"
        )
    return None


def seldom(needs: Needs, supply: Supply) -> str | None:
    """Why a loss with these needs has little effect; None if the supply is enough."""
    if needs.positives and supply.met < 1:
        return (
            f"among {supply.pooled} images at a time, an image has {supply.met:.2g} others of its "
            'identity on average; give the stage sampler = { kind = "pk", images = 4 }'
        )
    return None

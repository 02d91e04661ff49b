"""What a loss must find in the data and in a batch to be anything but constant.

A margin head has nothing to tell apart where there is one identity, a triplet needs two images of
one person and one of another. A loss that never finds these gives a constant, and the training
goes on as if it were not there.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Needs:
    """Least numbers: ``images`` of the micro-batch of one rank, ``identities`` of the data set.

    ``positives``: two images of one identity in the micro-batch of all ranks; ``negatives``: one of
    another identity beside them; ``absent``: an identity that is not in it.
    """

    images: int = 1
    identities: int = 1
    positives: bool = False
    negatives: bool = False
    absent: bool = False


@dataclass(frozen=True)
class Supply:
    """What a training gives its losses in each step, in the terms of ``Needs``.

    ``images`` are those of one rank's micro-batch, ``pooled`` those of all ranks' micro-batches;
    ``met`` is how many others of its identity an image of ``pooled`` has beside it on average, and
    ``present`` how many identities there are among them, where that is the same in every step.
    """

    images: int
    pooled: int
    identities: int
    met: float
    present: int | None = None


def lacking(needs: Needs, supply: Supply) -> str | None:
    """Why a loss with these needs can never do anything; None where it can."""
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
    """Why a loss with these needs does little; None where it has enough."""
    if needs.positives and supply.met < 1:
        return (
            f"among {supply.pooled} images at a time, an image has {supply.met:.2g} others of its "
            'identity on average; give the stage sampler = { kind = "pk", images = 4 }'
        )
    return None

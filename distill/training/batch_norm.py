"""Batch normalisation over the batch of all ranks, so that results do not depend on their number.

PyTorch implements it for GPUs (``nn.SyncBatchNorm``); this is the CPU version. Every rank has an
equal share of the batch. Source of the backward pass: Ioffe and Szegedy, 2015, section 3, with
means over the whole batch.
"""

import sys

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from curation.errors import UserError


def synchronise_batch_norm(network: nn.Module, device: torch.device) -> None:
    """Synchronise all batch normalisation in ``network``; names and parameters do not change.

    Raises ``UserError`` for a layer type that cannot be synchronised.
    """
    if device.type == "cuda":
        _convert_for_gpu(network)
        return
    kinds = _kinds()
    for name, module in network.named_modules():
        if type(module) in kinds:
            # In place, because other modules or hooks may refer to this module.
            module.__class__ = kinds[type(module)]
        elif isinstance(module, _BatchNorm):
            raise UserError(
                f"train.sync_batch_norm is true but {name} is a {type(module).__name__}, which "
                "cannot be synchronised on the CPU; allowed: false"
            )


class _Normalisation(torch.autograd.Function):
    """[B, C, ...] normalised by the means and variances over all ranks, scaled and shifted."""

    @staticmethod
    def forward(context, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float):  # type: ignore[no-untyped-def]
        mean, variance = _moments(x.float())
        context.save_for_backward(x, weight, mean, variance)
        context.epsilon = epsilon
        y = F.batch_norm(x, mean, variance, weight, bias, eps=epsilon)
        context.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(context, gradient: Tensor, *_: Tensor):  # type: ignore[no-untyped-def]
        x, weight, mean, variance = context.saved_tensors
        # The gradient with constant moments, then the terms from the derivatives of the moments.
        for_x, for_weight, for_bias = torch.ops.aten.native_batch_norm_backward(
            gradient.contiguous(memory_format=_layout(x)),
            x,
            weight,
            mean,
            variance,
            None,
            None,
            False,
            context.epsilon,
            (True, True, True),
        )
        sums = torch.stack([for_weight, for_bias])
        dist.all_reduce(sums)
        images = x.numel() // x.shape[1] * dist.get_world_size()
        of_weight, of_bias = sums / images
        inverse = (variance + context.epsilon).rsqrt()
        slope = weight * inverse.square() * of_weight
        offset = weight * inverse * of_bias - mean * slope
        shape = (1, -1) + (1,) * (x.ndim - 2)
        for_x -= torch.addcmul(offset.view(shape), x, slope.view(shape)).to(for_x.dtype)
        return for_x, for_weight, for_bias, None


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel over all ranks: Chan et al., 1979, Eq. 1.5."""
    # torch.var_mean gives the same result but takes twenty times as long.
    own = torch.stack(torch.batch_norm_update_stats(x, None, None, 0.0))
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    means, variances = torch.stack(parts, dim=1)
    mean = means.mean(0)
    return mean, variances.mean(0) + (means - mean).square().mean(0)


def _layout(x: Tensor) -> torch.memory_format:
    channels_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format


class _Synchronised(_BatchNorm):
    """Replaces the training forward pass; evaluation is inherited from the other base class."""

    def forward(self, x: Tensor) -> Tensor:
        return self.normalise(x) if self.training else super().forward(x)

    def normalise(self, x: Tensor) -> Tensor:
        """Normalise and update the running statistics."""
        usual, spread, momentum = self.running_mean, self.running_var, self.momentum
        assert usual is not None, "the networks here keep running statistics"
        assert spread is not None
        assert momentum is not None
        weight = self.weight if self.affine else torch.ones_like(usual)
        bias = self.bias if self.affine else torch.zeros_like(usual)
        y, mean, variance = _Normalisation.apply(x, weight, bias, self.eps)
        images = x.numel() // x.shape[1] * dist.get_world_size()
        with torch.no_grad():
            usual.lerp_(mean, momentum)
            spread.lerp_(variance * (images / (images - 1)), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        return y


class BatchNorm1d(_Synchronised, nn.BatchNorm1d):
    """``nn.BatchNorm1d`` over all ranks."""


class BatchNorm2d(_Synchronised, nn.BatchNorm2d):
    """``nn.BatchNorm2d`` over all ranks."""


def _kinds() -> dict[type[nn.Module], type[nn.Module]]:
    """Each batch normalisation class and its synchronised version."""
    kinds: dict[type[nn.Module], type[nn.Module]] = {
        nn.BatchNorm1d: BatchNorm1d,
        nn.BatchNorm2d: BatchNorm2d,
    }
    if "timm" in sys.modules:  # importing timm takes seconds, and without it nothing is timm's
        from timm.layers import BatchNormAct2d

        class BatchNormWithActivation(_Synchronised, BatchNormAct2d):
            act: nn.Module
            drop: nn.Module

            def normalise(self, x: Tensor) -> Tensor:
                return self.act(self.drop(super().normalise(x)))

        kinds[BatchNormAct2d] = BatchNormWithActivation
    return kinds


def _convert_for_gpu(network: nn.Module) -> None:
    if "timm" in sys.modules:
        from timm.layers import convert_sync_batchnorm

        convert_sync_batchnorm(network)
    else:
        nn.SyncBatchNorm.convert_sync_batchnorm(network)

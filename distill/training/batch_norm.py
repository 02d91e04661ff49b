"""Batch normalisation over the batch of all ranks, so that their number changes no result.

PyTorch has it for GPUs (``nn.SyncBatchNorm``); this is the same for the CPU. Every rank has an
equal share of the batch. Source of the backward pass: Ioffe and Szegedy, 2015, section 3, with
the means over the whole batch.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn


def synchronise_batch_norm(network: nn.Module, device: torch.device) -> nn.Module:
    """The network with synchronised batch normalisation; names and parameters stay."""
    if device.type == "cuda":
        return convert_sync_batchnorm(network)
    for module in network.modules():
        if type(module) in _SYNCHRONISED:
            # In place: a module may be known under several names, and hooks may hang on it.
            module.__class__ = _SYNCHRONISED[type(module)]
    return network


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
        # As if the moments were constants; then what follows from their own derivatives.
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
    axes = [axis for axis in range(x.ndim) if axis != 1]
    variance, mean = torch.var_mean(x, axes, correction=0)
    parts = torch.empty(dist.get_world_size() * 2, len(mean))
    dist.all_gather_into_tensor(parts, torch.stack([mean, variance]))
    means, variances = parts[0::2], parts[1::2]
    mean = means.mean(0)
    return mean, variances.mean(0) + (means - mean).square().mean(0)


def _layout(x: Tensor) -> torch.memory_format:
    channels_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format


class _Synchronised(nn.modules.batchnorm._BatchNorm):
    """Replaces the forward pass of training; evaluation is that of the class beside it."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        return self.normalise(x)

    def normalise(self, x: Tensor) -> Tensor:
        """Normalise, and move the running statistics."""
        y, mean, variance = _Normalisation.apply(x, self.weight, self.bias, self.eps)
        if self.track_running_stats:
            images = x.numel() // x.shape[1] * dist.get_world_size()
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * (images / (images - 1)), self.momentum)
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
        return y


class BatchNorm1d(_Synchronised, nn.BatchNorm1d):
    """``nn.BatchNorm1d`` over all ranks."""


class BatchNorm2d(_Synchronised, nn.BatchNorm2d):
    """``nn.BatchNorm2d`` over all ranks."""


class BatchNormWithActivation(_Synchronised, BatchNormAct2d):
    """timm's ``BatchNormAct2d`` over all ranks."""

    def normalise(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().normalise(x)))


_SYNCHRONISED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: BatchNorm1d,
    nn.BatchNorm2d: BatchNorm2d,
    BatchNormAct2d: BatchNormWithActivation,
}

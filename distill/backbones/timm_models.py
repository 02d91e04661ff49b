"""Any timm model as a student: ``timm/NAME``, its classifier replaced by an embedding."""

from torch import Tensor, nn

from curation.errors import UserError
from teachers.networks import Size, register_named_family


class TimmBackbone(nn.Module):
    """A timm network whose classifier gives the embedding, then batch normalisation."""

    after_global = ("normalise",)

    def __init__(self, name: str, embedding: int, input_size: Size) -> None:
        super().__init__()
        import timm

        if not timm.is_model(name):
            near = ", ".join(timm.list_models(f"*{name.split('.')[0][:6]}*")[:5]) or "none alike"
            raise UserError(f"backbone 'timm/{name}' is not a model of timm; alike: {near}")
        sized = {} if _any_size(name) else {"img_size": input_size}
        self.network = timm.create_model(name, pretrained=False, num_classes=embedding, **sized)
        self.normalise = nn.BatchNorm1d(embedding)

    def forward(self, x: Tensor) -> Tensor:
        return self.normalise(self.network(x))


def _any_size(name: str) -> bool:
    """Whether the network takes every input size as it is (transformers are built for one)."""
    from timm.models import get_pretrained_cfg

    settings = get_pretrained_cfg(name)
    return settings is None or not settings.fixed_input_size


@register_named_family("timm")
def timm_backbone(name: str, embedding: int, input_size: Size, width: float) -> nn.Module:
    """``timm/NAME``; timm's networks have widths of their own, so only 1.0 is taken here."""
    if width != 1.0:
        raise UserError(f"backbone 'timm/{name}' takes no width (got {width}); leave it out")
    return TimmBackbone(name, embedding, input_size)

"""Optional packages, and the extra that installs each."""

EXTRAS = {
    "deepspeed": "train",
    "fastapi": "train",
    "huggingface_hub": "train",
    "onnxscript": "train",
    "timm": "train",
    "torch": "train",
    "torchvision": "train",
    "uvicorn": "train",
    "faiss": "curate",
    "lmdb": "curate",
}


def install_hint(error: ModuleNotFoundError) -> str | None:
    """How to install a missing package of an extra; None for any other module."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    extra = EXTRAS[package]
    return f"this needs {package}, which is not installed: `pip install 'face-distill[{extra}]'`"

"""Where findings lie, and where they are kept when others take their place.

``NAME.findings`` holds those of the images as they are and of the teacher that looked last. A
folder of findings holds a person's decisions, so it is never overwritten: findings of other images
or by another teacher are kept beside it as ``NAME.findings.KEY``, and come back when the same
teacher looks at the same images again.
"""

import hashlib
from pathlib import Path

from curation.errors import UserError
from curation.files import locked, sync_folder
from curation.noise.decisions import DECISIONS_FILE
from curation.noise.findings import FINDINGS_FILE, FindingsMeta, read_meta
from curation.store import ImageSet


def findings_folder(images: ImageSet) -> Path:
    """``NAME.findings`` beside a store or view."""
    return images.path.with_name(f"{images.name}.findings")


def make_way(folder: Path, images: ImageSet, embeddings_digest: str) -> list[str]:
    """Have ``folder`` hold findings of these images by this teacher, or none.

    What is said about it, in sentences. Raises ``UserError`` where another process is writing
    findings there.
    """
    wanted = _key(images.digest, embeddings_digest)
    said = []
    if (folder / FINDINGS_FILE).exists():
        with locked(folder):
            meta = _meta_or_none(folder)
            key = "damaged" if meta is None else _key(meta.images_digest, meta.embeddings_digest)
            if key == wanted:
                return []
            aside = _free(folder, key)
            folder.rename(aside)
            sync_folder(folder.parent)
        said.append(_told(folder, aside, meta, images))
    earlier = folder.with_name(f"{folder.name}.{wanted}")
    if earlier.exists() and not folder.exists():
        earlier.rename(folder)
        sync_folder(folder.parent)
        said.append(f"the findings that this teacher made earlier are {folder} again")
    return said


def _key(images_digest: str, embeddings_digest: str) -> str:
    return hashlib.sha256(f"{images_digest} {embeddings_digest}".encode()).hexdigest()[:12]


def _meta_or_none(folder: Path) -> FindingsMeta | None:
    try:
        return read_meta(folder)
    except UserError:
        return None


def _free(folder: Path, key: str) -> Path:
    """A name that nothing has yet."""
    path, number = folder.with_name(f"{folder.name}.{key}"), 1
    while path.exists():
        number += 1
        path = folder.with_name(f"{folder.name}.{key}-{number}")
    return path


def _told(folder: Path, aside: Path, meta: FindingsMeta | None, images: ImageSet) -> str:
    if meta is None:
        return f"{folder / FINDINGS_FILE} was damaged; all that was beside it is kept in {aside}"
    if meta.images_digest != images.digest:
        return (
            f"{folder} was about what {images.path.name} held before; it is kept, with its "
            f"decisions, as {aside}"
        )
    return (
        f"{folder} was by another teacher; it is kept, with its decisions, as {aside} "
        f"(`curate clean ... --decisions {aside / DECISIONS_FILE}` carries them out)"
    )

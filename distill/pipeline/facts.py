"""Where a job and its bundle come from: data, initial network, seeds, spec and finished steps."""

from typing import Any

from curation.image_set import ImageSet
from distill.pipeline.beginning import OldNetwork
from distill.pipeline.provenance import CHANGED
from distill.pipeline.record import RunRecord
from distill.pipeline.training_images import digests, trained_on
from distill.provenance import read_provenance
from distill.run_directory import SPEC
from distill.spec import JobSpec
from distill.spec_source import read_spec


def facts(spec: JobSpec, images: ImageSet, old: OldNetwork | None) -> dict[str, Any]:
    """The training images, the seeds, and the network ``old`` that the student starts from."""
    found: dict[str, Any] = {"images": {"name": spec.data.name, "digest": images.digest}}
    if isinstance(spec.data.train, list):
        by_set = digests(spec.data, images)
        found["images"]["sets"] = [
            {**each.model_dump(), "digest": by_set[each.set]} for each in spec.data.sets
        ]
    if old is not None:
        assert spec.student is not None
        found["from"] = {"name": spec.student.source, "digest": old.digest}
    if seeds := spec.generations.seeds:
        return {**found, "seeds": seeds}
    return {**found, "seed": spec.train.seed}


def origin(spec: JobSpec, images: ImageSet, record: RunRecord) -> dict[str, Any]:
    """What a bundle tells of its job, without the author's paths, and what changed since."""
    facts: dict[str, Any] = {"data": trained_on(spec.data, images)}
    if (record.folder / SPEC).is_file():
        facts["spec"] = read_spec(record.folder / SPEC)
    provenance = read_provenance(record.folder)
    if provenance is None:
        return facts
    frozen = provenance.model_dump(mode="json", exclude={"file", "written"})
    changed = [each["text"] for each in record.warnings if each["key"] == CHANGED]
    return {**facts, "provenance": frozen | ({"changed": changed} if changed else {})}


def finished_steps(record: RunRecord) -> list[dict[str, Any]]:
    """Name and id of each step that was not skipped, in order."""
    steps = [step for step in record.steps if step.id and step.state != "skipped"]
    return [{"name": step.name, "id": step.id} for step in steps]

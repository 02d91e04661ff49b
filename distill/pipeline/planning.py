"""The steps of a job, and their names, before anything runs."""

from distill.run_directory import StepState
from distill.spec import JobSpec, StageSpec


def plan(spec: JobSpec, images: int = 0) -> list[StepState]:
    """The steps of a spec, all waiting; ``images`` is the size of its training set."""
    steps = []
    if spec.teacher is not None and spec.teacher.network is not None:
        assert spec.teacher.stage is not None
        steps.append(StepState("teach", "teach", images=spec.teacher.stage.epochs * images))
    if spec.student is not None:
        if guided(spec):
            steps.append(StepState("embed", "embed"))
        for generation in range(1, spec.generations.count + 1):
            steps += generation_steps(spec, generation, images)
    return [*steps, StepState("evaluate", "evaluate"), StepState("export", "export")]


def needs_teacher(stage: StageSpec) -> bool:
    """Whether one of its losses compares with the teacher."""
    return any(loss.needs_teacher for loss in stage.losses.values())


def guided(spec: JobSpec) -> bool:
    """Whether a stage of the student needs the teacher."""
    return any(needs_teacher(stage) for stage in spec.stage)


def generation_steps(spec: JobSpec, generation: int, images: int = 0) -> list[StepState]:
    """Every stage from every seed, and the choice among seeds if there are several."""
    steps = [
        StepState(stage_name(spec, generation, seed, stage), "distil", images=each.epochs * images)
        for seed in spec.seeds
        for stage, each in enumerate(spec.stage)
    ]
    if spec.generations.scored:
        steps.append(StepState(choice_name(generation), "choose"))
    return steps


def stage_name(spec: JobSpec, generation: int, seed: int, stage: int) -> str:
    """``generation 1 seed 0 stage 2``; omits the stage, and then the seed, if there is only one."""
    suffix = f" stage {stage + 1}" if len(spec.stage) > 1 else ""
    return f"{candidate_name(spec, generation, seed)}{suffix}"


def candidate_name(spec: JobSpec, generation: int, seed: int) -> str:
    """``generation 1 seed 0``; omits the seed if there is only one."""
    suffix = f" seed {seed}" if len(spec.seeds) > 1 else ""
    return f"generation {generation}{suffix}"


def choice_name(generation: int) -> str:
    """The step that compares the candidates of a generation."""
    return f"generation {generation} choice"

"""Cropping faces from photographs in confined processes, because neither photographs nor detectors
are trusted.

A small file can request gigabytes or minutes, or crash the library that reads it. Such a photograph
is set aside, and a new process continues with the next one.
"""

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from curation.errors import UserError
from curation.photographs.faces import CutFace, FaceSettings, JudgedFace
from curation.photographs.photograph import Photograph
from teachers.confined import KILLED, ConfinedWorker, allow
from teachers.detectors.detector import MOST_FACES, Detector
from teachers.onnx_files import check_it_may_be_onnx, size_of_weights

MEMORY = 2 << 30
"""Memory besides the detector's weights: a photograph of 64 megapixels several times"""
COPIES = 6
"""Copies of the weights in memory, as in ``teachers.foreign``"""
SECONDS = 60
"""CPU seconds per photograph"""
_AHEAD = 4
"""Photographs queued for each process"""
_CV2_LIMITS = "OPENCV_IO_MAX_IMAGE_PIXELS"
_Answer = Annotated[list[tuple[JudgedFace, int]], Field(max_length=MOST_FACES)]
"""Each face with the bytes of its file. More faces would not fit into a row of the progress."""


class FaceCutter:
    """Crops faces from photographs, several at a time; a context manager.

    ``digest`` identifies the detector. Raises ``UserError`` if the file is not a detector.
    """

    def __init__(
        self, detector: Path, settings: FaceSettings, processes: int | None = None
    ) -> None:
        check_it_may_be_onnx(detector)
        self.settings = settings
        self._detector = detector
        count = processes or len(os.sched_getaffinity(0))
        arguments = {"detector": str(detector), "settings": settings.model_dump(mode="json")}
        memory = MEMORY + COPIES * detector.stat().st_size
        self._workers = [
            ConfinedWorker("teachers.photographs:open_cutter", arguments, memory, SECONDS)
            for _ in range(count)
        ]
        self._idle: SimpleQueue[ConfinedWorker] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        found = self._try_detector()
        self.digest, self.kind = str(found["digest"]), str(found["kind"])

    def __enter__(self) -> "FaceCutter":
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers:
            worker.close()

    def cut(self, paths: Iterable[Path]) -> Iterator[Photograph]:
        """The faces of each photograph, in order."""
        threads = ThreadPoolExecutor(len(self._workers))
        waiting: deque[Future[Photograph]] = deque()
        try:
            for path in paths:
                waiting.append(threads.submit(self._cut_one, path))
                if len(waiting) > _AHEAD * len(self._workers):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            if waiting:  # stopped early: discard the work in progress
                self.__exit__()
            threads.shutdown()

    def _try_detector(self) -> Any:
        try:
            return self._workers[0].start()
        except UserError:
            self.__exit__()
            raise
        except MemoryError:
            reason = f"it takes more than {MEMORY / (1 << 30):g} GiB of memory beside its weights"
        except TimeoutError:
            reason = f"it takes more than {SECONDS} seconds"
        except ChildProcessError as error:
            reason = f"onnxruntime crashes on it ({error})"
        self.__exit__()
        raise UserError(f"{self._detector}: the detector does not run: {reason}")

    def _cut_one(self, path: Path) -> Photograph:
        worker = self._idle.get()
        try:
            faces, jpegs = worker.ask({"photograph": str(path)})
            return Photograph(_faces(faces, jpegs), None)
        except UserError as error:
            return Photograph([], str(error))
        except MemoryError:
            return Photograph([], "takes more memory than any photograph should")
        except TimeoutError:
            return Photograph([], f"takes more than {SECONDS} seconds")
        except ChildProcessError as error:
            if str(error) == KILLED:
                raise UserError(
                    f"the process that read {path} was killed by another process or for lack of "
                    f"memory; run the same command again to continue"
                ) from None
            return Photograph([], f"crashes the libraries that read it ({error})"[:300])
        finally:
            self._idle.put(worker)


def _faces(faces: Any, jpegs: bytes) -> list[CutFace]:
    """Validate the answer of a process, which may be anything."""
    try:
        read = TypeAdapter(_Answer).validate_json(json.dumps(faces))
    except ValidationError:
        raise ChildProcessError("its answer is not a list of faces") from None
    ends = [0]
    for _, size in read:
        ends.append(ends[-1] + size)
    if any(size < 0 for _, size in read) or ends[-1] != len(jpegs):
        raise ChildProcessError("its answer is not a list of faces")
    return [
        CutFace(face, jpegs[first:last])
        for (face, _), first, last in zip(read, ends, ends[1:], strict=False)
    ]


def open_cutter(
    detector: str, settings: dict[str, Any]
) -> tuple[Callable[..., tuple[Any, bytes]], Any]:
    """For ``ConfinedWorker``: a function that crops one photograph's faces, and the detector's
    description."""
    from curation.images import MAX_PIXELS

    os.environ[_CV2_LIMITS] = str(MAX_PIXELS)
    where = Path(detector)
    allow(MEMORY + COPIES * size_of_weights(where))
    opened = Detector(where)
    wanted = FaceSettings.model_validate(settings)

    def cut(photograph: str) -> tuple[Any, bytes]:
        return _cut(opened, wanted, Path(photograph))

    return cut, {"digest": opened.digest, "kind": opened.kind}


def _cut(detector: Detector, settings: FaceSettings, path: Path) -> tuple[Any, bytes]:
    import cv2

    from curation.files import UnreadableError, read_whole
    from curation.photographs.faces import cut_faces
    from curation.photographs.reading import MAX_PHOTOGRAPH_BYTES, read_photograph

    try:
        pixels = read_photograph(read_whole(path, MAX_PHOTOGRAPH_BYTES))
        found = detector.find(pixels, settings.score or detector.least_score)
        cut = cut_faces(pixels, found, settings, detector.refine)
    except UnreadableError as error:
        raise UserError(error.reason) from None
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from None
        raise UserError(f"cannot be cut: {str(error.err)[:100]}") from None
    faces = [(face.model_dump(), len(jpeg)) for face, jpeg in cut]
    return faces, b"".join(jpeg for _, jpeg in cut)

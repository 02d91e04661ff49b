# The two commands of README.md are `just demo` and `just test`; `just` lists the rest.

venv := justfile_directory() / ".venv"
bin := venv / "bin"
python := env("PYTHON", "python3")
# FAISS for the GPU if there is an NVIDIA driver, otherwise for the CPU.
faiss := if path_exists("/proc/driver/nvidia/version") == "true" { "gpu" } else { "cpu" }
# Without a GPU: `just torch_index=https://download.pytorch.org/whl/cpu setup` installs PyTorch's small CPU build.
torch_index := env("TORCH_INDEX", "")

workspace := env("DISTILL_WORKSPACE", "workspace")

# Recipes take their options as "$@", which keeps an option with spaces whole.
set positional-arguments

export PATH := bin + ":" + env("PATH")

_list:
    @just --list --unsorted

# Create the virtual environment in .venv, unless it is up to date
setup:
    #!/usr/bin/env bash
    set -euo pipefail
    stamp="{{ venv }}/.made-from"
    want="$(sha256sum pyproject.toml) {{ faiss }}"
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then exit 0; fi
    "{{ python }}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "error: {{ python }} is older than Python 3.11; choose another: PYTHON=python3.11 just setup" >&2
        exit 1
    }
    mkdir -p "{{ venv }}"
    log=.venv/setup.log
    install() {
        set -e
        [ -x "{{ bin }}/pip" ] || "{{ python }}" -m venv "{{ venv }}"
        pip=("{{ bin }}/python" -m pip install --disable-pip-version-check --progress-bar off)
        [ -z "{{ torch_index }}" ] || "${pip[@]}" --index-url "{{ torch_index }}" "torch>=2.13,<2.15" "torchvision>=0.28,<0.30"
        "${pip[@]}" -e ".[train,{{ faiss }},dev]"
    }
    echo "setting up .venv (2 to 4 minutes, once); its log is $log"
    set -m # pip gets its own process group, so that the trap can end all of it
    install > "$log" 2>&1 &
    set +m
    trap 'kill -- -$! 2> /dev/null; echo "interrupted; run the same command again to continue" >&2; exit 130' INT TERM
    # Progress: one line that is updated in a terminal, otherwise one line per minute.
    for ((second = 1; ; second++)); do
        sleep 1
        kill -0 $! 2> /dev/null || break
        doing="$(grep -aoE '(Collecting|Downloading|Building|Preparing|Installing) [^,;]{1,60}' "$log" | tail -n 1 || true)"
        if [ -t 1 ]; then printf '\r\033[K%s' "  $second s: ${doing:-making the environment}"
        elif ((second % 60 == 0)); then echo "  $((second / 60)) min: ${doing:-making the environment}"; fi
    done
    [ ! -t 1 ] || printf '\r\033[K'
    wait $! || {
        echo "error: .venv could not be set up; the last lines of $log are:" >&2
        tail -n 12 "$log" | sed 's/^/  /' >&2
        echo "fix the cause and run the same command again; it continues from there" >&2
        exit 1
    }
    printf '%s' "$want" > "$stamp"

# Run everything on the sample data set: draw, curate, teach, embed, distil, evaluate, export, pull
demo: setup
    curate recipe sample
    distill serve --background --web
    distill submit jobs/sample.toml --follow
    distill pull sample
    curate images sample/train "{{ workspace }}/examples" --identities 2 --each 2
    distill embed "{{ workspace }}/bundles/sample" "{{ workspace }}"/examples/*/*.jpg
    distill show sample
    @echo "the daemon runs until 'just stop'; this link shows the job in a browser:"
    @distill open sample --print

# Curate a data set by its recipe, e.g. `just curate ms1m --source /data/faces_emore`
curate recipe *options: setup
    curate recipe "$@"

# Score a network on sets, e.g. `just evaluate student ms1m/lfw`
evaluate model +sets: setup
    distill evaluate "$@"

# Start the daemon in the foreground
daemon: setup
    distill serve

# Stop the daemon (running jobs continue)
stop: setup
    distill stop

# On all cores. Tests of one file run in one process, because they share slow fixtures. Files run in
# their own order: sorted by number of tests, a few files that take minutes would come last.
parallel := "-n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder"

# Run the tests, except slow ones
test *options: setup
    python -m pytest {{ parallel }} "$@"

# Report the lines that the tests cover (not in other processes), without slow tests
coverage *options: setup
    python -m pytest {{ parallel }} --cov --cov-report=term:skip-covered "$@"

# Compare our record files with real MXNet's, in an environment of its own (Python 3.11)
test-mxnet *options: setup
    #!/usr/bin/env bash
    set -euo pipefail
    pins="$(python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["mxnet"])')"
    if [ "$(cat .venv-mxnet/.made-from 2>/dev/null)" != "$pins" ]; then
        echo "setting up .venv-mxnet (20 seconds, once)"
        "{{ python }}" -m venv --clear .venv-mxnet
        .venv-mxnet/bin/python -m pip install --quiet --disable-pip-version-check $pins
        printf '%s' "$pins" > .venv-mxnet/.made-from
    fi
    MXNET_PYTHON="$PWD/.venv-mxnet/bin/python" python -m pytest -m mxnet tests/mxnet "$@"

# Run jobs in a real Slurm with two emulated nodes; as root: apt-get install -y --no-install-recommends slurm-wlm munge
test-slurm *options: setup
    python -m pytest -m slurm tests/distill/daemon/test_executor_contract.py tests/distill/daemon/test_slurm.py \
        tests/distill/pipeline/test_job_in_slurm.py tests/test_tutorials.py "$@"

# Kill the daemon and its jobs at random: `just soak [ROUNDS] [SEED]`; 200 rounds take ten minutes
soak *options: setup
    python -m tests.soak "$@"

# Compare the GPU's results with the CPU's, on a machine with a GPU
test-gpu *options: setup
    python -m pytest -m gpu tests/distill/test_on_gpu.py "$@"

# Give every file reader broken inputs, 100,000 in all: READER..., --inputs, --seed, --json
fuzz *options: setup
    python -m tests.fuzz "$@"

# Run all tests except those in Slurm
test-all *options: setup
    python -m pytest {{ parallel }} -m "not slurm" "$@"

# Time a training step on the CPU, with each optimisation
bench-train-step: setup
    python tests/benchmarks/train_step.py

# Time averaged weights (`ema`) in a training step on the CPU
bench-averaging: setup
    python tests/benchmarks/averaging.py

# Time every student: training steps in both memory layouts, inference plain and folded
bench-backbones *names: setup
    python tests/benchmarks/backbones.py "$@"

# Write distill/catalogue.json and the chart and table of docs/backbones.md, after a network changed
backbones-page: setup
    python -m pip install --quiet --disable-pip-version-check -e ".[docs]"
    python tests/benchmarks/backbones_page.py

# Build the site of docs/ into site/; it works offline, including its search
docs: setup
    python -m pip install --quiet --disable-pip-version-check -e ".[docs]"
    zensical build --clean
    @echo "look at it: python -m http.server --directory site"

# Export all or some students in the formats of bundles, and write the table of docs/bundle.md
formats-page *names: setup
    python -m tests.distill.export.students "$@"
    python -m tests.reference

# Write the pages of docs/ that are generated from the code, and the JSON Schema of job specs
docs-reference: setup
    python -m tests.reference

# Write distill/timm_names.txt, the timm networks that specs may name, for the installed version
timm-names: setup
    python -c "from distill.timm_names import write_timm_names; write_timm_names()"

# Compare filling the embedding cache with bare forward passes: --data, --onnx
bench-cache *options: setup
    python tests/benchmarks/cache.py "$@"

# Time every head and every loss on class weights, relative to ArcFace: --identities, --batch
bench-losses *options: setup
    python tests/benchmarks/losses.py "$@"

# Measure each part of the recipes on real faces, five hours on two cores: --data, --only, --epochs, --page
bench-learning *options: setup
    python -m pip install --quiet --disable-pip-version-check -e ".[docs]"
    python tests/benchmarks/learning.py "$@"

# Measure the gain from unlabelled faces: --data FOLDER, --seeds, --epochs, --page
bench-unlabelled *options: setup
    python tests/benchmarks/unlabelled.py "$@"

# Fine-tune students on new people: --data FOLDER, --seeds, --page
bench-fine-tuning *options: setup
    python tests/benchmarks/fine_tuning.py "$@"

# Measure how many people who are in two sets are found: --data FOLDER
bench-joining *options: setup
    python tests/benchmarks/joining.py "$@"

# Compare sampled class weights with all of them, up to a million identities: --steps, --json
bench-partial-fc *options: setup
    python tests/benchmarks/partial_fc.py "$@"

# Time a training step without a teacher, with the cache, and with an online ResNet-100
bench-distillation-step *options: setup
    python tests/benchmarks/distillation_step.py "$@"

# Compare the data loader with bare decoding, the usual MXNet pipeline and a training step: --store, --mxnet
bench-loader *options: setup
    python tests/benchmarks/loader.py "$@"

# Measure how well the windowed shuffle mixes, and how fast it reads: --store
bench-shuffle *options: setup
    python tests/benchmarks/shuffle.py "$@"

# Compare `curate convert` with a copy, bare LMDB appends and, if installed, MXNet's reader
bench-convert *options: setup
    python tests/benchmarks/convert.py "$@"

# Time exact TAR at low FAR, and ranks, against a million images: --probes, --gallery, --dimensions, --json
bench-evaluation *options: setup
    python tests/benchmarks/evaluation.py "$@"

# Compare ways to combine the frames of a video, some of another person: MODEL SET --frames, --json
bench-video *options: setup
    python tests/benchmarks/video.py "$@"

# Time the daemon and the commands with ten thousand queued jobs: --jobs, --seconds, --json
bench-queue *options: setup
    python tests/benchmarks/long_queue.py "$@"

# Compare the queue with huey and, if installed, task-spooler: --jobs, --json
bench-queue-peers *options: setup
    python -m pip install --quiet --disable-pip-version-check -e ".[bench]"
    python tests/benchmarks/queue_peers.py "$@"

# Time a review of a million images in Chromium, with the server killed half-way: --images, --cases, --json
bench-review *options: setup
    python tests/benchmarks/review.py "$@"

# Compare the noise checks with other methods on planted faults: --data, --teacher, --embeddings
bench-noise *options: setup
    python -m pip install --quiet --disable-pip-version-check -e ".[bench]"
    python tests/benchmarks/noise_quality.py "$@"

# Measure time and memory of the noise checks on up to a million simulated embeddings
bench-noise-scale *options: setup
    python tests/benchmarks/noise_scale.py "$@"

# Check style, types, the direction of imports, and prose
lint: setup
    ruff check
    ruff format --check
    mypy
    lint-imports
    python tests/prose.py

# Find habits of translated text in docs, comments and messages
prose: setup
    python tests/prose.py

# Format the code
format: setup
    ruff check --fix
    ruff format

# Build the wheel, check it in a fresh environment, and tag the commit with the version of distill/__init__.py
release: setup
    #!/usr/bin/env bash
    set -euo pipefail
    version="$(python -c 'import distill; print(distill.__version__)')"
    stop() { echo "error: $1" >&2; exit 1; }
    [ -z "$(git status --porcelain)" ] || stop "there are uncommitted changes; commit or stash them"
    ! git rev-parse --quiet --verify "refs/tags/v$version" > /dev/null || stop "the tag v$version exists; set another __version__ in distill/__init__.py"
    grep -q "^## \[$version\]" CHANGELOG.md || stop "CHANGELOG.md has no section [$version]; rename [Unreleased] and commit"
    just lint
    fresh="$(mktemp -d)"
    trap 'rm -rf "$fresh"' EXIT
    # A clone has only committed files, and no old build folder.
    git clone --quiet . "$fresh/source"
    rm -rf dist
    python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist "$fresh/source"
    wheel="$(echo dist/*.whl)"
    echo "installing $wheel and its dependencies in a fresh environment (2 to 4 minutes)"
    "{{ python }}" -m venv "$fresh/venv"
    index=()
    [ -z "{{ torch_index }}" ] || index=(--extra-index-url "{{ torch_index }}")
    "$fresh/venv/bin/pip" install --quiet --disable-pip-version-check "${index[@]}" "$PWD/$wheel[train,{{ faiss }}]"
    cd "$fresh"
    unset PYTHONPATH
    [ "$(venv/bin/distill --version)" = "distill $version" ] || stop "the wheel has another version"
    venv/bin/curate recipe sample --workspace workspace
    venv/bin/distill backbones > /dev/null
    cd - > /dev/null
    git tag --annotate "v$version" --message "face-distill $version"
    echo "tagged v$version; publish it: git push origin v$version, and upload $wheel"

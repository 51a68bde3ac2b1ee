# Everything happens in .venv, which the first target that needs it makes. PYTHON=python3.12 make ... picks another
# Python, 3.10 to 3.13.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
GALLERY := gallery=runs/camera/gallery/gallery.db key=runs/camera/key/gallery.key

.DEFAULT_GOAL := help
.PHONY: help demo camera test lint docs validate-a53 runtimes

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## sets up and runs the whole pipeline on built-in synthetic faces
	$(BIN)/slimcam experiment=demo

# The recognizer is trained on photographs, and to it rendered people look alike: in the scene of this seed there
# is no false positive.
camera: $(READY) ## sets up and plays a scene of rendered people to the camera, some of them enrolled; opens its page
	$(BIN)/python -m slimcam.training.tools.demo_clip runs/camera/scene --seed 6
	rm -rf runs/camera/gallery runs/camera/key
	for person in runs/camera/scene/people/*; do \
		$(BIN)/slimcam-faces enroll "$$(basename "$$person")" "$$person" consent="rendered" $(GALLERY) || exit; done
	$(BIN)/slimcam-camera source=runs/camera/scene/clip.mp4 capture.realtime=true capture.loop=true seconds=60 web.open=true \
		report=runs/camera/report.json $(GALLERY)

test: $(READY) ## sets up and runs the tests
	$(BIN)/pytest -n logical --maxprocesses 4 --dist loadfile --durations 40 --durations-min 3

validate-a53: $(READY) ## compares predicted latencies with published ones, 20 minutes
	$(BIN)/python -m slimcam.pipeline.tools.validate_a53

# tflite-runtime ended at 2.14, which is for Python 3.11 at most and NumPy below 2.
OLD_PYTHON ?= python3.11
RUNTIMES := build/runtimes

runtimes: $(READY) $(RUNTIMES)/tflite-runtime/.ready $(RUNTIMES)/ai-edge-litert/.ready ## whether TFLite runtimes give the same bytes, each in an environment of its own
	$(BIN)/python -m slimcam.pipeline.tools.runtimes $(RUNTIMES)/ai-edge-litert/bin/python $(RUNTIMES)/tflite-runtime/bin/python

$(RUNTIMES)/tflite-runtime/.ready: PACKAGES = tflite-runtime==2.14.0 'numpy<2' 'opencv-python-headless<4.12'
$(RUNTIMES)/ai-edge-litert/.ready: PACKAGES = ai-edge-litert opencv-python-headless numpy
$(RUNTIMES)/%/.ready:
	@command -v $(OLD_PYTHON) >/dev/null || { echo "there is no $(OLD_PYTHON); tflite-runtime needs Python 3.10 or 3.11: make OLD_PYTHON=python3.10 runtimes" >&2; exit 1; }
	$(OLD_PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(PACKAGES)
	@touch $@

lint: $(READY) ## style, types and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell -D - -D .codespell.txt

docs: $(VENV)/.docs ## the pages of docs/ as a site, build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

$(VENV)/.docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

# A stamp, so that an installation that broke off is done again.
$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "there is no $(PYTHON); install Python 3.10 to 3.13, or choose one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 13) else "slimcam needs Python 3.10 to 3.13, $(PYTHON) is %d.%d; choose another: make PYTHON=python3.12 ..." % v)'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments; install its venv package (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[pipeline,search,joblib,submitit,ota,dev]'
	@touch $@

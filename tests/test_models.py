"""The models under docs/model name the steps that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eventrouter.lanes import STEPS

MODELS = Path(__file__).parents[1] / "docs" / "model"


def steps_of(model: str) -> set[str]:
    return set(re.findall(r"/\* step (\w+)", (MODELS / model).read_text("utf-8")))


@pytest.mark.parametrize("model", ["lane.pml", "router.pml"])
def test_every_step_that_a_model_names_is_a_script(model):
    assert set() == steps_of(model) - set(STEPS)


def test_the_readme_says_which_steps_no_model_has():
    readme = (MODELS / "README.md").read_text("utf-8")
    told = set(re.findall(r"`(\w+)`", readme.split("Not in the models:")[1].split("batches")[0]))
    assert set(STEPS) - steps_of("lane.pml") - steps_of("router.pml") <= told


def test_the_readme_speaks_of_every_model():
    readme = (MODELS / "README.md").read_text("utf-8")
    assert [] == [path.name for path in MODELS.glob("*.pml") if path.name not in readme]

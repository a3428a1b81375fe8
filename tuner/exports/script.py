"""Recipes rendered as Python scripts, from the templates beside this file."""

from functools import cache
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from tuner import __version__
from tuner.data.splits import SEED, TEST_SEED, TEST_SHARE
from tuner.exports.recipe import Recipe

Framework = Literal["keras", "torch"]


def render(recipe: Recipe, framework: Framework) -> str:
    """A script that trains and tests what the recipe says in plain `framework`, on images that its user has."""
    return (
        _templates()
        .get_template(f"{framework}.py.jinja")
        .render(
            recipe=recipe,
            h=recipe.hyperparameters,
            origin=recipe.origin,
            images=recipe.images,
            split_seed=SEED,
            test_seed=TEST_SEED,
            test_share=TEST_SHARE,
            version=__version__,
        )
    )


@cache
def _templates() -> Environment:
    """Each compiled once."""
    return Environment(
        loader=PackageLoader("tuner.exports"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # it is Python; names of studies and data sets hold neither quotes nor backslashes
    )

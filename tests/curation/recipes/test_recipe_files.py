"""Recipe files: reading them, and errors in them."""

import pytest

from curation.errors import UserError
from curation.recipes.file import ScoreStep, load_recipe, parse_recipe, recipe_names


class TestFiles:
    @pytest.mark.parametrize("name", recipe_names())
    def test_every_recipe_can_be_read(self, name):
        assert load_recipe(name).description

    def test_an_unknown_recipe_is_refused_with_the_known_ones(self):
        with pytest.raises(
            UserError, match=r"no recipe '\.\./x'; there are: drawn-faces, ms1m, sample"
        ):
            load_recipe("../x")

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("x = ", "not TOML: Invalid value"),
            ("", "description"),
            ('dataset = "A"', "dataset|description"),
            ('[[step]]\ndo = "shell"', "3:3: step 1: there is no step 'shell'"),
            ('[[step]]\ndo = "convert"\nto = "../train"', "5:6: step 1: to: does not match"),
            (
                '[[step]]\ndo = "convert"\nto = "train"\nthreads = 3',
                "6:1: step 1: unknown key",
            ),
            (
                '[[step]]\ndo = "retina-s"\nof = "a"\nto = "b"\nmaximum = "5"',
                "7:11: step 1: maximum: must",
            ),
        ],
    )
    def test_an_invalid_file_names_the_key(self, text, complaint):
        whole = f'description = "d"\ndataset = "d"\n{text}' if "step" in text else text
        with pytest.raises(UserError, match=f"recipe x.*{complaint}"):
            parse_recipe(whole, "recipe x")

    def test_an_unknown_key_is_reported_with_a_suggestion(self):
        text = (
            'description = "d"\ndataset = "d"\n[[step]]\ndo = "convert"\nto = "a"\nskip_bat = true'
        )
        with pytest.raises(UserError) as error:
            parse_recipe(text, "x.toml")
        said = "x.toml:6:1: step 1: unknown key 'skip_bat'; did you mean 'skip_bad'?"
        assert str(error.value) == said

    def test_older_recipes_may_use_mark(self):
        text = 'description = "d"\ndataset = "d"\n[[step]]\ndo = "mark"\nof = "train"'
        assert type(parse_recipe(text, "x").step[0]) is ScoreStep

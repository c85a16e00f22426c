"""One root for every error raised on purpose."""

import pytest

from manifests.errors import AudioError, BuildError, RecipeError, StemloomError, TableError, did_you_mean


@pytest.mark.parametrize("leaf", [AudioError, BuildError, RecipeError, TableError])
def test_every_leaf_is_caught_by_the_root(leaf):
    with pytest.raises(StemloomError, match="broken"):
        raise leaf("a.wav: broken")


def test_the_nearest_known_name_is_suggested():
    assert did_you_mean("tile", ["title", "path"]) == " (did you mean 'title'?)"
    assert did_you_mean("xyz", ["title", "path"]) == ""

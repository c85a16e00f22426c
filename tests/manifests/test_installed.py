"""Versions of what is installed, and of what is not."""

import numpy as np

from manifests.installed import installed_version


def test_a_package_has_the_version_that_it_says_itself() -> None:
    assert installed_version("numpy") == np.__version__


def test_what_is_not_installed_has_none() -> None:
    assert installed_version("no-such-package-anywhere") is None

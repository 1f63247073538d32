"""Public names imported on first use: each is what its module defines."""

import importlib
import sys

import pytest

from fieldstone.core.lazy import public_names

PACKAGES = ("fieldstone", "fieldstone.fields", "fieldstone.datasets", "fieldstone.fields.articulated")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_no_module(package):
    module = importlib.import_module(package)
    for name in module.__all__:
        assert not isinstance(getattr(module, name), type(sys)), name
        assert name in dir(module)


def test_a_function_wins_over_the_module_that_is_called_like_it(tmp_path, monkeypatch):
    folder = tmp_path / "lazy_example"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from fieldstone.core.lazy import public_names\n"
        '__getattr__, __dir__ = public_names(__name__, {"same": ".same", "whole": ".whole"})\n'
    )
    (folder / "same.py").write_text("def same():\n    return 7\n")
    (folder / "whole.py").write_text("inside = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    example = importlib.import_module("lazy_example")
    assert example.same() == 7
    assert example.whole.inside == 3
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        example.other  # noqa: B018


def test_an_unknown_name_is_an_attribute_error():
    found, _ = public_names("fieldstone.fields", {})
    with pytest.raises(AttributeError, match=r"fieldstone\.fields.*nothing"):
        found("nothing")

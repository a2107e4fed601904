import pytest

from censusformer.cli import STEPS
from censusformer.digest import bare, closure, code_digest


@pytest.fixture
def source(tmp_path):
    """A package of three steps; returns a writer of its files."""
    files = {
        "pkg/__init__.py": '"""A package."""\n',
        "pkg/base.py": "ONE = 1\n",
        "pkg/part/__init__.py": "",
        "pkg/part/deep.py": "from pkg.base import ONE\n\ndef f():\n    return ONE\n",
        "pkg/a.py": "from pkg.part import deep\n",
        "pkg/b.py": "def run():\n    from .part import other\n    return other\n",
        "pkg/part/other.py": "import math\n",
    }

    def write(changes):
        for name, text in changes.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        for cached in (closure,):
            cached.cache_clear()
        from censusformer import digest

        digest.imports.cache_clear()
        digest._own_digest.cache_clear()
        return {step: code_digest(f"pkg.{step}", tmp_path) for step in ("a", "b")}

    write.first = write(files)
    write.folder = tmp_path
    return write


def test_closure_follows_imports_and_packages(source):
    assert closure("pkg.a", source.folder) == ("pkg", "pkg.a", "pkg.base", "pkg.part", "pkg.part.deep")
    assert closure("pkg.b", source.folder) == ("pkg", "pkg.b", "pkg.part", "pkg.part.other")


def test_an_edit_counts_for_the_steps_that_import_it(source):
    after = source({"pkg/base.py": "ONE = 2\n"})
    assert after["a"] != source.first["a"] and after["b"] == source.first["b"]


def test_data_in_a_package_counts(source):
    after = source({"pkg/part/page.html": "<p>"})
    assert after["a"] != source.first["a"] and after["b"] != source.first["b"]


def test_comments_docstrings_and_blank_lines_do_not_count(source):
    after = source({"pkg/base.py": '"""What it is."""\n\n# why\nONE = 1  # here\n\n'})
    assert after == source.first


def test_bare_keeps_hashes_and_quotes_in_strings():
    assert bare('x = "# no comment"  # one\n') == 'x = "# no comment"'
    assert bare('def f():\n    """doc\n    more"""\n    return """text"""\n') == 'def f():\n    return """text"""'


def test_steps_depend_on_what_they_import():
    assert "censusformer.model.encoder" in closure("censusformer.steps.pretrain")
    assert "censusformer.model.encoder" not in closure("censusformer.steps.tokenize")
    assert len({code_digest(f"censusformer.steps.{step}") for step in STEPS}) == len(STEPS)
    for step in STEPS:
        assert not {"censusformer.cli", "censusformer.config"} & set(closure(f"censusformer.steps.{step}"))

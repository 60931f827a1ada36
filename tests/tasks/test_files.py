"""Files that appear whole or not at all, and what is damaged set aside."""

import pytest

from tasks.files import set_aside, write_atomically


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "text is not bytes")
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_is_set_aside_takes_no_place_that_is_taken(tmp_path):
    path = tmp_path / "file"
    for content, name in ((b"1", "file.damaged"), (b"2", "file.2.damaged"), (b"3", "file.3.damaged")):
        path.write_bytes(content)
        assert set_aside(path) == tmp_path / name
        assert (tmp_path / name).read_bytes() == content
    with pytest.raises(FileNotFoundError):
        set_aside(path)

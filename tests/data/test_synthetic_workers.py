import multiprocessing

import pytest

from lesionkit.data import synthesize


def test_a_killed_worker_is_a_clear_error(tmp_path):
    def kill(done, total):
        multiprocessing.active_children()[0].kill()

    with pytest.raises(ChildProcessError, match="a worker process was killed"):
        synthesize(tmp_path / "out", 40, image_size=64, progress=kill, workers=2)
    assert not multiprocessing.active_children()

from __future__ import annotations

import pytest

from slimcam.deploy.latency.request import thread_counts


@pytest.mark.parametrize("threads", ["x", [], [1, 1], [1, "2"], 1.5, None, True])
def test_threads_are_numbers(threads: object) -> None:
    with pytest.raises(ValueError, match="threads is a number or a list of different ones"):
        thread_counts(threads)

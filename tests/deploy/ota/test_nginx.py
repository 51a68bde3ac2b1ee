"""A release by way of Debian's nginx; `python -m tests.deploy.ota.nginx_end_to_end` has a camera take it."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimcam.deploy.ota.publisher.repository import Repository
from tests.deploy.ota.conftest import Device
from tests.deploy.ota.nginx_end_to_end import NGINX, nginx
from tests.deploy.ota.releases import publish, settings

pytestmark = [pytest.mark.skipif(NGINX is None, reason="there is no nginx"), pytest.mark.usefixtures("no_trial")]


def test_releases_come_from_nginx_as_it_is_installed(repository: Repository, tmp_path: Path) -> None:
    publish(repository)
    with nginx(repository.folder, tmp_path / "nginx") as url:
        device = Device(settings(repository, url, tmp_path / "device"))
        assert device.take().release == 1
        repository.rotate("timestamp")
        publish(repository)
        assert device.take().release == 2

"""What the documents say is so: settings, links, and the commands of the README."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest
from conftest import ROOT, free_port, jpeg, put, wait_for

from lenslet import config

PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "SECURITY", "CHANGELOG")),
    *sorted((ROOT / "docs").glob("*.md")),
]


def test_the_settings_are_those_of_the_table() -> None:
    rows = re.findall(
        r"^\| (`[A-Z][^|]*)\|([^|]*)\|", (ROOT / "docs/settings.md").read_text(), re.MULTILINE
    )
    named = [name for names, _ in rows for name in re.findall(r"`(\w+)`", names)]
    example = re.findall(r"^#(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(example) == sorted(config.names())
    defaults = config.settings({})
    for names, shown in rows:
        names, values = re.findall(r"`(\w+)`", names), re.findall(r"`([^`]*)`", shown)
        if names[-1] == "TRUSTED_PROXIES":
            names = names[-1:]  # AUTH_HEADER before it has no value
        for name, value in zip(names, values[: len(names)] or [""] * len(names), strict=True):
            if not name.startswith("XDG_"):
                assert config.settings({name: value, "HOME": "/h"}) == defaults, name


def test_every_link_leads_to_a_file() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), (page.name, target)


@pytest.mark.slow
def test_the_first_commands_of_the_readme_work_as_they_stand(tmp_path: pathlib.Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    start, apart, ask = blocks[:3]
    clone, port = tmp_path / "clone", str(free_port())
    copied = ["lenslet", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"]
    clone.mkdir()
    for name in copied:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, clone / name)
    pictures, files = tmp_path / "home/Pictures", tmp_path / "home/lenslet-files"
    put(pictures / "a.jpg", jpeg())
    environ = {k: v for k, v in os.environ.items() if k not in config.names()}
    environ |= {"HOME": str(tmp_path / "home"), "PORT": port}
    for command, own in ((start, pictures), (apart, files)):
        with subprocess.Popen(
            ["bash", "-c", command], cwd=clone, env=environ, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        ) as service:  # fmt: skip
            try:
                assert service.stdout is not None
                shown = next(line for line in service.stdout if "Lenslet serves" in line)
                assert f"{pictures} at http://127.0.0.1:{port}/" in shown
                asked = ["bash", "-c", ask.replace("7070", port)]
                answer = subprocess.run(asked, capture_output=True, text=True, check=True)
                assert '"name":"a.jpg"' in answer.stdout
                wait_for((own / "a.jpg.thumbnail").exists)
            finally:
                os.killpg(service.pid, signal.SIGTERM)
        if own is pictures:
            for made in set(pictures.iterdir()) - {pictures / "a.jpg"}:
                made.unlink()
    assert list(pictures.iterdir()) == [pictures / "a.jpg"]

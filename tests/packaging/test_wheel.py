"""What is installed from a wheel, without the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(180)]

TOP = Path(__file__).resolve().parents[2]
EXTRAS = ("asyncpg", "cel_expr_python", "pyarrow")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from the source distribution, as a packager does."""
    folder = tmp_path_factory.mktemp("dist")
    words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(TOP)]
    subprocess.run(words, check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel elsewhere, with the libraries that are there already but for extras; gives the command."""
    home = tmp_path_factory.mktemp("elsewhere")
    venv.create(home, with_pip=False)
    libraries = sysconfig.get_path("purelib", vars={"base": str(home)})
    # a line of a .pth file is not searched for .pth files itself, so the checkout stays out of sight
    there = [path for path in sys.path if Path(path).name == "site-packages"]
    (Path(libraries) / "libraries.pth").write_text("\n".join(there))
    hidden = "".join(f"sys.modules[{name!r}] = None\n" for name in EXTRAS)
    (Path(libraries) / "sitecustomize.py").write_text(f"import sys\n{hidden}")
    python = home / "bin" / "python"
    words = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", str(wheel)]
    subprocess.run([python, *words], check=True, capture_output=True)
    return home / "bin" / "rtobserver"


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def run(command: Path, *words: str, folder: Path) -> str:
    """Run a command away from the checkout; gives its stdout."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"TMPDIR": str(folder)}
    done = subprocess.run([command, *words], cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_holds_all_that_is_needed_at_run_time(wheel: Path) -> None:
    held = set(names(wheel))
    package = TOP / "src" / "rtobserver"
    wanted = {f"rtobserver/{path.relative_to(package).as_posix()}" for path in package.rglob("*") if path.is_file()}
    scripts = TOP / "migrations"
    wanted |= {f"rtobserver/_migrations/{path.relative_to(scripts).as_posix()}" for path in scripts.rglob("*.py")}
    wanted = {name for name in wanted if "/." not in name and "__pycache__" not in name}
    pages = "rtobserver/web/pages"
    assert {
        f"{pages}/templates/base.html",
        f"{pages}/assets/page.js",
        f"{pages}/assets/vendor/htmx-LICENSE.txt",
    } <= wanted
    assert {"rtobserver/py.typed", "rtobserver/realtime/prices.toml", "rtobserver/_migrations/env.py"} <= wanted
    assert wanted <= held


def test_it_holds_nothing_else(wheel: Path) -> None:
    info = [name for name in names(wheel) if not name.startswith("rtobserver/")]
    assert {name.partition("/")[0].endswith(".dist-info") for name in info} == {True}
    assert not [name for name in names(wheel) if "test" in name.split("/")[1] or name.endswith(".pyc")]
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            assert str(TOP).encode() not in archive.read(name), name


def test_it_names_its_command_its_licence_and_its_libraries(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [metadata] = [archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA")]
        [commands] = [archive.read(name).decode() for name in archive.namelist() if name.endswith("/entry_points.txt")]
        assert [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
    assert "rtobserver = rtobserver.cli:main" in commands
    for line in ("License-Expression: Apache-2.0", "Requires-Python: >=3.11", "Provides-Extra: demo"):
        assert line in metadata


def test_the_installed_command_migrates_and_serves_from_anywhere(installed: Path, tmp_path: Path) -> None:
    where = run(installed.with_name("python"), "-c", "import rtobserver; print(rtobserver.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parents[1])
    config = tmp_path / "config.toml"
    config.write_text(
        """
upstream = { provider = "azure", base_url = "http://127.0.0.1:9/openai/v1", auth = "api-key", api_key = "k" }
public.port = 0
operator.port = 0
store.migrate_on_start = false

[[profile]]
name = "default"
session.model = "gpt-realtime"
"""
    )
    assert "went from nothing to" in run(installed, "migrate", "--config", "config.toml", folder=tmp_path)
    key = run(installed, "keys", "create", "--config", "config.toml", "--name", "test", folder=tmp_path).strip()
    words = [str(installed), "serve", "--config", "config.toml", "--log-format", "json"]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as daemon:
        assert daemon.stderr is not None
        try:
            said = next(said for said in map(json.loads, daemon.stderr) if said["event"] == "listening")
            request = urllib.request.Request(
                f"{said['operator']}/api/v1/calls", headers={"Authorization": f"Bearer {key}"}
            )
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert json.load(answer) == {"data": [], "next_cursor": None}
        finally:
            daemon.terminate()
        daemon.communicate(timeout=10)
    assert daemon.returncode == 0


def test_the_installed_command_plays_the_example_call(installed: Path, tmp_path: Path) -> None:
    words = ("demo", "--once", "--no-browser", "--public-port", "0", "--operator-port", "0")
    assert "recorded rtc_" in run(installed, *words, folder=tmp_path)

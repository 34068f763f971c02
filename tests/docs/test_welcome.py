"""What is for people from outside: their checks run what ours run, with the versions that the project names."""

import os
import re
import shutil
import subprocess
import tomllib

import pytest
import yaml

from project.local.children import BASE_DIR

GITHUB = BASE_DIR / ".github"
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))


def test_the_workflow_runs_every_python_that_the_project_takes():
    [job] = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text())["jobs"].values()
    wanted = tomllib.loads((BASE_DIR / "pyproject.toml").read_text())["project"]["requires-python"]
    least, below = map(int, re.findall(r"3\.(\d+)", wanted))
    assert job["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(least, below)]
    assert job["steps"][-1]["run"] == "make PYTHON=python ci"


def test_our_own_checks_are_those_of_outsiders():
    assert (BASE_DIR / ".ci" / "run").read_text().splitlines()[-1] == "make ci"


def test_pre_commit_has_the_ruff_of_the_lock_file():
    [repo] = yaml.safe_load((BASE_DIR / ".pre-commit-config.yaml").read_text())["repos"]
    locked = {one["name"]: one["version"] for one in tomllib.loads((BASE_DIR / "uv.lock").read_text())["package"]}
    assert repo["rev"] == f"v{locked['ruff']}"


@pytest.mark.parametrize("form", [form for form in FORMS if form.name != "config.yml"], ids=lambda form: form.stem)
def test_issue_forms_have_what_the_host_asks_for(form):
    read = yaml.safe_load(form.read_text())
    assert {"name", "description", "body"} <= read.keys()
    ids = [field["id"] for field in read["body"] if field["type"] != "markdown"]
    assert len(ids) == len(set(ids)) >= 3


class TestSubjects:
    """`.ci/subjects` in repositories of their own."""

    @pytest.fixture
    def repository(self, tmp_path):
        (tmp_path / ".ci").mkdir()
        shutil.copy(BASE_DIR / ".ci" / "subjects", tmp_path / ".ci" / "subjects")
        return tmp_path

    def git(self, repository, *arguments):
        who = {f"GIT_{role}_{what}": "a@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        environment = {"PATH": os.environ["PATH"], "HOME": str(repository), **who}
        return subprocess.run(
            ["git", "-C", str(repository), *arguments], env=environment, check=True, capture_output=True, text=True
        ).stdout.strip()

    def begin(self, repository):
        """Make a repository whose first commit, with a long subject, is the base."""
        self.git(repository, "init", "--quiet")
        self.git(repository, "commit", "--quiet", "--allow-empty", "--message", "x" * 100)
        script = repository / ".ci" / "subjects"
        base = self.git(repository, "rev-parse", "HEAD")
        script.write_text(re.sub(r"^BASE=.*", f"BASE={base}", script.read_text(), flags=re.MULTILINE))

    def check(self, repository):
        environment = {"PATH": os.environ["PATH"], "GIT_CEILING_DIRECTORIES": str(repository.parent)}
        return subprocess.run([repository / ".ci" / "subjects"], env=environment, capture_output=True, text=True)

    def test_outside_of_git_nothing_is_checked(self, repository):
        checked = self.check(repository)
        assert (checked.returncode, checked.stderr) == (0, "")
        assert "not checked" in checked.stdout

    def test_a_clone_without_the_base_is_not_checked(self, repository):
        self.git(repository, "init", "--quiet")
        self.git(repository, "commit", "--quiet", "--allow-empty", "--message", "x" * 100)
        checked = self.check(repository)
        assert (checked.returncode, checked.stderr) == (0, "")
        assert "not checked" in checked.stdout

    def test_what_came_before_may_be_longer(self, repository):
        self.begin(repository)
        assert self.check(repository).stdout == ""

    @pytest.mark.parametrize(("length", "status"), [(72, 0), (73, 1)])
    def test_characters_are_counted_not_bytes(self, repository, length, status):
        self.begin(repository)
        self.git(repository, "commit", "--quiet", "--allow-empty", "--message", "é" * length)
        assert self.check(repository).returncode == status

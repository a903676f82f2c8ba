"""params.yaml is read into typed values; every mistake is reported with its position and a hint."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.exceptions import InvalidArgumentError
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import modify_yaml, parse_yaml

from tests.support.shipped import WITH_MIXTURE
from yourbert.config.params import RENAMED, RENAMED_VALUES, read_params
from yourbert.config.schema import Training
from yourbert.config.yaml_file import read_yaml
from yourbert.core.errors import UserError

SHIPPED = Path("params.yaml")


def changed(tmp_path: Path, old: str, new: str) -> Path:
    """The shipped parameters with a mixture and a change."""
    assert old in WITH_MIXTURE, f"the file has no {old!r}"
    path = tmp_path / "params.yaml"
    path.write_text(WITH_MIXTURE.replace(old, new, 1))
    return path


def refusal(path: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        read_params(path)
    return caught.value


def test_shipped_file_is_valid() -> None:
    params = read_params(SHIPPED)
    assert set(params.tasks) >= {"sst", "cfimdb", "quora", "sts"}
    for run in [*params.tasks, *params.multitask]:
        assert isinstance(params.training(run), Training)


def test_shipped_file_has_the_format_that_dvc_writes(tmp_path: Path) -> None:
    """Otherwise the first `dvc exp run -S` would reformat other lines."""
    path = tmp_path / "params.yaml"
    path.write_bytes(SHIPPED.read_bytes())
    with modify_yaml(path) as content:
        content["lr"] = 0.5
    with modify_yaml(path) as content:
        content["lr"] = read_params(SHIPPED).lr
    assert path.read_text() == SHIPPED.read_text()


@pytest.mark.parametrize("spelling", ["1e-5", "1e-05", "1E-5", "0.00001", "1.0e-5"])
def test_numbers_are_yaml_1_2(tmp_path: Path, spelling: str) -> None:
    assert read_params(changed(tmp_path, "\nlr: 0.0001", f"\nlr: {spelling}")).lr == 1e-5


@pytest.mark.parametrize(
    ("old", "new", "code", "says"),
    [
        ("\nlr:", "\nlerning_rate: 1\nlr:", "P01", "unknown key 'lerning_rate'"),
        ("\nepochs:", "\nepoch: 3\nepochs:", "P01", "did you mean 'epochs'"),
        ("\nepochs:", "\norder: [x]\nepochs:", "P01", "'order' was renamed in 0.2.0. Fix: rename it to `curriculum`"),
        ("\nepochs:", "\nsoup: 5\nepochs:", "P01", "'soup' was removed in 0.2.0: averaging the weights"),
        ("  mlm_probability:", "  whole_words: true\n  mlm_probability:", "P01", "'pretrain.whole_words' was removed"),
        ("      id: id\n", "      ids: id\n", "P01", "unknown key 'tasks.sst.data.ids'; did you mean 'id'"),
        ("  alpha: ", "  alfa: ", "P01", "did you mean 'alpha'"),
        ("\nlr: 0.0001", '\nlr: "1e-5"', "P03", "remove the quotes"),
        ("\nlr: 0.0001", "\nlr: -1", "P04", "'lr' is -1"),
        ("\nlr: 0.0001", "\nlr: .inf", "P04", "lr"),
        ("\nlr: 0.0001", "\nlr: true", "P04", "lr"),
        ("\nlr: 0.0001\n", "\n", "P13", "'lr' is missing"),
        ("\ndeterministic: false", "\ndeterministic: yes", "P04", "'deterministic' is 'yes'"),
        ("\nregularizer: none", "\nregularizer: r_dorp", "P05", "did you mean 'r_drop'"),
        ("\ndropout: 0.1", "\ndropout: 1.0", "P04", "dropout"),
        ("\nbatch_size: 16", "\nbatch_size: 2.5", "P04", "batch_size"),
        ("\nepochs: 3", "\nepochs: 0", "P04", "epochs"),
        ("\nepochs: 3", "\nepochs: 3\nepochs: 4", "P10", "first defined on line"),
        ("\nlr: 0.0001", "\n\tlr: 0.0001", "P11", "not valid YAML"),
        ("\nlr: 0.0001", "\nlr: !!python/object/apply:os.system ['true']", "P14", "not allowed"),
        ("\nlr: 0.0001", "\nlr: &a 0.0001\nwarmup_ratio: *a", "P14", "aliases"),
        ("    - sts\n", "    - stss\n", "P05", "did you mean 'sts'"),
        (
            "    sampling: proportional\n",
            "    sampling: proportional\n    model_selection_metric: quor\n",
            "P05",
            "did you mean 'quora'",
        ),
        ("kind: similarity", "kind: similarty", "P05", "did you mean 'similarity'"),
        ("\nmixtures:", "\nmixtures:\nx:", "P04", "write `mixtures: {}` for none"),
        ("      - 0\n      - 5\n", "      - 5\n      - 0\n", "P05", "range"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, code: str, says: str) -> None:
    error = refusal(changed(tmp_path, old, new))
    problem = next((p for p in error.problems if p.code == code and says in str(p)), None)
    assert problem is not None, str(error)
    assert problem.where.startswith(str(tmp_path / "params.yaml"))
    assert error.exit_code == 2


# The names in the table of CHANGELOG.md that stand for any block -> a block of the parameters with a mixture.
BLOCKS = {"tasks.NAME": ("tasks", "sst"), "mixtures.NAME": ("mixtures", "pairs"), "chains.N": ("sequential", 0)}


def renamed_keys() -> list[tuple[str, str]]:
    """The rows (old, new) of the table of renamed keys in CHANGELOG.md."""
    text = Path("CHANGELOG.md").read_text(encoding="utf-8")
    table = text.partition("### Renamed keys of params.yaml\n")[2].partition("\n#")[0]
    return re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", table, re.MULTILINE)


def test_the_changelog_has_every_renamed_key() -> None:
    old = {row[0].split(".")[-1] for row in renamed_keys()}
    assert {key.split(":")[0] for key in old} == set(RENAMED)
    assert {key for key in old if ":" in key} == {f"{k}: {v}" for k, values in RENAMED_VALUES.items() for v in values}


@pytest.mark.parametrize(("old", "new"), renamed_keys())
def test_an_old_key_is_refused_with_its_new_spelling(tmp_path: Path, old: str, new: str) -> None:
    """The old key replaces the new one, whose absence is not reported as a second problem."""
    values: Any = yaml.safe_load(WITH_MIXTURE)
    (dotted, _, value), (new_key, _, new_value) = old.partition(": "), new.partition(": ")
    name, _, key = dotted.rpartition(".")
    start = ".".join(name.split(".")[:2])
    path: list[str | int] = [*BLOCKS.get(start, (start,) if start else ()), *name.split(".")[2:]]
    block = values
    for part in path:
        block = block[part]
    block[key] = value or block.get(new_key, 1)
    block.pop(new_key, None)
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(values))
    (problem,) = refusal(file).problems
    assert problem.code == "P01" and f"'{'.'.join(map(str, [*path, key]))}' was renamed" in problem.what
    assert problem.fix == (f"write `{new}`" if new_value else f"rename it to `{new_key}`")


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    path = changed(tmp_path, "\nlr: 0.0001", "\nlr: 7")
    text = path.read_text().replace("\nepochs: 3", "\nepochs: none")
    path.write_text(text.replace("\nwarmup_ratio: 0.1", "\nwarmup_ratio: 2"))
    assert {p.what.split("'")[1] for p in refusal(path).problems} == {"lr", "epochs", "warmup_ratio"}


def test_a_problem_names_the_line_of_the_key(tmp_path: Path) -> None:
    path = changed(tmp_path, "\nmax_grad_norm: 1.0", "\nmax_grad_norm: -1.0")
    line = path.read_text().splitlines().index("max_grad_norm: -1.0") + 1
    assert refusal(path).problems[0].where == f"{path}:{line}:1"


def test_an_override_reaches_one_run_only(tmp_path: Path) -> None:
    params = read_params(changed(tmp_path, "  sst:\n    lr:", "  sst:\n    lr: 3e-05"))
    assert params.training("sst").lr == 3e-5
    assert params.training("cfimdb").lr == params.lr
    back = {key: getattr(params, key) for key in params.overrides("sst")}
    assert params.training("sst").model_copy(update=back) == params.training("cfimdb")


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("max_grad_norm: -7", "P04", "tasks.sst.max_grad_norm"),
        ("epoch: 7", "P01", "did you mean 'epochs'"),
        ("average: 0.9", "P01", "'tasks.sst.average' was removed"),
        ('max_grad_norm: "1"', "P03", "tasks.sst.max_grad_norm"),
        ("curriculum: lengths", "P05", "'length'"),
    ],
)
def test_a_wrong_override_is_one_problem_with_its_place(tmp_path: Path, line: str, code: str, says: str) -> None:
    (problem,) = refusal(changed(tmp_path, "  sst:\n", f"  sst:\n    {line}\n")).problems
    assert problem.code == code
    assert says in str(problem)
    place = (tmp_path / "params.yaml").read_text().splitlines().index(f"    {line}") + 1
    assert problem.where.endswith(f":{place}:5")


SEQUENTIAL = "sequential:\n- name: next\n  init_from: pairs\n  tasks:\n  - sts\n  sampling: proportional\n"


def test_a_sequential_model_is_trained_like_any_other_model(tmp_path: Path) -> None:
    params = read_params(changed(tmp_path, "sequential:\n", SEQUENTIAL + "  lr: 0.00003\n"))
    assert [*params.multitask] == [*params.mixtures, "next", "quora-sts", "shared"]
    assert params.training("next").lr == 3e-5 and params.training("next").epochs == params.epochs


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("init_from: pairs", "init_from: pair", "no model 'pair'.*pairs"),
        ("init_from: pairs", "init_from: next", "must name a model defined before 'next'"),
        ("name: next", "name: sts", "'sts' is also the name of a task"),
        ("name: next", "name: shared", "'shared' is also the name of another"),
        ("name: next", "name: overall", "reserved name"),
        ("- sts", "- stss", "no task 'stss'"),
        ("sampling: proportional", "sampling: proportional\n  epoch: 3", "unknown key 'sequential.0.epoch'.*epochs"),
    ],
)
def test_an_impossible_sequential_model_is_refused_with_its_place(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert old in SEQUENTIAL
    error = refusal(changed(tmp_path, "sequential:\n", SEQUENTIAL.replace(old, new)))
    assert re.search(said, str(error)) and re.search(r"params.yaml:\d+:\d+", str(error))


def test_a_sequential_model_may_start_from_another(tmp_path: Path) -> None:
    second = (
        SEQUENTIAL.replace("sequential:\n", "").replace("next", "last").replace("init_from: pairs", "init_from: next")
    )
    assert "last" in read_params(changed(tmp_path, "sequential:\n", SEQUENTIAL + second)).multitask
    error = refusal(
        changed(tmp_path, "sequential:\n", SEQUENTIAL.replace("init_from: pairs", "init_from: last") + second)
    )
    assert "must name a model defined before 'next'" in str(error)


def with_labels(tmp_path: Path, labels: str) -> Path:
    found = re.search(r"\n      labels:\n(?:      - .*\n)+", WITH_MIXTURE)
    assert found
    return changed(tmp_path, found[0], f"\n      labels: {labels}\n")


@pytest.mark.parametrize(
    ("written", "labels"),
    [
        ("[007, 010, 042]", ["007", "010", "042"]),
        ("[1.50, 2e3, +4, 1e5]", ["1.50", "2e3", "+4", "1e5"]),
        ("[true, false]", ["true", "false"]),
        ("[no, off, 12:30, 2026-12-01]", ["no", "off", "12:30", "2026-12-01"]),
        ("['', ok]", "a label in `labels` is blank"),
        ("[0, 0.0, 1]", "'0.0' and '0', which are the same label"),
        ("[caf\u00e9, cafe\u0301]", "which are the same label"),
        ("[yes, ' yes']", "which are the same label"),
        ("[1, null]", "'tasks.sst.data.labels.1' is null"),
    ],
)
def test_labels_are_the_text_of_the_file(tmp_path: Path, written: str, labels: list[str] | str) -> None:
    path = with_labels(tmp_path, written)
    if isinstance(labels, list):
        assert read_params(path).tasks["sst"].data.labels == labels
    else:
        assert labels in str(refusal(path))


def test_columns_may_be_numbers(tmp_path: Path) -> None:
    path = changed(tmp_path, "      label: sentiment\n", "      label: 001\n")
    assert read_params(path).tasks["sst"].data.label == "001"


@pytest.mark.parametrize("key", ["2024", "007", "1e5", "true", "null", "0x1f", "2026-12-01", "1_000"])
def test_a_name_that_is_no_text_for_dvc_needs_quotes(tmp_path: Path, key: str) -> None:
    path = changed(tmp_path, "\n  sst:\n", f"\n  {key}:\n")
    assert f"P20 {path}" in str(refusal(path)) and f"Fix: write it in quotes: '{key}'" in str(refusal(path))
    text = path.read_text().replace(f"\n  {key}:\n", f"\n  '{key}':\n").replace("- sst\n", f"- '{key}'\n")
    path.write_text(text.replace("sst: ", f"'{key}': "))
    assert key in read_params(path).tasks and key in parse_yaml(path.read_text(), path)["tasks"]


@pytest.mark.parametrize("key", ["on", "no", "e5", "v1", "a-1"])
def test_a_name_that_dvc_reads_as_text_needs_none(tmp_path: Path, key: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"{key}: 1\n")
    assert read_yaml(path)[0] == parse_yaml(path.read_text(), path) == {key: 1}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\nepochs: 3", "\nepochs: 1000000000000"),
        ("\nnum_threads: 0", "\nnum_threads: 1000000000"),
        ("  bootstrap_samples: 1000", "  bootstrap_samples: 1000000000000"),
        ("  permutations: 2000", "  permutations: 1" + "0" * 5000),
    ],
)
def test_a_number_beyond_all_sense_is_refused_with_the_largest_one(tmp_path: Path, old: str, new: str) -> None:
    message = str(refusal(changed(tmp_path, old, new)))
    assert "P04" in message and "less than or equal to" in message and len(message) < 400


@pytest.mark.parametrize(
    "text", ["[" * 10_000, "a: " + "{a: " * 10_000, "".join(" " * n + "a:\n" for n in range(1000))]
)
def test_deep_nesting_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert re.match(r"YB-P11 .*nested more than 20 deep", str(refusal(path)))


@pytest.mark.parametrize("name", ["SST", "Sst"])
def test_names_that_differ_only_in_case_are_refused(tmp_path: Path, name: str) -> None:
    path = changed(tmp_path, "\n  cfimdb:\n", f"\n  {name}:\n")
    assert f"'{name}' and 'sst' differ only in case" in str(refusal(path))


def test_a_split_that_is_another_one_is_refused(tmp_path: Path) -> None:
    path = changed(tmp_path, "dev: ids-sst-dev.csv", "dev: ids-sst-train.csv")
    assert "`train`, `dev` and `test` must be different files" in str(refusal(path))


def all_keys(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        yield prefix + key, value
        if isinstance(value, dict):
            yield from all_keys(value, f"{prefix}{key}.")


def test_no_override_of_any_key_corrupts_the_shipped_file(tmp_path: Path) -> None:
    """`dvc exp run -S` replaces, removes or adds a key; the file stays one that DVC and we can read."""
    path = tmp_path / "params.yaml"
    values = read_yaml(SHIPPED)[0]
    for key, value in all_keys(values):
        empty = {dict: "{}", list: "[]"}.get(type(value), "x")
        for override in (f"{key}={empty}", f"~{key}", f"+{key}_more=1", f"{key}=null"):
            path.write_bytes(SHIPPED.read_bytes())
            try:
                apply_overrides(path, [override])
            except InvalidArgumentError:  # a null key cannot be removed; the file is as it was
                assert override.startswith("~") and path.read_bytes() == SHIPPED.read_bytes()
                continue
            found = read_yaml(path)[0]
            top = key.partition(".")[0]
            assert parse_yaml(path.read_text(), path).keys() == found.keys(), override
            assert all(found[k] == v for k, v in values.items() if k != top), override

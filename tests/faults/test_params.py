"""Faults of params.yaml: the stage `check` names each by its line, and nothing that took time is touched.

Each case carries its number in the catalogue of docs/reliability.md.
"""

from __future__ import annotations

import resource
import time

import pytest
import torch

from tests.faults.project import Change, Fault, Project, assert_refused
from yourbert.config.params import read_params

pytestmark = pytest.mark.integration


def edit(old: str, new: str) -> Change:
    return lambda project: project.edit(old, new)


def whole(text: str) -> Change:
    """Another file in place of params.yaml."""
    return lambda project: project.params.write_text(text, newline="")


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(8)
)
LR, DROPOUT, BATCH, EPOCHS = "\nlr: 0.0001", "\ndropout: 0.1", "\nbatch_size: 16", "\nepochs: 3"

REFUSED = (
    Fault(
        "P01", edit(EPOCHS, "\nepoch: 3"), "P01", "unknown key 'epoch'.*did you mean 'epochs'", r"params.yaml:\d+:1:"
    ),
    Fault("P03", edit(LR, '\nlr: "1e-5"'), "P03", "'lr'.*remove the quotes"),
    *(
        Fault("P04", edit(LR, f"\nlr: {value}"), "P04", "'lr' is", r"params.yaml:\d+:1:")
        for value in ("-1", "0", ".nan", ".inf", "true", "2")
    ),
    Fault("P05", edit("      kind: similarity", "      kind: similarty"), "P05", "did you mean 'similarity'"),
    Fault("P05", edit("sampling: proportional", "sampling: proportinal"), "P05", "did you mean 'proportional'"),
    Fault("P05", edit("    - sts\n", "    - stss\n"), "P05", "no task 'stss'.*did you mean 'sts'"),
    *(Fault("P06", edit(DROPOUT, f"\ndropout: {value}"), "P04", "'dropout' is") for value in ("1.5", "-0.1", "1.0")),
    *(Fault("P07", edit(BATCH, f"\nbatch_size: {value}"), "P04", "'batch_size' is") for value in ("0", "-1", "2.5")),
    Fault("P07", edit(BATCH, '\nbatch_size: "8"'), "P03", "'batch_size'.*remove the quotes"),
    Fault("P08", edit("max_length: 128", "max_length: 2"), "P04", "max_length"),
    Fault("P09", edit(EPOCHS, "\nepochs: 0"), "P04", "'epochs' is"),
    Fault("P09", edit("\nwarmup_ratio: 0.1", "\nwarmup_ratio: 1.5"), "P04", "'warmup_ratio' is"),
    Fault("P10", edit(EPOCHS, "\nepochs: 3\nepochs: 4"), "P10", r"first defined on line \d+", r"params.yaml:\d+:1:"),
    Fault("P11", edit(LR, "\n\tlr: 0.0001"), "P11", "not valid YAML", r"params.yaml:\d+:\d+:"),
    Fault("P11", edit("\n  sst:", "\n sst:"), "P11", "not valid YAML", r"params.yaml:\d+:\d+:"),
    Fault("P11", whole(""), "P11", "expected `key: value` lines", "params.yaml:1:1:"),
    Fault("P11", whole("- lr\n- epochs\n"), "P11", "expected `key: value` lines", "params.yaml:1:1:"),
    *(
        Fault("P12", edit("\n- 11711", f"\n- {value}"), "P03", "'seeds.0' .* Fix: write a number")
        for value in ("no", "12:30:45", "1_0")
    ),
    Fault("P13", edit(LR, ""), "P13", "'lr' is missing"),
    Fault("P14", edit(LR, "\nlr: !!python/object/apply:os.system ['touch owned']"), "P14", "tag .* is not allowed"),
    Fault("P14", whole(BOMB), "P14", "aliases"),
    Fault("P15", edit("corpus: mine", "corpus: ../nowhere"), "P15", "'../nowhere' does not exist"),
    Fault(
        "P15", edit("train: ids-sst-train.csv", "train: ../../etc/passwd"), "P15", "does not name a file of the corpus"
    ),
    Fault("P15", edit("train: ids-sst-train.csv", "train: /etc/passwd"), "P15", "does not name a file of the corpus"),
    Fault("P15", edit("train: ids-sst-train.csv", "train: ~/sst.csv"), "P15", "does not name a file of the corpus"),
    Fault("P16", edit("sts: 20.0", "sts: -1"), "P04", "weights"),
    Fault("P16", edit("sts: 20.0", "sts: 0"), "P04", "weights"),
    Fault(
        "P16",
        edit("sts: 20.0", "cfimdb: 2"),
        "P05",
        "'cfimdb' is not one of the mixture's tasks",
    ),
    Fault(
        "P16",
        edit("    sst: all\n", "    sts: all\n"),
        "P05",
        "'sst' is frozen here, but 'quora-sts' has no trained head",
    ),
    Fault("P16", edit("    sst: all\n", "    sst: 0\n"), "P04", "'sequential.1.task_specific_layers.sst' is 0: "),
    Fault("P16", edit("    sst: all\n", "    '[x]': 0\n"), "P04", r"'sequential.1.task_specific_layers.\[x\]' is 0: "),
    Fault("P16", edit("    sst: all\n", "    sst: al\n"), "P05", "task_specific_layers.sst' is 'al', expected .* all"),
    Fault(
        "P16",
        edit(
            "\npretrain:\n",
            "\n- {name: next, init_from: shared, tasks: [sst], sampling: proportional, "
            "task_specific_layers: {sst: 1}}\n\npretrain:\n",
        ),
        "P05",
        "must be all for 'sst', as in 'shared'",
    ),
    Fault(
        "P16",
        edit("    sst: all\n  task_pooling:\n    quora: cls\n", "    sst: all\n"),
        "P05",
        "its pooling must be 'cls' as in 'quora-sts'",
    ),
    Fault(
        "P16", edit("    sst: all\n", "    sst: all\n  freeze_encoder: true\n"), "P05", "no effect with `freeze_encoder"
    ),
    Fault(
        "P16",
        edit("    task_pooling:\n      quora: cls\n", "    task_specific_layers:\n      sts: 1\n"),
        "P05",
        "only valid in a sequential model",
    ),
    Fault("P16", edit("quora: cls", "qora: cls"), "P05", "'qora' is not one of .* 'quora'"),
    Fault("P16", edit("quora: cls", "quora: max"), "P05", "'max', expected one of cls, mean"),
)


@pytest.mark.parametrize("fault", REFUSED, ids=lambda fault: fault.case)
def test_check_names_it_and_touches_nothing(project: Project, fault: Fault) -> None:
    fault.change(project)
    before = project.params.read_bytes()
    assert_refused(project, project.attempt("check"), fault)
    assert project.params.read_bytes() == before and not (project.folder / "owned").exists()


@pytest.mark.parametrize("spelling", ["1e-5", "1e-05", "1E-5", "0.00001"])
def test_p02_a_rate_is_a_number_however_it_is_spelled(project: Project, spelling: str) -> None:
    project.edit(LR, f"\nlr: {spelling}")
    assert project.attempt("check").code == 0
    assert read_params(project.params).lr == 1e-5


def test_p08_more_tokens_than_the_model_reads(project: Project) -> None:
    project.edit("max_length: 128", "max_length: 100000")
    project.with_base()
    fault = Fault("P08", lambda p: None, "P08", r"max_length is 100000; the model in .* reads at most \d+ tokens")
    assert_refused(project, project.attempt("tokenize", "sst"), fault)


def test_p12_an_octal_looking_seed_is_a_decimal_one(project: Project) -> None:
    project.edit("\n- 11711", "\n- 017")
    assert project.attempt("check").code == 0 and read_params(project.params).seeds == [17]


def test_p14_a_bomb_of_aliases_costs_nothing(project: Project) -> None:
    project.params.write_text(BOMB)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    assert project.attempt("check").code == 2
    assert time.monotonic() - start < 1, "nothing was unfolded: that would take hours"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")
def test_p17_a_gpu_that_is_not_there(project: Project) -> None:
    project.edit("\ndevice: auto", "\ndevice: cuda")
    fault = Fault("P17", lambda p: None, "P17", "no GPU|cuda")
    assert_refused(project, project.attempt("check"), fault)
